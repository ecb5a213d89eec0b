//! What a response says about the copy that it carries: how old it is, and how long it is good for.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::reading::Way;
use crate::domain::decision::Freshness;
use crate::domain::failure::Failing;
use crate::domain::read_state::ReadState;
use crate::domain::snapshot::ContentHash;
use crate::domain::time::{DELTA_SECONDS_MAX, http_date};

/// How the request was answered by this cache (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// When the upstream last said that this is its content.
pub const FETCHED_AT: HeaderName = HeaderName::from_static("headpond-fetched-at");
/// From when on the copy is stale.
pub const STALE_AFTER: HeaderName = HeaderName::from_static("headpond-stale-after");
/// `fresh`, `stale`, `pending` or `gone`.
pub const STATE: HeaderName = HeaderName::from_static("headpond-state");
/// The number of the content: one more with each difference.
pub const VERSION: HeaderName = HeaderName::from_static("headpond-version");
/// The kind of the last failure; only there while refreshes fail.
pub const LAST_FAILURE: HeaderName = HeaderName::from_static("headpond-last-failure");

/// What every answer about a known resource says of it, content or not.
#[must_use]
pub fn state_fields(state: ReadState, version: u64, failing: Option<&Failing>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(STATE, HeaderValue::from_static(state.as_str()));
    fields.insert(VERSION, HeaderValue::from(version));
    if let Some(failing) = failing {
        fields.insert(LAST_FAILURE, HeaderValue::from_static(failing.last.kind.as_str()));
    }
    fields
}

/// What an answer with content, or a 304 that stands for it, says about its age and freshness at `now`.
#[must_use]
pub fn freshness_fields(freshness: Freshness, now: DateTime<Utc>) -> HeaderMap {
    let Freshness { fetched_at, stale_after } = freshness;
    // Only a max-age. Neither `public` nor `private`: whether this content may be shared is not ours to say. As it is, a
    // shared cache keeps the answer to an anonymous request, and none to a request with Authorization (RFC 9111 §3.5).
    // Nor `must-revalidate` or a stale-* window: a cache behind us may do as it is configured once max-age has passed.
    let max_age = (stale_after - fetched_at).num_seconds().clamp(0, DELTA_SECONDS_MAX.into());
    let age = (now - fetched_at).num_seconds().clamp(0, DELTA_SECONDS_MAX.into());
    let mut fields = HeaderMap::new();
    fields.insert(header::AGE, HeaderValue::from(age));
    fields.insert(header::CACHE_CONTROL, text(format!("max-age={max_age}")));
    fields.insert(CACHE_STATUS, text(format!("headpond;hit;ttl={}", ttl(stale_after - now))));
    fields.extend(time_fields(freshness));
    fields
}

/// When a copy was fetched, and how long it is fresh.
#[must_use]
pub fn time_fields(freshness: Freshness) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(FETCHED_AT, text(timestamp(freshness.fetched_at)));
    fields.insert(STALE_AFTER, text(timestamp(freshness.stale_after)));
    fields
}

/// The Cache-Status of an answer that is no hit, because a request to the upstream was waited for (RFC 9211 §2.2): why, with
/// which status it was answered (§2.3), whether what came was stored (§2.5), and whether other readers share that request
/// (§2.6). `None` for an answer from the store.
#[must_use]
pub fn cache_status(way: Way, freshness: Option<Freshness>, now: DateTime<Utc>) -> Option<HeaderValue> {
    let Way::Fetched { lack, is_shared, status, is_stored, .. } = way else { return None };
    let because = format!("headpond;fwd={}", lack.as_str());
    let status = status.map(|status| format!("fwd-status={status}"));
    let stored = is_stored.then(|| "stored".to_owned());
    let collapsed = is_shared.then(|| "collapsed".to_owned());
    let ttl = freshness.map(|freshness| format!("ttl={}", ttl(freshness.stale_after - now)));
    let value = [Some(because), status, stored, collapsed, ttl].into_iter().flatten().collect::<Vec<_>>().join(";");
    Some(text(value))
}

/// The remaining freshness lifetime in seconds, negative when the copy is stale (RFC 9211 §2.4). All of Cache-Status is
/// written by the rules of RFC 9651 §4.1: no space after `;`.
fn ttl(remaining: TimeDelta) -> i64 {
    // Rounded down, so that what has been stale for less than a second isn't called fresh. RFC 9651 §3.3.1 bounds integers.
    remaining.num_milliseconds().div_euclid(1000).clamp(-999_999_999_999_999, 999_999_999_999_999)
}

/// The strong entity-tag of a content (RFC 9110 §8.8.3).
#[must_use]
pub fn entity_tag(etag: ContentHash) -> HeaderValue {
    text(format!("\"{etag}\""))
}

/// When the content last changed: the upstream's word if it is a date, else when we first saw the content; never later
/// than `now` (RFC 9110 §8.8.2.1).
#[must_use]
pub fn last_modified(upstream: Option<&[u8]>, changed_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    let stated = upstream.and_then(|value| http_date(std::str::from_utf8(value).ok()?));
    stated.unwrap_or(changed_at).min(now)
}

