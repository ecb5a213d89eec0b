//! Is this body fit to replace the last good one, and does it differ from it?

use bytes::Bytes;
use http::{HeaderMap, header};
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::queryable::Queryable;

use super::failure::{Failure, FailureKind};
use super::snapshot::{ContentHash, Snapshot, kept};

/// A JSONPath (RFC 9535) that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(String);

impl JsonPath {
    /// Checks and wraps a path.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(path: impl Into<String>) -> Result<Self, String> {
        let path = path.into();
        match parse_json_path(&path) {
            Ok(_) => Ok(Self(path)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes a snapshot of a 200, or says why the body can't be the resource's content.
///
/// An empty body is refused, and so is one that calls itself JSON and isn't: both are what broken upstreams send.
///
/// # Errors
/// The failure, of kind [`FailureKind::Empty`] or [`FailureKind::Unparsable`].
pub fn inspect(headers: &HeaderMap, body: Bytes, ignore: &[JsonPath]) -> Result<Snapshot, Failure> {
    let refuse = |kind, detail| Err(Failure { kind, status: Some(200), detail });
    if body.is_empty() {
        return refuse(FailureKind::Empty, "the upstream answered 200 with an empty body".into());
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let etag = ContentHash::of(&[content_type, &body]);
    let content_hash = if is_json(content_type) || !ignore.is_empty() {
        match significant_part(&body, ignore) {
            Ok(Some(part)) => ContentHash::of(&[content_type, &part]),
            Ok(None) => etag,
            Err(error) => return refuse(FailureKind::Unparsable, format!("the body is not JSON: {error}")),
        }
    } else {
        etag
    };
    Ok(Snapshot { body, headers: kept(headers), etag, content_hash })
}

/// Checks that the body is JSON and leaves out what the paths name; `None` when nothing is to be left out.
fn significant_part(body: &[u8], ignore: &[JsonPath]) -> serde_json::Result<Option<Vec<u8>>> {
    let text = std::str::from_utf8(body).map_err(serde::de::Error::custom)?;
    if ignore.is_empty() {
        serde_json::from_str::<serde::de::IgnoredAny>(text)?;
        return Ok(None);
    }
    // Numbers keep their digits (serde_json's `arbitrary_precision`), so two large ids never look the same.
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    for path in ignore {
        // A path that is valid but doesn't fit this document names nothing in it.
        _ = value.delete_by_path(path.as_str());
    }
    serde_json::to_vec(&value).map(Some)
}

/// Whether a Content-Type says JSON: `application/json`, `application/problem+json`, `text/json; charset=utf-8`, …
#[must_use]
pub fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence.ends_with(b"/json") || essence.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap())])
    }

    fn hash(body: &'static str, ignore: &[&str]) -> ContentHash {
        let ignore: Vec<_> = ignore.iter().map(|path| JsonPath::new(*path).unwrap()).collect();
        inspect(&json(), Bytes::from_static(body.as_bytes()), &ignore).unwrap().content_hash
    }

    #[test]
    fn ignored_paths_do_not_make_a_difference() {
        let ignore = ["$.meta.updated_at", "$.items[*].seen"];
        let base = hash(r#"{"a":1,"meta":{"updated_at":1},"items":[{"seen":1,"x":1}]}"#, &ignore);
        assert_eq!(base, hash(r#"{"a":1,"meta":{"updated_at":2},"items":[{"seen":9,"x":1}]}"#, &ignore));
        assert_eq!(
            base,
            hash(r#"{"a":1,"meta":{},"items":[{"x":1}]}"#, &ignore),
            "absent or present makes none either"
        );
        assert_ne!(base, hash(r#"{"a":2,"meta":{"updated_at":1},"items":[{"seen":1,"x":1}]}"#, &ignore));
    }

    #[test]
    fn numbers_differ_to_the_last_digit() {
        let ignore = ["$.at"];
        assert_ne!(hash(r#"{"id":123456789012345678901}"#, &ignore), hash(r#"{"id":123456789012345678902}"#, &ignore));
    }

    #[test]
    fn bodies_that_can_not_be_content_are_refused() {
        for (body, kind) in [
            (&b""[..], FailureKind::Empty),
            (b"{\"a\":", FailureKind::Unparsable),
            (b"<html>maintenance</html>", FailureKind::Unparsable),
            (b"{\"a\":\"\xff\xfe\"}", FailureKind::Unparsable),
            (b"{} trailing", FailureKind::Unparsable),
        ] {
            let refused = inspect(&json(), Bytes::from_static(body), &[]).unwrap_err();
            assert_eq!(refused.kind, kind, "{body:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(inspect(&json(), deep.into(), &[]).unwrap_err().kind, FailureKind::Unparsable);
    }

    #[test]
    fn what_does_not_call_itself_json_is_kept_as_it_is() {
        let body = Bytes::from_static(b"caf\xe9");
        assert_eq!(inspect(&HeaderMap::new(), body.clone(), &[]).unwrap().body, body);
    }

    #[test]
    fn the_etag_covers_the_content_type() {
        let text = HeaderMap::from_iter([(header::CONTENT_TYPE, "text/plain".parse().unwrap())]);
        let body = Bytes::from_static(b"1");
        assert_ne!(inspect(&json(), body.clone(), &[]).unwrap().etag, inspect(&text, body, &[]).unwrap().etag);
    }
}
