//! A budget that is too small for what is to be refreshed.

use std::fmt;
use std::time::Duration;

use crate::domain::budget::Budget;

/// What a budget lacks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shortfall {
    budget: Budget,
    /// Requests per second.
    needed: f64,
    allowed: f64,
    /// The shortest and the longest interval of what shares it.
    intervals: (Duration, Duration),
}

impl Shortfall {
    /// What a budget lacks for sources that need so many requests per second, each with its interval.
    #[must_use]
    pub fn of(budget: Budget, send_window: Duration, needed: &[(f64, Duration)]) -> Option<Self> {
        let (sum, allowed) = (needed.iter().map(|(rate, _)| rate).sum(), budget.refill_per_second(send_window));
        let intervals = needed.iter().map(|(_, interval)| *interval);
        let intervals = (intervals.clone().min()?, intervals.max()?);
        (sum > allowed).then_some(Self { budget, needed: sum, allowed, intervals })
    }

    /// How many times longer than asked for it takes to refresh everything; more than 1.
    #[must_use]
    pub fn stretch(&self) -> f64 {
        self.needed / self.allowed
    }

    fn stretched(&self, interval: Duration) -> String {
        let long = Duration::try_from_secs_f64(interval.as_secs_f64() * self.stretch()).unwrap_or(Duration::MAX);
        // No more than people read: two units, as `9days 23h`.
        let long = Duration::from_secs(long.as_secs() / 60 * 60).max(Duration::from_secs(60));
        humantime::format_duration(long).to_string().split(' ').take(2).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.budget.per.as_secs_f64();
        let window = humantime::format_duration(self.budget.per);
        let (short, long) = self.intervals;
        write!(
            f,
            "the keys need {:.0} requests per {window}, more than the {:.0} that come evenly of {}; each is refreshed every {}",
            self.needed * per,
            self.allowed * per,
            self.budget.requests,
            self.stretched(short)
        )?;
        if short != long {
            write!(f, " to {}", self.stretched(long))?;
        }
        let asked = humantime::format_duration(short);
        write!(f, " instead of every {asked}")?;
        if short != long {
            write!(f, " to {}", humantime::format_duration(long))?;
        }
        Ok(())
    }
}
