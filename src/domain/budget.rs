//! Budgets: how many requests an upstream may be sent in a window, and a bucket for each that spreads them over it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::limit::CLOCK_SKEW;
use super::time::later;

/// How many windows an upstream may have.
pub const MOST_BUDGETS: usize = 6;

/// So many requests in any such window, wherever it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Budget {
    /// How many requests; at least 1.
    pub requests: u32,
    /// In what time; more than zero. Stored in milliseconds.
    #[serde(rename = "per_ms", with = "millis")]
    pub per: Duration,
}

/// All budgets of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets([Option<Budget>; MOST_BUDGETS]);

/// What is left of one budget at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Purse {
    /// Of which window.
    #[serde(rename = "per_ms", with = "millis")]
    per: Duration,
    /// Tokens at that time.
    tokens: f64,
    /// That time.
    at: DateTime<Utc>,
}

/// How many requests all budgets allow together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowed {
    /// So many now.
    pub now: u32,
    /// Where that is fewer than were wanted: the budget that holds up the longest, and until when.
    pub short: Option<(Budget, DateTime<Utc>)>,
}

impl Budget {
    /// What may come at once: a twentieth, so that the rest is spread over the window.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        (f64::from(self.requests) / 20.0).max(1.0)
    }

    /// Tokens added each second.
    ///
    /// A bucket of capacity c that gains r a second grants at most c + r·t in any time t; what is sent within a window was
    /// granted within it and a send window. So no window sees more than the budget. A budget of one request has no rest to
    /// spread, and gets a token in such a time that no window sees two.
    #[must_use]
    pub fn refill_per_second(&self, send_window: Duration) -> f64 {
        let span = (self.per + send_window).as_secs_f64();
        // Two grants of a budget of 1 are further apart than the window and what one can be late by.
        let rest = if self.requests == 1 { 1.0 } else { f64::from(self.requests) - self.capacity() };
        rest / (span * (1.0 + 1e-5))
    }

    fn full(&self, now: DateTime<Utc>) -> Purse {
        Purse { per: self.per, tokens: self.capacity(), at: now }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests per {}", self.requests, humantime::format_duration(self.per))
    }
}

impl Budgets {
    /// No budget.
    pub const NONE: Self = Self([None; MOST_BUDGETS]);

    /// Those, shortest window first; what is beyond [`MOST_BUDGETS`] is left out.
    #[must_use]
    pub fn of(budgets: impl IntoIterator<Item = Budget>) -> Self {
        let mut sorted: Vec<_> = budgets.into_iter().collect();
        sorted.sort_by_key(|budget| budget.per);
        let mut all = Self::NONE;
        for (place, budget) in all.0.iter_mut().zip(sorted) {
            *place = Some(budget);
        }
        all
    }

    /// Each of them, shortest window first.
    pub fn iter(&self) -> impl Iterator<Item = Budget> + Clone {
        self.0.into_iter().flatten()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Requests per second that all of them allow in the long run; `None` without any.
    #[must_use]
    pub fn per_second(&self, send_window: Duration) -> Option<f64> {
        self.iter().map(|budget| budget.refill_per_second(send_window)).min_by(f64::total_cmp)
    }

    /// As they are stored; `None` is none.
    #[must_use]
    pub fn json(&self) -> Option<String> {
        let all: Vec<_> = self.iter().collect();
        // Numbers can always be written.
        (!all.is_empty()).then(|| serde_json::to_string(&all).unwrap_or_default())
    }

    /// As they were stored.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn read(stored: Option<&str>) -> Result<Self, String> {
        let Some(json) = stored else { return Ok(Self::NONE) };
        let all: Vec<Budget> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if all.iter().any(|budget| budget.requests == 0 || budget.per.is_zero()) {
            return Err("a budget of nothing".into());
        }
        Ok(Self::of(all))
    }
}

impl Purse {
    /// The purses of these budgets now: new budgets begin with a full one, and those that are no more are left out.
    pub(super) fn all(known: &[Self], budgets: &Budgets, send_window: Duration, now: DateTime<Utc>) -> Vec<Self> {
        let of = |budget: Budget| {
            let purse = known.iter().find(|purse| purse.per == budget.per);
            purse.map_or_else(|| budget.full(now), |purse| purse.filled(budget, send_window, now))
        };
        budgets.iter().map(of).collect()
    }

    /// A clock that went back adds nothing.
    fn filled(&self, budget: Budget, send_window: Duration, now: DateTime<Utc>) -> Self {
        let passed = (now - self.at).to_std().unwrap_or_default();
        let refill = budget.refill_per_second(send_window);
        let tokens = if self.tokens.is_finite() { self.tokens } else { 0.0 };
        let tokens = (tokens + passed.as_secs_f64() * refill).min(budget.capacity());
        Self { per: self.per, tokens, at: self.at.max(now) }
    }

    /// How many requests it pays for.
    fn whole(&self) -> u32 {
        // A hair's breadth for rounding: a wait that was computed from these numbers must be long enough. What it gives too
        // much is missing from the next.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0; saturates")]
        let whole = (self.tokens + 1e-6).floor().max(0.0) as u32;
        whole
    }

    /// When it pays for one.
    fn next_at(&self, budget: Budget, send_window: Duration) -> DateTime<Utc> {
        let wait = (1.0 - self.tokens).max(0.0) / budget.refill_per_second(send_window);
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
        later(self.at, wait.saturating_add(Duration::from_micros(1)))
    }

    /// How much is left, in requests.
    #[must_use]
    pub fn tokens(&self) -> f64 {
        self.tokens.max(0.0)
    }

