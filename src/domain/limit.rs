//! How much may be asked of an upstream: a token bucket and a number of requests at the same time.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::budget::Budgets;
use super::time::later;

/// The shortest and the longest [`Limits::send_window`].
const SEND_WINDOWS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What was noted so far in the future was noted by a clock that was wrong.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The limits of one upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests per second on average; `None` is no limit.
    pub requests_per_second: Option<f64>,
    /// How many requests more than the average may come at once; at least 1.
    pub burst: u32,
    /// How many requests may be under way at once; at least 1.
    pub max_concurrent: u32,
    /// How many in longer windows.
    pub budgets: Budgets,
}

impl Limits {
    /// How long after it was granted a token may still be used. A request that could not be sent by then takes another.
    ///
    /// What is granted evenly can arrive bunched when some of it is sent late. Since nothing is sent later than this, and
    /// the bucket is kept smaller by what this allows ([`capacity`](Self::capacity),
    /// [`refill_per_second`](Self::refill_per_second)), no second at the upstream sees more than limit + burst requests.
    /// Where tokens are rare, so that a lost one costs much and bunches little, it is a tenth of the time between two.
    #[must_use]
    pub fn send_window(&self) -> Duration {
        let of_budgets = || self.budgets.iter().map(|budget| f64::from(budget.requests) / budget.per.as_secs_f64());
        let rate = self.requests_per_second.or_else(|| of_budgets().min_by(f64::total_cmp));
        let between =
            rate.map_or(Duration::ZERO, |rate| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX));
        (between / 10).clamp(SEND_WINDOWS.0, SEND_WINDOWS.1)
    }

    /// The most tokens that can wait in the bucket: the burst less what the send window can add to a second.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        let rate = self.requests_per_second.unwrap_or_default();
        (f64::from(self.burst) - rate * self.send_window().as_secs_f64()).max(1.0)
    }

    /// Tokens added each second: the limit, or a little less where the burst is too small to make up for the send window.
    ///
    /// A bucket of capacity c that gains r a second grants at most ⌊c + r·t⌋ in any time t; what arrives within a second
    /// was granted within a second and a send window.
    #[must_use]
    pub fn refill_per_second(&self) -> f64 {
        let rate = self.requests_per_second.unwrap_or_default();
        let most = (rate + f64::from(self.burst)).floor();
        let room = most + 1.0 - 1e-6 - self.capacity();
        rate.min(room / (1.0 + self.send_window().as_secs_f64()))
    }

    /// Whether requests are counted at all, beside those that are under way.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.requests_per_second.is_some() || !self.budgets.is_empty()
    }

    /// Requests per second that rate and budgets allow in the long run; `None` is no limit.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let rate = self.requests_per_second.map(|_| self.refill_per_second());
        rate.into_iter().chain(self.budgets.per_second(self.send_window())).min_by(f64::total_cmp)
    }

    /// How many requests may be under way at this pace, a share of the limits: where there is a rate, that is slowed down instead.
    #[must_use]
    pub fn concurrent_at(&self, pace: f64) -> u32 {
        if self.requests_per_second.is_some() {
            return self.max_concurrent;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 0, and no more than it was"
        )]
        let paced = (f64::from(self.max_concurrent) * pace) as u32;
        paced.max(1)
    }

    /// Whether less of them would be nothing: there is no rate, and no more than one request under way at this pace.
    #[must_use]
    pub fn is_slowest_at(&self, pace: f64) -> bool {
        self.requests_per_second.is_none() && self.concurrent_at(pace) == 1
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
    /// Takes up to `wanted` tokens at `now`, of those that come at this pace, a share of the limits. A clock that went back adds
    /// nothing; one that had been far ahead stops nothing.
    #[must_use]
    pub fn take(mut self, (limits, pace): (&Limits, f64), now: DateTime<Utc>, wanted: u32) -> Grant {
        if self.at > later(now, CLOCK_SKEW) {
            self.at = now;
        }
        if limits.requests_per_second.is_none() {
            return Grant { granted: wanted, bucket: Self { at: now, ..self }, next_at: None };
        }
        let refill = limits.refill_per_second() * pace;
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
        Limits { requests_per_second: Some(rate), burst, max_concurrent: 1, budgets: Budgets::NONE }
    }

    #[test]
    fn a_wait_for_the_next_token_is_long_enough_and_not_longer() {
        let limits = limits(20.0, 5);
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let first = Bucket { tokens: limits.capacity(), at: start }.take((&limits, 1.0), start, 100);
        assert_eq!(first.granted, 3);
        let next = first.next_at.unwrap();
        assert_eq!(first.bucket.take((&limits, 1.0), next, 1).granted, 1);
        assert_eq!(first.bucket.take((&limits, 1.0), next - chrono::TimeDelta::milliseconds(1), 1).granted, 0);
    }

    #[test]
    fn a_bucket_from_a_future_that_never_came_is_no_obstacle() {
        let limits = limits(1.0, 2);
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let years_ahead = Bucket { tokens: 0.0, at: later(now, Duration::from_secs(100_000_000)) };
        let grant = years_ahead.take((&limits, 1.0), now, 1);
        assert_eq!((grant.granted, grant.bucket.at), (0, now));
        assert_eq!(grant.bucket.take((&limits, 1.0), grant.next_at.unwrap(), 1).granted, 1);
    }

    #[test]
    fn small_bursts_and_rare_tokens_keep_nearly_the_whole_rate() {
        for (rate, burst) in [(0.01, 1), (0.5, 1), (1.0, 1), (20.0, 1), (20.0, 4), (1000.0, 200)] {
            assert!(limits(rate, burst).refill_per_second() >= 0.9 * rate, "{rate} {burst}");
        }
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
                let grant = bucket.take((&limits, 1.0), now, wanted);
                bucket = grant.bucket;
                let at = later(now, limits.send_window().mul_f64(lateness));
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
