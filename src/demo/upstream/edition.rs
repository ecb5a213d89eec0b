//! When the simulated resources change: computed from the time alone.

use chrono::{DateTime, Utc};

use super::dice::Dice;

/// One state of a resource between two changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// What is random about it.
    pub dice: Dice,
    /// When it began, to the second.
    pub began: DateTime<Utc>,
}

impl Edition {
    /// The edition at `now` of a resource that changes regularly, every `shortest` to `longest` seconds; how often, and when
    /// first, is the resource's own.
    #[must_use]
    pub fn regular(resource: Dice, shortest: u32, longest: u32, now: DateTime<Utc>) -> Self {
        let period = i64::from(shortest) + below(resource.of(0), longest.saturating_sub(shortest) + 1);
        let phase = below(resource.of(1), u32::try_from(period).unwrap_or(u32::MAX));
        let step = (now.timestamp() + phase).div_euclid(period.max(1));
        Self::number(resource, step, step * period - phase)
    }

    /// The edition at `now` of a resource that changes at random: once in each stretch of `stretch` seconds, at a second
    /// that nobody knows before.
    #[must_use]
    pub fn random(resource: Dice, stretch: u32, now: DateTime<Utc>) -> Self {
        let stretch_length = i64::from(stretch.max(1));
        let change_in = |number: i64| number * stretch_length + below(resource.of(number.cast_unsigned()), stretch);
        let this = now.timestamp().div_euclid(stretch_length);
        let number = if now.timestamp() >= change_in(this) { this } else { this - 1 };
        Self::number(resource, number, change_in(number))
    }

    fn number(resource: Dice, number: i64, began: i64) -> Self {
        let began = DateTime::from_timestamp(began, 0).unwrap_or(DateTime::UNIX_EPOCH);
        Self { dice: resource.of(number.cast_unsigned()), began }
    }
}

fn below(dice: Dice, below: u32) -> i64 {
    i64::try_from(dice.below(below.into())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    /// The seconds of the next hour in which another edition begins; each edition says so of itself.
    fn changes(edition: impl Fn(DateTime<Utc>) -> Edition) -> Vec<i64> {
        let changes: Vec<i64> = (START + 1..START + 3600).filter(|s| edition(at(*s)) != edition(at(s - 1))).collect();
        for second in &changes {
            assert_eq!(edition(at(*second)).began, at(*second));
        }
        changes
    }

    #[test]
    fn regular_editions_come_in_a_step_of_their_own() {
        let gaps = |resource: u64| -> Vec<i64> {
            let changes = changes(|now| Edition::regular(Dice::new(resource), 20, 60, now));
            changes.windows(2).map(|pair| pair[1] - pair[0]).collect()
        };
        let steps: Vec<i64> = (1..20).map(|resource| gaps(resource)[0]).collect();
        assert!(steps.iter().all(|step| (20..=60).contains(step)), "{steps:?}");
        assert!(steps.iter().any(|step| *step != steps[0]), "{steps:?}");
        assert!(gaps(1).iter().all(|gap| *gap == steps[0]));
    }

    #[test]
    fn random_editions_come_once_in_each_stretch_and_at_no_fixed_distance() {
        let changes = changes(|now| Edition::random(Dice::new(1), 300, now));
        assert_eq!(changes.len(), 12, "{changes:?}");
        let gaps: Vec<i64> = changes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().any(|gap| *gap != gaps[0]), "{gaps:?}");
    }
}
