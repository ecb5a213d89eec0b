//! How much may be asked of an upstream: a token bucket and a number of requests at the same time.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::time::later;

/// How long after it was granted a token may still be used. A request that could not be sent by then takes another token.
///
/// What is granted evenly can arrive bunched when some of it is sent late. Since nothing is sent later than this, and the
/// bucket is kept smaller by what this allows ([`Limits::capacity`], [`Limits::refill_per_second`]), no second at the
/// upstream sees more than limit + burst requests.
pub const SEND_WINDOW: Duration = Duration::from_millis(100);

/// The limits of one upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests per second on average; `None` is no limit.
    pub requests_per_second: Option<f64>,
    /// How many requests more than the average may come at once; at least 1.
    pub burst: u32,
    /// How many requests may be under way at once; at least 1.
    pub max_concurrent: u32,
}

impl Limits {
    /// The most tokens that can wait in the bucket: the burst less what [`SEND_WINDOW`] can add to a second.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        let rate = self.requests_per_second.unwrap_or_default();
        (f64::from(self.burst) - rate * SEND_WINDOW.as_secs_f64()).max(1.0)
    }

    /// Tokens added each second: the limit, or a little less where the burst is too small to make up for [`SEND_WINDOW`].
    #[must_use]
    pub fn refill_per_second(&self) -> f64 {
        let rate = self.requests_per_second.unwrap_or_default();
        rate.min((rate + f64::from(self.burst) - self.capacity()) / (1.0 + SEND_WINDOW.as_secs_f64()))
    }
}

/// The state of an upstream's token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Tokens at that time.
    pub tokens: f64,
    /// That time.
    pub at: DateTime<Utc>,
}

/// What was taken from a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grant {
    /// How many requests may be sent.
    pub granted: u32,
    /// The bucket after it.
    pub bucket: Bucket,
    /// When the next token will be there, if fewer were granted than wanted.
    pub next_at: Option<DateTime<Utc>>,
}

impl Bucket {
    /// Takes up to `wanted` tokens at `now`. A clock that went back adds nothing.
    #[must_use]
    pub fn take(self, limits: &Limits, now: DateTime<Utc>, wanted: u32) -> Grant {
        if limits.requests_per_second.is_none() {
            return Grant { granted: wanted, bucket: Self { at: now, ..self }, next_at: None };
        }
        let refill = limits.refill_per_second();
        let passed = (now - self.at).to_std().unwrap_or_default();
        let tokens = (self.tokens + passed.as_secs_f64() * refill).min(limits.capacity());
        // A hair's breadth for rounding: a wait that was computed from these numbers must be long enough.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0; saturates")]
        let granted = ((tokens + 1e-6).floor().max(0.0) as u32).min(wanted);
        let left = (tokens - f64::from(granted)).max(0.0);
        let wait = Duration::try_from_secs_f64((1.0 - left) / refill).unwrap_or(Duration::MAX);
        let at = now.max(self.at);
        Grant {
            granted,
            bucket: Self { tokens: left, at },
            next_at: (granted < wanted).then(|| later(at, wait.saturating_add(Duration::from_micros(1)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(rate: f64, burst: u32) -> Limits {
        Limits { requests_per_second: Some(rate), burst, max_concurrent: 1 }
    }

    #[test]
    fn a_wait_for_the_next_token_is_long_enough_and_not_longer() {
        let limits = limits(20.0, 5);
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let first = Bucket { tokens: limits.capacity(), at: start }.take(&limits, start, 100);
        assert_eq!(first.granted, 3);
        let next = first.next_at.unwrap();
        assert_eq!(first.bucket.take(&limits, next, 1).granted, 1);
        assert_eq!(first.bucket.take(&limits, next - chrono::TimeDelta::milliseconds(1), 1).granted, 0);
    }

    proptest! {
        /// Grants at any times, each sent at any moment within the send window: no second sees more than limit + burst.
        #[test]
        fn no_second_sees_more_than_limit_and_burst(
            rate in 0.2f64..500.0,
            burst in 1u32..100,
            steps in prop::collection::vec((0u64..400_000, 1u32..50, 0.0f64..1.0), 1..200),
        ) {
            let limits = limits(rate, burst);
            let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
            let mut bucket = Bucket { tokens: limits.capacity(), at: start };
            let mut now = start;
            let mut sent = Vec::new();
            for (wait, wanted, lateness) in steps {
                now = later(now, Duration::from_micros(wait));
                let grant = bucket.take(&limits, now, wanted);
                bucket = grant.bucket;
                let at = later(now, SEND_WINDOW.mul_f64(lateness));
                sent.extend(std::iter::repeat_n(at, grant.granted as usize));
            }
            sent.sort();
            let mut from = 0;
            let mut most = 0;
            for (to, at) in sent.iter().enumerate() {
                while later(sent[from], Duration::from_secs(1)) <= *at {
                    from += 1;
                }
                most = most.max(to - from + 1);
            }
            prop_assert!(f64::from(u32::try_from(most).unwrap()) <= rate + f64::from(burst) + 1e-3, "{most} in a second");
        }
    }
}
