//! What an upstream gave us to ask "has it changed?" with (RFC 9110 §8.8), kept byte for byte.

use bytes::Bytes;
use http::{HeaderMap, header};

/// The upstream's `ETag` and `Last-Modified` exactly as they were sent: an ETag without quotes or with bytes that aren't
/// text is echoed as it came, because it's the upstream that compares it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// The bytes of the `ETag` field.
    pub etag: Option<Bytes>,
    /// The bytes of the `Last-Modified` field.
    pub last_modified: Option<Bytes>,
}

impl Validators {
    /// Takes the validators out of a response's headers. Empty fields count as absent.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let take = |name| {
            headers
                .get(name)
                .map(|value: &http::HeaderValue| Bytes::copy_from_slice(value.as_bytes()))
                .filter(|bytes| !bytes.is_empty())
        };
        Self { etag: take(header::ETAG), last_modified: take(header::LAST_MODIFIED) }
    }

    /// Whether there is nothing to make a request conditional with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// What stands after a 304 with these validators: what it supplies replaces what was stored (RFC 9111 §3.2).
    #[must_use]
    pub fn updated_by(&self, supplied: &Self) -> Self {
        Self {
            etag: supplied.etag.clone().or_else(|| self.etag.clone()),
            last_modified: supplied.last_modified.clone().or_else(|| self.last_modified.clone()),
        }
    }

    /// Whether a 304 that carries `supplied` can be about the response that we hold. A strong ETag that we don't hold
    /// names another response (RFC 9111 §4.3.4). Weak ones, which proxies make of strong ones when they compress, and
    /// absent ones are taken at the upstream's word: it answered to our own validators.
    #[must_use]
    pub fn recognise(&self, supplied: &Self) -> bool {
        match &supplied.etag {
            Some(etag) if !is_weak(etag) => self.etag.as_deref().is_some_and(|held| opaque(held) == opaque(etag)),
            _ => true,
        }
    }
}

fn is_weak(etag: &[u8]) -> bool {
    etag.starts_with(b"W/")
}

/// The part that weak comparison looks at (RFC 9110 §8.8.3.2).
fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etag(value: &'static str) -> Validators {
        Validators { etag: Some(Bytes::from_static(value.as_bytes())), last_modified: None }
    }

    #[test]
    fn a_304_is_recognised_unless_it_names_a_strong_etag_that_we_do_not_hold() {
        for (held, supplied, recognised) in [
            (etag("\"a\""), etag("\"a\""), true),
            (etag("\"a\""), etag("\"b\""), false),
            (etag("W/\"a\""), etag("\"a\""), true),
            (etag("\"a\""), etag("W/\"a\""), true),
            (etag("\"a\""), etag("W/\"b\""), true),
            (etag("\"a\""), Validators::default(), true),
            (Validators::default(), etag("\"a\""), false),
            (etag("unquoted"), etag("unquoted"), true),
        ] {
            assert_eq!(held.recognise(&supplied), recognised, "{held:?} {supplied:?}");
        }
    }

    #[test]
    fn validators_are_kept_as_the_bytes_that_were_sent() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, http::HeaderValue::from_bytes(b"no-quotes-\xff").unwrap());
        assert_eq!(Validators::of(&headers).etag.as_deref(), Some(&b"no-quotes-\xff"[..]));
    }
}
