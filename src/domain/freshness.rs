//! How long an upstream says that its answer is good for (RFC 9111 §4.2).
//!
//! `http-cache-semantics` was weighed for this and does not fit: it takes an overlong `max-age` for 0 where RFC 9111 §1.2.2
//! says to saturate, reads only one of the three date forms, leaves `Date` out of the age, and overflows on a large `Age`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, header};

use super::directive::directives;
use super::time::{delta_seconds, http_date};

/// What a response's headers say about freshness, before any policy of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        let directives = Directives::of(headers);
        let max_age = if headers.contains_key(header::CACHE_CONTROL) { directives.max_age() } else { held_max_age };
        // RFC 9111 §5.3: max-age and s-maxage make Expires irrelevant. `private`, `no-cache` and `no-store` carry no
        // freshness, so an Expires beside them does not count either.
        let expires_in = match (max_age, directives.forbids_reuse) {
            (None, false) => expires_in(headers, answered_at),
            _ => None,
        };
        Self { max_age, expires_in, age: corrected_age(headers, requested_at, answered_at) }
    }

    /// How much longer than `answered_at` the answer stays fresh by the upstream's own word; zero when it says nothing.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let lifetime = match self.max_age {
            Some(seconds) => Duration::from_secs(seconds.into()),
            None => self.expires_in.unwrap_or_default(),
        };
        lifetime.saturating_sub(self.age)
    }
}

/// The directives of Cache-Control that matter to a schedule.
#[derive(Debug, Default, PartialEq, Eq)]
struct Directives {
    s_maxage: Option<Duration>,
    max_age: Option<Duration>,
    forbids_reuse: bool,
}

impl Directives {
    /// Reads every Cache-Control field; of a directive given twice the first counts (RFC 9111 §4.2.1), and one that is
    /// no number counts as expired.
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in values.flat_map(directives) {
            let seconds = directive.seconds().unwrap_or_default();
            match directive.name.to_ascii_lowercase().as_str() {
                "s-maxage" => _ = found.s_maxage.get_or_insert(seconds),
                "max-age" => _ = found.max_age.get_or_insert(seconds),
                // With an argument, `no-cache` and `private` speak of single fields (RFC 9111 §5.2.2.4, §5.2.2.7).
                "no-store" => found.forbids_reuse = true,
                "no-cache" | "private" if directive.argument.unwrap_or_default().is_empty() => {
                    found.forbids_reuse = true;
                }
                _ => {}
            }
        }
        found
    }

    /// RFC 9111 §4.2.1: s-maxage before max-age; and none where the answer must not be reused.
    fn max_age(&self) -> Option<u32> {
        if self.forbids_reuse {
            return None;
        }
        let lifetime = self.s_maxage.or(self.max_age)?;
        Some(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX))
    }
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
    let said = headers.get(header::AGE).and_then(|age| delta_seconds(age.to_str().ok()?)).unwrap_or_default();
    apparent.max(said.saturating_add(since(requested_at)))
}

fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<DateTime<Utc>> {
    http_date(headers.get(name)?.to_str().ok()?)
}

#[cfg(test)]
mod tests;