    /// A clock that was far ahead stops nobody.
    pub(super) fn clamp(&mut self, now: DateTime<Utc>) {
        if self.at > later(now, CLOCK_SKEW) {
            self.at = now;
        }
    }

    /// Pays for so many.
    pub(super) fn pay(&mut self, requests: u32) {
        self.tokens -= f64::from(requests);
    }

    /// What purses that are [filled](Self::all) for these budgets pay for, up to `wanted`.
    pub(super) fn allow(purses: &[Self], budgets: &Budgets, send_window: Duration, wanted: u32) -> Allowed {
        let now = purses.iter().map(Self::whole).min().unwrap_or(u32::MAX).min(wanted);
        if now == wanted {
            return Allowed { now, short: None };
        }
        let held = |(purse, budget): (&Self, Budget)| {
            // After the grant.
            let left = Self { tokens: purse.tokens - f64::from(now), ..*purse };
            (left.whole() == 0).then(|| (budget, left.next_at(budget, send_window)))
        };
        let short = purses.iter().zip(budgets.iter()).filter_map(held).max_by_key(|(_, at)| *at);
        Allowed { now, short }
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LATE: Duration = Duration::from_secs(5);

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn budget(requests: u32, seconds: u64) -> Budget {
        Budget { requests, per: Duration::from_secs(seconds) }
    }

    /// Takes up to `wanted`, as a claim does.
    fn take(purses: &mut Vec<Purse>, budgets: &Budgets, now: DateTime<Utc>, wanted: u32) -> Allowed {
        *purses = Purse::all(purses, budgets, LATE, now);
        let allowed = Purse::allow(purses, budgets, LATE, wanted);
        for purse in purses.iter_mut() {
            purse.pay(allowed.now);
        }
        allowed
    }

    #[test]
    fn a_budget_begins_with_a_twentieth_and_goes_on_evenly() {
        let (budgets, mut purses) = (Budgets::of([budget(1_000, 86_400)]), Vec::new());
        let first = take(&mut purses, &budgets, start(), 10_000);
        assert_eq!(first.now, 50);
        let (held, until) = first.short.unwrap();
        assert_eq!(held, budget(1_000, 86_400));
        assert_eq!((until - start()).num_seconds(), 90, "950 in a day");
        assert_eq!(take(&mut purses, &budgets, until, 10).now, 1);
    }

    #[test]
    fn the_tightest_of_several_decides_and_the_one_that_holds_up_the_longest_is_named() {
        let (budgets, mut purses) = (Budgets::of([budget(1_000, 86_400), budget(20, 60)]), Vec::new());
        let first = take(&mut purses, &budgets, start(), 10);
        assert_eq!((first.now, first.short.unwrap().0), (1, budget(20, 60)));
        let mut now = start();
        let mut sent = 1;
        while let (at, Allowed { short: Some((held, until)), now: granted }) =
            (now, take(&mut purses, &budgets, now, 10))
        {
            sent += granted;
            assert!(until > at);
            now = until;
            if held.per.as_secs() == 86_400 {
                break;
            }
        }
        assert!((50..60).contains(&sent), "{sent}");
    }

    #[test]
    fn what_a_clock_far_ahead_has_noted_stops_nobody_and_a_budget_of_one_gets_its_next() {
        let budgets = Budgets::of([budget(1, 60)]);
        let mut purses = Vec::new();
        assert_eq!(take(&mut purses, &budgets, later(start(), Duration::from_secs(1_000_000)), 1).now, 1);
        purses[0].clamp(start());
        let (_, until) = take(&mut purses, &budgets, start(), 1).short.unwrap();
        assert_eq!((until - start()).num_seconds(), 65);
        assert_eq!(take(&mut purses, &budgets, until, 1).now, 1);
    }

    #[test]
    fn budgets_are_stored_and_read_again_and_nonsense_is_told() {
        let budgets = Budgets::of([budget(1_000, 86_400), budget(20, 60)]);
        assert_eq!(Budgets::read(budgets.json().as_deref()), Ok(budgets));
        assert_eq!((Budgets::NONE.json(), Budgets::read(None)), (None, Ok(Budgets::NONE)));
        for bad in ["7", "[{\"requests\":0,\"per_ms\":1000}]", "[{\"requests\":1,\"per_ms\":0}]"] {
            assert!(Budgets::read(Some(bad)).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Grants at any times, each sent at any moment within the send window: no window of any budget sees more than that.
        #[test]
        fn no_window_sees_more_than_its_budget(
            of in prop::collection::vec((1u32..200, 1u64..500), 1..4),
            steps in prop::collection::vec((0u64..60_000, 1u32..50, 0.0f64..1.0), 1..300),
        ) {
            let budgets = Budgets::of(of.iter().map(|(requests, seconds)| budget(*requests, *seconds)));
            let (mut purses, mut now, mut sent) = (Vec::new(), start(), Vec::new());
            for (wait, wanted, lateness) in steps {
                now = later(now, Duration::from_millis(wait));
                let granted = take(&mut purses, &budgets, now, wanted).now;
                let at = later(now, LATE.mul_f64(lateness));
                sent.extend(std::iter::repeat_n(at, granted as usize));
            }
            sent.sort();
            for budget in budgets.iter() {
                let mut from = 0;
                for (to, at) in sent.iter().enumerate() {
                    while later(sent[from], budget.per) <= *at {
                        from += 1;
                    }
                    prop_assert!(to - from < budget.requests as usize, "{} in {budget}", to - from + 1);
                }
            }
        }
    }
}
