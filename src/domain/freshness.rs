//! How long an upstream says that its answer is good for (RFC 9111 §4.2).
//!
//! `http-cache-semantics` was weighed for this and does not fit: it takes an overlong `max-age` for 0 where RFC 9111 §1.2.2
//! says to saturate, reads only one of the three date forms, leaves `Date` out of the age, and overflows on a large `Age`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::cache_control::CacheControl;
use super::time::{delta_seconds, http_date};

/// What a response's headers say about freshness, before any policy of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stated {
    /// Seconds of `s-maxage` or `max-age`: a lifetime that a later 304 without Cache-Control leaves standing.
    pub max_age: Option<u32>,
    /// `Expires` minus `Date`, where no max-age takes precedence.
    pub expires_in: Option<Duration>,
    /// Age of the answer when it arrived.
    pub age: Duration,
}

impl Stated {
    /// Reads the headers of an answer that was requested and received at these times.
    ///
    /// `held_max_age` is the max-age stored with the snapshot: a 304 without Cache-Control leaves it standing
    /// (RFC 9111 §3.2). Pass `None` for a 200.
    #[must_use]
    pub fn by(
        headers: &HeaderMap,
        requested_at: DateTime<Utc>,
        answered_at: DateTime<Utc>,
        held_max_age: Option<u32>,
    ) -> Self {
        let control = CacheControl::of(headers);
        let max_age = if headers.contains_key(header::CACHE_CONTROL) { control.lifetime() } else { held_max_age };
        // RFC 9111 §5.3: max-age and s-maxage make Expires irrelevant. `private`, `no-cache` and `no-store` carry no
        // freshness, so an Expires beside them does not count either.
        let expires_in = match (max_age, control.forbids_reuse()) {
            (None, false) => expires_in(headers, answered_at),
            _ => None,
        };
        Self { max_age, expires_in, age: corrected_age(headers, requested_at, answered_at) }
    }

    /// How much longer than `answered_at` the answer stays fresh by the upstream's own word; zero when it says nothing.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.explicit().unwrap_or_default()
    }

    /// The same; `None` when it says nothing.
    #[must_use]
    pub fn explicit(&self) -> Option<Duration> {
        let lifetime = self.max_age.map(|seconds| Duration::from_secs(seconds.into())).or(self.expires_in)?;
        Some(lifetime.saturating_sub(self.age))
    }
}

/// How much longer than `answered_at` an answer that states no lifetime is likely to stay as it is: a tenth of the time for
/// which it was unchanged when it was sent (RFC 9111 §4.2.2), less its age. Zero without a Last-Modified. Each status that
/// brings content is one for which that may be guessed (RFC 9110 §15.1).
#[must_use]
pub fn guessed(
    last_modified: Option<&[u8]>,
    headers: &HeaderMap,
    answered_at: DateTime<Utc>,
    age: Duration,
) -> Duration {
    let modified = last_modified.and_then(|value| http_date(std::str::from_utf8(value).ok()?));
    let date = date_of(headers, header::DATE).unwrap_or(answered_at);
    let unchanged = modified.and_then(|modified| (date - modified).to_std().ok()).unwrap_or_default();
    (unchanged / 10).saturating_sub(age)
}

/// RFC 9111 §5.3 and §4.2.1: Expires minus Date; a value that is no date, above all `0`, is already expired.
fn expires_in(headers: &HeaderMap, answered_at: DateTime<Utc>) -> Option<Duration> {
    let expires = headers.get(header::EXPIRES)?;
    let date = date_of(headers, header::DATE).unwrap_or(answered_at);
    let lifetime = expires.to_str().ok().and_then(http_date).map(|expires| expires - date);
    Some(lifetime.and_then(|lifetime| lifetime.to_std().ok()).unwrap_or_default())
}

/// RFC 9111 §4.2.3: the larger of what Date shows and what Age says plus the time that the exchange took.
fn corrected_age(headers: &HeaderMap, requested_at: DateTime<Utc>, answered_at: DateTime<Utc>) -> Duration {
    let since = |start: DateTime<Utc>| (answered_at - start).to_std().unwrap_or_default();
    let apparent = date_of(headers, header::DATE).map(since).unwrap_or_default();
    // §5.1: the first member of what should be no list; what is invalid is ignored.
    let first = |age: &HeaderValue| delta_seconds(age.to_str().ok()?.split(',').next()?);
    let said = headers.get(header::AGE).and_then(first).unwrap_or_default();
    apparent.max(said.saturating_add(since(requested_at)))
}

fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<DateTime<Utc>> {
    http_date(headers.get(name)?.to_str().ok()?)
}

#[cfg(test)]
mod tests;
