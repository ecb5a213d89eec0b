//! What goes wrong while the upstream is up: a small share of the answers, decided by the number of the request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::dice::Dice;

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is 429, with Retry-After.
    RateLimited,
    /// It is 503.
    Unavailable,
    /// It comes after this time.
    Slow(Duration),
}

/// How many of 1,000 answers have a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Those that are 429.
    pub rate_limited: u64,
    /// Those that are 503.
    pub unavailable: u64,
    /// Those that are slow.
    pub slow: u64,
}

impl Shares {
    /// The demo's: enough to see some in a minute.
    pub const DEMO: Self = Self { rate_limited: 5, unavailable: 5, slow: 10 };
    /// No faults.
    pub const NONE: Self = Self { rate_limited: 0, unavailable: 0, slow: 0 };
}

/// The shortest and the longest wait for a slow answer, in milliseconds.
const SLOW: (u64, u64) = (300, 1500);

/// Decides over one request after the other.
#[derive(Debug)]
pub struct Faults {
    dice: Dice,
    shares: Shares,
    requests: AtomicU64,
}

impl Faults {
    /// Faults of these shares; the same dice decide the same.
    #[must_use]
    pub fn new(dice: Dice, shares: Shares) -> Self {
        Self { dice, shares, requests: AtomicU64::new(0) }
    }

    /// The fault of the next request, if it has one.
    pub fn next(&self) -> Option<Fault> {
        let dice = self.dice.of(self.requests.fetch_add(1, Ordering::Relaxed));
        let place = dice.below(1000);
        let Shares { rate_limited, unavailable, slow } = self.shares;
        if place < rate_limited {
            Some(Fault::RateLimited)
        } else if place < rate_limited + unavailable {
            Some(Fault::Unavailable)
        } else if place < rate_limited + unavailable + slow {
            Some(Fault::Slow(Duration::from_millis(SLOW.0 + dice.of(0).below(SLOW.1 - SLOW.0))))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64, shares: Shares, requests: usize) -> Vec<Option<Fault>> {
        let faults = Faults::new(Dice::new(seed), shares);
        (0..requests).map(|_| faults.next()).collect()
    }

    #[test]
    fn each_fault_has_the_share_that_was_asked_for() {
        let shares = Shares { rate_limited: 20, unavailable: 50, slow: 100 };
        let all = faults(1, shares, 100_000);
        let count = |is: fn(Fault) -> bool| all.iter().flatten().filter(|fault| is(**fault)).count();
        assert!((1800..2200).contains(&count(|fault| fault == Fault::RateLimited)));
        assert!((4700..5300).contains(&count(|fault| fault == Fault::Unavailable)));
        let is_slow = |fault| matches!(fault, Fault::Slow(wait) if (300..1500).contains(&wait.as_millis()));
        assert!((9500..10_500).contains(&count(is_slow)));
        assert!(faults(1, Shares::NONE, 10_000).iter().all(Option::is_none));
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        assert_eq!(faults(1, Shares::DEMO, 5000), faults(1, Shares::DEMO, 5000));
        assert_ne!(faults(1, Shares::DEMO, 5000), faults(2, Shares::DEMO, 5000));
    }
}
