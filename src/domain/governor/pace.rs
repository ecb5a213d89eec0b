//! The pace: how much of its limits an upstream is asked for that has just said that it is too much.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::limit::CLOCK_SKEW;
use crate::domain::schedule::has_lasted;
use crate::domain::time::later;

/// The slowest.
const LEAST: f64 = 0.05;
/// What is won back with each second in which nearly all is answered well.
const STEP: f64 = 0.1;
/// Of so many answers, one may say "enough".
const NEARLY_ALL: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// One wave of answers is one word: what is under way was sent before it.
const WAVE: Duration = Duration::from_secs(10);

/// Halved by a 429 or 503, at most once in ten seconds, and won back step by step: a hundredth of sporadic 503s leaves most of
/// the rate, and one that is far too high is halved until it isn't.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Pace {
    /// The share of the limits, up to 1.
    share: f64,
    /// When it was last changed.
    changed_at: DateTime<Utc>,
    /// When it was last halved.
    halved_at: DateTime<Utc>,
    /// How many answers since it was last changed were well, and how many were not.
    well: u32,
    enough: u32,
}

impl Pace {
    /// Half of what was.
    pub(super) fn halved(before: Option<Self>, now: DateTime<Utc>) -> Self {
        let whole = Self { share: 1.0, changed_at: now, halved_at: DateTime::UNIX_EPOCH, well: 0, enough: 0 };
        let before = before.unwrap_or(whole);
        if !has_lasted(before.halved_at, now, WAVE) {
            return Self { enough: before.enough.saturating_add(1), ..before };
        }
        Self { share: (before.share() / 2.0).max(LEAST), halved_at: now, ..whole }
    }

    /// After an answer that is well; `None` is the whole pace.
    pub(super) fn won_back(self, now: DateTime<Utc>) -> Option<Self> {
        let well = self.well.saturating_add(1);
        if !has_lasted(self.changed_at, now, SECOND) {
            return Some(Self { well, ..self });
        }
        let is_well = self.enough.saturating_mul(NEARLY_ALL) <= well.saturating_add(self.enough);
        let share = if is_well { self.share() + STEP } else { self.share() };
        (share < 1.0 - 1e-9).then_some(Self { share, changed_at: now, well: 0, enough: 0, ..self })
    }

    /// The share of the limits.
    pub(super) fn share(self) -> f64 {
        // A number that is none, or is out of bounds, was not written by us.
        if self.share.is_finite() { self.share.clamp(LEAST, 1.0) } else { 1.0 }
    }

    /// A clock that was far ahead stops nobody.
    pub(super) fn clamp(&mut self, now: DateTime<Utc>) {
        let latest = later(now, CLOCK_SKEW);
        if self.changed_at > latest || self.halved_at > latest {
            (self.changed_at, self.halved_at) = (now.min(self.changed_at), now.min(self.halved_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(millis)
    }

    /// What is left of the rate, on average over ten minutes in which every so many-th of a hundred answers in a second is none.
    fn left(every: i64) -> f64 {
        let (mut pace, mut sum) = (None, 0.0);
        for tick in 0..60_000 {
            let now = at(tick * 10);
            sum += pace.map_or(1.0, Pace::share);
            pace = if tick % every == 0 {
                Some(Pace::halved(pace, now))
            } else {
                pace.and_then(|pace| pace.won_back(now))
            };
        }
        sum / 60_000.0
    }

    #[test]
    fn a_wave_of_refusals_halves_once_and_the_pace_is_never_below_a_twentieth() {
        let once = Pace::halved(None, at(0));
        assert_eq!(Pace::halved(Some(once), at(9_999)).share().to_string(), "0.5");
        assert_eq!(Pace::halved(Some(once), at(10_000)).share().to_string(), "0.25");
        let slowest = (2..20).fold(once, |pace, n| Pace::halved(Some(pace), at(n * 10_000)));
        assert_eq!(slowest.share().to_string(), "0.05");
    }

    #[test]
    fn it_is_won_back_within_seconds_of_good_answers() {
        let mut pace = Some(Pace::halved(None, at(0)));
        let mut seconds = 0;
        while let Some(slow) = pace {
            seconds += 1;
            // A thousand answers in a second win back no more than one.
            pace = slow.won_back(at(seconds * 1000)).and_then(|pace| pace.won_back(at(seconds * 1000 + 999)));
        }
        assert_eq!(seconds, 5);
    }

    #[test]
    fn sporadic_refusals_leave_most_of_the_pace_and_many_take_all_of_it() {
        assert!(left(100) > 0.7, "{}", left(100));
        assert!(left(3) < 0.1, "{}", left(3));
    }
}
