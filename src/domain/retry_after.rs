//! `Retry-After` (RFC 9110 §10.2.3), in both of its forms.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, header};

use super::time::{delta_seconds, http_date};

/// When the upstream asks to be left alone until, at most `cap` after `answered_at`.
///
/// `None` when there is no such field or it makes no sense (negative, not a number, not a date). A date in the past asks
/// for nothing. Of repeated fields the longest wait counts, being the one that satisfies them all.
#[must_use]
pub fn retry_after(headers: &HeaderMap, answered_at: DateTime<Utc>, cap: Duration) -> Option<DateTime<Utc>> {
    let latest = answered_at.checked_add_signed(TimeDelta::from_std(cap).ok()?)?;
    headers
        .get_all(header::RETRY_AFTER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|value| match delta_seconds(value) {
            Some(wait) => Some(
                TimeDelta::from_std(wait).ok().and_then(|wait| answered_at.checked_add_signed(wait)).unwrap_or(latest),
            ),
            None => http_date(value),
        })
        .max()
        .filter(|at| *at > answered_at)
        .map(|at| at.min(latest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn both_forms_are_understood_and_nonsense_is_not() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let hour = Duration::from_secs(3600);
        let after = |seconds| Some(now + TimeDelta::seconds(seconds));
        let date = |seconds| httpdate::fmt_http_date((now + TimeDelta::seconds(seconds)).into());
        for (values, expected) in [
            (vec![], None),
            (vec!["120".into()], after(120)),
            (vec![" 120 ".into()], after(120)),
            (vec![date(90)], after(90)),
            (vec!["-5".into()], None),
            (vec!["soon".into()], None),
            (vec!["1.5".into()], None),
            (vec!["Thu, 01 Jan 1970 00:00:00 GMT".into()], None),
            (vec!["0".into()], None),
            (vec!["99999999999999999999999999".into()], after(3600)),
            (vec![date(864_000)], after(3600)),
            (vec!["10".into(), "20".into()], after(20)),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(retry_after(&headers, now, hour), expected, "{values:?}");
        }
    }
}
