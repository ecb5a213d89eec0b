//! Whether a reader's wish makes a resource due: one rule for both databases.

use chrono::{DateTime, Utc};

use super::columns::{Cells, Record};
use super::{Hastened, StoreError};
use crate::domain::schedule::{AT_ONCE, Because};

/// What the schedule says of a resource when a reader asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// `None` when it is retired.
    due_at: Option<DateTime<Utc>>,
    because: Option<Because>,
    fetched_at: Option<DateTime<Utc>>,
    is_leased: bool,
}

impl Place {
    /// Of `schedule`: `due_at, because, fetched_at`.
    pub(super) fn of<R: Cells>(schedule: &Record<'_, R>, is_leased: bool) -> Result<Self, StoreError> {
        let code = i16::try_from(schedule.integer("because")?).ok();
        Ok(Self {
            due_at: schedule.maybe_time("due_at")?,
            because: code.and_then(Because::from_code),
            fetched_at: schedule.maybe_time("fetched_at")?,
            is_leased,
        })
    }

    /// What becomes of the wish of a reader who has seen what was fetched at `seen`: [`Hastened::Due`] is yet to be done.
    pub(super) fn hastened(&self, seen: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Hastened {
        let Some(due_at) = self.due_at else { return Hastened::Never };
        if self.fetched_at != seen {
            return Hastened::Newer;
        }
        if self.is_leased || due_at == AT_ONCE {
            return Hastened::Coming;
        }
        if due_at > now && self.because.is_some_and(Because::spares_the_upstream) {
            return Hastened::PutOff(due_at);
        }
        Hastened::Due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_makes_due_what_waits_for_its_turn_and_nothing_else() {
        use Because::{Backoff, Freshness, GoneRecheck, Interval, New, Outage, RetryAfter};
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let (now, seen) = (at(1000), Some(at(500)));
        for (due_at, because, fetched_at, is_leased, expected) in [
            (Some(2000), Interval, 500, false, Hastened::Due),
            (Some(2000), Freshness, 500, false, Hastened::Due),
            // Due, but others are before it.
            (Some(900), New, 500, false, Hastened::Due),
            (Some(900), Backoff, 500, false, Hastened::Due),
            (Some(900), Interval, 500, true, Hastened::Coming),
            (Some(2000), Backoff, 500, true, Hastened::Coming),
            (Some(0), Interval, 500, false, Hastened::Coming),
            (Some(2000), Interval, 501, false, Hastened::Newer),
            (Some(900), Interval, 501, true, Hastened::Newer),
            (Some(2000), Backoff, 500, false, Hastened::PutOff(at(2000))),
            (Some(2000), Outage, 500, false, Hastened::PutOff(at(2000))),
            (Some(2000), RetryAfter, 500, false, Hastened::PutOff(at(2000))),
            (Some(2000), GoneRecheck, 500, false, Hastened::PutOff(at(2000))),
            (None, Interval, 500, false, Hastened::Never),
        ] {
            let place =
                Place { due_at: due_at.map(at), because: Some(because), fetched_at: Some(at(fetched_at)), is_leased };
            assert_eq!(place.hastened(seen, now), expected, "{place:?}");
        }
    }
}
