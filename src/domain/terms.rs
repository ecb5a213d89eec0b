//! The terms on which a copy may be answered under `cache_control = "respect"` (RFC 9111 §4).

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use super::cache_control::CacheControl;

/// What the upstream says about answering with a copy. Together with the moment at which it becomes stale, that is all that a
/// reader's answer depends on; spans are seconds from that moment on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Terms {
    /// How far it may be answered without asking the upstream first.
    pub reuse: Reuse,
    /// For how long it may be answered when it is stale, since it is being asked for again (RFC 5861 §3).
    pub stale_while_revalidate: u32,
    /// For how long it may be answered when it is stale, if asking ended in an error (RFC 5861 §4).
    pub stale_if_error: u32,
    /// Whether the upstream stated its lifetime by Expires: a 304 without one leaves that date standing.
    pub by_expires: bool,
}

/// How far a copy may be answered without asking the upstream first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// While it is fresh, and when it is stale within what the other terms and the reader allow.
    #[default]
    Allowed,
    /// While it is fresh, and never when it is stale (`must-revalidate`, `proxy-revalidate`, `s-maxage`).
    WhileFresh,
    /// Never (`no-cache`, `Vary: *`).
    Never,
}

impl Terms {
    /// As they are stored: a JSON object.
    #[must_use]
    pub fn json(self) -> String {
        // Numbers, names and flags can always be written.
        serde_json::to_string(&self).unwrap_or_default()
    }

    /// The terms after an answer with these fields. `held` are those of the stored copy that a 304 is about: what it does
    /// not supply stands (RFC 9111 §3.2). Pass `None` for an answer with content.
    #[must_use]
    pub fn of(headers: &HeaderMap, held: Option<Self>) -> Self {
        let held = held.unwrap_or_default();
        let by_expires = headers.contains_key(header::EXPIRES) || held.by_expires;
        // §4.1: a Vary of `*` fits no other request.
        let fits_none = headers.get_all(header::VARY).iter().any(|value| value.as_bytes().contains(&b'*'));
        if fits_none {
            return Self { reuse: Reuse::Never, by_expires, ..Self::default() };
        }
        if !headers.contains_key(header::CACHE_CONTROL) {
            return Self { by_expires, ..held };
        }
        let control = CacheControl::of(headers);
        let reuse = match (control.no_cache(), control.forbids_stale()) {
            (true, _) => Reuse::Never,
            (false, true) => Reuse::WhileFresh,
            (false, false) => Reuse::Allowed,
        };
        Self {
            reuse,
            stale_while_revalidate: control.stale_while_revalidate(),
            stale_if_error: control.stale_if_error(),
            by_expires,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn terms(lines: &[(&'static str, &'static str)], held: Option<Terms>) -> Terms {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Terms::of(&lines.iter().map(line).collect(), held)
    }

    const WINDOWS: (&str, &str) = ("cache-control", "max-age=60, stale-while-revalidate=30, stale-if-error=600");

    #[test]
    fn what_forbids_reuse_counts_before_what_allows_it() {
        for (lines, reuse) in [
            (&[][..], Reuse::Allowed),
            (&[WINDOWS], Reuse::Allowed),
            (&[("cache-control", "max-age=60, must-revalidate, stale-if-error=600")], Reuse::WhileFresh),
            (&[("cache-control", "s-maxage=60, stale-while-revalidate=600")], Reuse::WhileFresh),
            (&[("cache-control", "no-cache, must-revalidate")], Reuse::Never),
            (&[WINDOWS, ("vary", "accept, *")], Reuse::Never),
            (&[WINDOWS, ("vary", "accept")], Reuse::Allowed),
        ] {
            assert_eq!(terms(lines, None).reuse, reuse, "{lines:?}");
        }
    }

    #[test]
    fn a_304_replaces_the_terms_that_it_supplies_and_leaves_the_others() {
        let held = terms(&[WINDOWS, ("expires", "Sun, 01 Mar 2026 13:00:00 GMT")], None);
        assert_eq!((held.stale_while_revalidate, held.stale_if_error, held.by_expires), (30, 600, true));
        assert_eq!(terms(&[], Some(held)), held);
        let replaced = terms(&[("cache-control", "max-age=60")], Some(held));
        assert_eq!(replaced, Terms { by_expires: true, ..Terms::default() });
    }
}
