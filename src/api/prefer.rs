//! The preferences (RFC 7240) that we know: `wait`, for how long the client would rather wait than be answered with what there
//! is, and `count=exact`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::directive::{Directive, split_outside_quotes};

/// What the client would prefer.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What of that was done.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The seconds of `Prefer: wait=N`. Of several the first counts; one that makes no sense is as good as none (§2).
#[must_use]
pub fn wait(request: &HeaderMap) -> Option<Duration> {
    let lines = request.get_all(PREFER).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    for line in lines {
        for preference in split_outside_quotes(&line, ',') {
            // Parameters follow the preference; `wait` has none.
            let preference = split_outside_quotes(preference, ';').next().map(Directive::of);
            if let Some(wait) = preference.filter(|preference| preference.is("wait")) {
                return wait.seconds();
            }
        }
    }
    None
}

/// Whether the client would like to know how many there are in all: `count=exact`, as PostgREST has it.
#[must_use]
pub fn counts(request: &HeaderMap) -> bool {
    let lines = request.get_all(PREFER).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    lines
        .into_iter()
        .any(|line| split_outside_quotes(&line, ',').any(|one| one.trim().eq_ignore_ascii_case("count=exact")))
}

/// The field that tells how long was waited at the most.
#[must_use]
pub fn applied(wait: Duration) -> (HeaderName, HeaderValue) {
    // Digits are always a valid value.
    let value = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
    (PREFERENCE_APPLIED, value.unwrap_or_else(|_| HeaderValue::from_static("wait")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_counts_if_it_makes_sense() {
        for (lines, expected) in [
            (&[&b"wait=5"[..]][..], Some(5)),
            (&[b"Wait = \"5\""], Some(5)),
            (&[b"respond-async, wait=5"], Some(5)),
            (&[b"wait=5; x=\"a, b\", wait=6"], Some(5)),
            (&[b"handling=lenient; x=\",wait=9\"; y", b"wait=5", b"wait=6"], Some(5)),
            (&[b"wait=0"], Some(0)),
            (&[b"wait=99999999999999999999999"], Some(1 << 31)),
            (&[b"x=\"\xff\", wait=5"], Some(5)),
            (&[b"wait=soon, wait=5"], None),
            (&[b"wait"], None),
            (&[b"wait="], None),
            (&[b"wait=\"\""], None),
            (&[b"wait=-1"], None),
            (&[b"wait=1.5"], None),
            (&[b"wait=\xff"], None),
            (&[b"waiting=5"], None),
            (&[b""], None),
            (&[], None),
        ] {
            let request: HeaderMap =
                lines.iter().map(|line| (PREFER, HeaderValue::from_bytes(line).unwrap())).collect();
            assert_eq!(wait(&request), expected.map(Duration::from_secs), "{lines:?}");
        }
    }
}