/// A time as an HTTP date, in the one form that senders may use (RFC 9110 §5.6.7).
#[must_use]
pub fn http_date_value(at: DateTime<Utc>) -> HeaderValue {
    // `httpdate` can't write years before 1970.
    text(httpdate::fmt_http_date(at.max(DateTime::UNIX_EPOCH).into()))
}

/// A time as RFC 3339 writes it, in UTC; the same as in JSON bodies.
#[must_use]
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Whole seconds from `now` to `at`, rounded up, for Retry-After: at least 1 and at most `most`; `most` when there is no
/// such time.
#[must_use]
pub fn seconds_until(at: Option<DateTime<Utc>>, now: DateTime<Utc>, most: u64) -> u64 {
    let wait = at.map(|at| (at - now).to_std().unwrap_or_default().as_millis().div_ceil(1000));
    wait.and_then(|wait| u64::try_from(wait).ok()).unwrap_or(most).clamp(1, most)
}

/// A header value of text that we wrote ourselves, so always a valid one.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::{Failure, FailureKind};

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(784_887_151_000 + milliseconds).unwrap()
    }

    fn fields(fetched_at: i64, stale_after: i64, now: i64) -> HeaderMap {
        freshness_fields(Freshness { fetched_at: at(fetched_at), stale_after: at(stale_after) }, at(now))
    }

    #[test]
    fn age_lifetime_and_ttl_are_whole_seconds() {
        let endless = 400_000_000_000_000;
        for (fetched_at, stale_after, now, age, max_age, ttl) in [
            (0, 60_000, 0, "0", "max-age=60", "headpond;hit;ttl=60"),
            (0, 60_000, 1_999, "1", "max-age=60", "headpond;hit;ttl=58"),
            (0, 60_900, 60_000, "60", "max-age=60", "headpond;hit;ttl=0"),
            (0, 60_000, 60_000, "60", "max-age=60", "headpond;hit;ttl=0"),
            (0, 60_000, 60_001, "60", "max-age=60", "headpond;hit;ttl=-1"),
            (0, 60_000, 3_660_000, "3660", "max-age=60", "headpond;hit;ttl=-3600"),
            // Fetched by a node whose clock is ahead: an Age is never negative.
            (5_000, 60_000, 0, "0", "max-age=55", "headpond;hit;ttl=60"),
            // `stale_after` before `fetched_at` makes no sense, and still no invalid header.
            (10_000, 0, 10_000, "0", "max-age=0", "headpond;hit;ttl=-10"),
            (0, endless, endless, "2147483648", "max-age=2147483648", "headpond;hit;ttl=0"),
        ] {
            let fields = fields(fetched_at, stale_after, now);
            assert_eq!(fields[header::AGE], age, "{now}");
            assert_eq!(fields[header::CACHE_CONTROL], max_age, "{now}");
            assert_eq!(fields[CACHE_STATUS], ttl, "{now}");
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let fields = fields(0, 250, 0);
        assert_eq!(fields[FETCHED_AT], "1994-11-15T08:12:31Z");
        assert_eq!(fields[STALE_AFTER], "1994-11-15T08:12:31.250Z");
    }

    #[test]
    fn the_failure_is_named_while_there_is_one() {
        let failing = Failing {
            last: Failure { kind: FailureKind::Connect, status: None, detail: "refused".into() },
            at: at(0),
            since: at(0),
            count: 3,
        };
        let fields = state_fields(ReadState::Stale, 7, Some(&failing));
        assert_eq!(fields[STATE], "stale");
        assert_eq!(fields[VERSION], "7");
        assert_eq!(fields[LAST_FAILURE], "connect");
        assert!(!state_fields(ReadState::Fresh, 7, None).contains_key(LAST_FAILURE));
    }

    #[test]
    fn last_modified_is_the_upstreams_word_if_it_can_be_true() {
        let (changed_at, now) = (at(1_000), at(5_000));
        for (upstream, expected) in [
            (Some(&b"Tue, 15 Nov 1994 08:12:31 GMT"[..]), at(0)),
            (Some(b"Tuesday, 15-Nov-94 08:12:31 GMT"), at(0)),
            (Some(b"Sun, 06 Nov 2044 08:49:37 GMT"), now),
            (Some(b"yesterday"), changed_at),
            (Some(b"\xff"), changed_at),
            (Some(b""), changed_at),
            (None, changed_at),
        ] {
            assert_eq!(last_modified(upstream, changed_at, now), expected, "{upstream:?}");
        }
        assert_eq!(last_modified(None, now + TimeDelta::seconds(1), now), now, "another node's clock may be ahead");
        assert_eq!(http_date_value(at(700)), "Tue, 15 Nov 1994 08:12:31 GMT");
        assert_eq!(http_date_value(DateTime::UNIX_EPOCH - TimeDelta::days(1)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn retry_after_is_between_a_second_and_the_most() {
        for (due, expected) in [
            (Some(-5_000), 1),
            (Some(0), 1),
            (Some(1), 1),
            (Some(1_001), 2),
            (Some(60_000), 60),
            (Some(60_001), 60),
            (None, 60),
        ] {
            assert_eq!(seconds_until(due.map(at), at(0), 60), expected, "{due:?}");
        }
    }
}
