//! Times: arithmetic that ends where databases and RFC 3339 do, and how HTTP writes times and spans.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The year 9999: the last that RFC 3339 can write.
pub const FAR_FUTURE: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).expect("in range");

/// RFC 9111 §1.2.2: what can't be represented is the greatest value; 2³¹ seconds is the least that this may be.
pub const DELTA_SECONDS_MAX: u32 = 1 << 31;

/// `at + span`, or the end of time as far as the database can say it.
#[must_use]
pub fn later(at: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(span).ok().and_then(|span| at.checked_add_signed(span)).unwrap_or(FAR_FUTURE)
}

/// `at - span`, or the Unix epoch, before which nothing that we keep has happened.
#[must_use]
pub fn earlier(at: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(span).ok().and_then(|span| at.checked_sub_signed(span)).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Any of the three forms of an HTTP date (RFC 9110 §5.6.7).
#[must_use]
pub fn http_date(value: &str) -> Option<DateTime<Utc>> {
    httpdate::parse_http_date(value.trim()).ok().map(DateTime::from)
}

/// RFC 9111 §1.2.2: digits alone; what is too large saturates.
#[must_use]
pub fn delta_seconds(value: &str) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let most = u64::from(DELTA_SECONDS_MAX);
    Some(Duration::from_secs(value.parse().unwrap_or(most).min(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_overflow() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert_eq!(later(now, Duration::MAX), FAR_FUTURE);
        assert_eq!(later(DateTime::<Utc>::MAX_UTC, Duration::from_secs(1)), FAR_FUTURE);
        assert_eq!(earlier(now, Duration::MAX), DateTime::UNIX_EPOCH);
        assert_eq!(earlier(DateTime::<Utc>::MIN_UTC, Duration::from_secs(1)), DateTime::UNIX_EPOCH);
        assert_eq!(earlier(later(now, Duration::from_secs(1)), Duration::from_secs(1)), now);
    }
}
