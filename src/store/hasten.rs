//! Whether a reader's wish makes a resource due: one rule for both databases.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::columns::{Cells, Record};
use super::{Hastened, StoreError, Wish};
use crate::domain::governor::Wait;
use crate::domain::schedule::{AT_ONCE, Because, aside_until};
use crate::domain::time::later;

/// For how long what is fetched counts as fetched for the reader who last waited: longer than nearly any request takes.
const MEMORY: TimeDelta = TimeDelta::minutes(1);

/// What the schedule says of a resource when a reader asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Where nobody polls it: from when on a reader may ask. `None` when it is retired.
    due_at: Option<DateTime<Utc>>,
    because: Option<Because>,
    fetched_at: Option<DateTime<Utc>>,
    /// When a reader last waited for it.
    hastened_at: Option<DateTime<Utc>>,
    /// Until when the upstream's own word keeps readers from having it asked for again, whenever it is due.
    kept_until: Option<DateTime<Utc>>,
    is_leased: bool,
    /// What its upstream asked for.
    wait: Option<Wait>,
}

impl Place {
    /// Of `schedule`: `due_at, because, fetched_at, hastened_at, kept_until`.
    pub(super) fn of<R: Cells>(
        schedule: &Record<'_, R>,
        is_leased: bool,
        wait: Option<Wait>,
    ) -> Result<Self, StoreError> {
        let code = i16::try_from(schedule.integer("because")?).ok();
        Ok(Self {
            due_at: schedule.maybe_time("due_at")?.map(|at| aside_until(at).unwrap_or(at)),
            because: code.and_then(Because::from_code),
            fetched_at: schedule.maybe_time("fetched_at")?,
            hastened_at: schedule.maybe_time("hastened_at")?,
            kept_until: schedule.maybe_time("kept_until")?,
            is_leased,
            wait,
        })
    }

    /// What becomes of a reader's wish: [`Hastened::Due`] is yet to be done.
    pub(super) fn hastened(&self, wish: Wish, now: DateTime<Utc>) -> Hastened {
        let Some(due_at) = self.due_at else { return Hastened::Never };
        if self.fetched_at != wish.seen {
            return Hastened::Newer;
        }
        if self.is_leased {
            return Hastened::Coming;
        }
        if let Some(wait) = self.wait {
            return Hastened::PutOff(wait.until);
        }
        if due_at == AT_ONCE {
            return Hastened::Coming;
        }
        let spares = self.because.is_some_and(Because::spares_the_upstream) && !self.is_looked_at_again(wish, now);
        // What is gone has its own rule.
        let kept_until = self.kept_until.filter(|_| self.because != Some(Because::GoneRecheck));
        let put_off_until = kept_until.max(spares.then_some(due_at)).filter(|at| *at > now);
        if let Some(until) = put_off_until {
            return Hastened::PutOff(until);
        }
        if self.was_fetched_for_others(wish.echo, now) { Hastened::Served } else { Hastened::Due }
    }

    /// Whether it is gone, and that is long enough ago for this reader.
    fn is_looked_at_again(&self, wish: Wish, now: DateTime<Utc>) -> bool {
        let long_ago = |span| self.hastened_at.is_none_or(|at| later(at, span) <= now);
        self.because == Some(Because::GoneRecheck) && wish.gone_for.is_some_and(long_ago)
    }

    fn was_fetched_for_others(&self, echo: Duration, now: DateTime<Utc>) -> bool {
        let is_new = |fetched_at| now < later(fetched_at, echo);
        self.fetched_at.is_some_and(is_new) && self.hastened_at.is_some_and(|at| now - at < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        due_at: None,
        because: None,
        fetched_at: None,
        hastened_at: None,
        kept_until: None,
        is_leased: false,
        wait: None,
    };

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
            let (due_at, fetched_at) = (due_at.map(at), Some(at(fetched_at)));
            let place = Place { due_at, because: Some(because), fetched_at, is_leased, ..PLACE };
            let wish = Wish { seen, at: now, echo: Duration::ZERO, gone_for: None };
            assert_eq!(place.hastened(wish, now), expected, "{place:?}");
        }
    }

    #[test]
    fn no_reader_makes_due_what_the_upstream_keeps_and_only_for_as_long_as_that() {
        use Because::{Backoff, GoneRecheck, Interval, NotBefore};
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let put_off = |seconds| Hastened::PutOff(at(seconds));
        for (due_at, because, kept_until, expected) in [
            (2000, Interval, Some(1001), put_off(1001)),
            (2000, Interval, Some(1000), Hastened::Due),
            // Due, but others are before it.
            (900, Interval, Some(1001), put_off(1001)),
            (900, Backoff, Some(1001), put_off(1001)),
            (2000, Backoff, Some(1001), put_off(2000)),
            (2000, NotBefore, Some(1900), put_off(2000)),
            (0, Interval, Some(1001), Hastened::Coming),
            // Someone asked for it meanwhile.
            (900, GoneRecheck, Some(1001), Hastened::Due),
        ] {
            let kept_until = kept_until.map(at);
            let place = Place { due_at: Some(at(due_at)), because: Some(because), kept_until, ..PLACE };
            let wish = Wish { seen: None, at: at(1000), echo: Duration::ZERO, gone_for: None };
            assert_eq!(place.hastened(wish, at(1000)), expected, "{place:?}");
        }
    }

    #[test]
    fn what_is_gone_is_looked_at_again_when_its_last_reader_was_long_ago() {
        use Because::{Backoff, GoneRecheck};
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let (now, put_off) = (at(1000), Hastened::PutOff(at(2000)));
        for (because, hastened_at, gone_for, expected) in [
            (GoneRecheck, Some(900), Some(100), Hastened::Due),
            (GoneRecheck, Some(901), Some(100), put_off),
            (GoneRecheck, None, Some(100), Hastened::Due),
            (GoneRecheck, Some(0), None, put_off),
            (Backoff, Some(0), Some(100), put_off),
        ] {
            let (due_at, hastened_at) = (Some(at(2000)), hastened_at.map(at));
            let place = Place { due_at, because: Some(because), hastened_at, ..PLACE };
            let gone_for = gone_for.map(Duration::from_secs);
            let wish = Wish { seen: None, at: now, echo: Duration::ZERO, gone_for };
            assert_eq!(place.hastened(wish, now), expected, "{place:?} {wish:?}");
        }
    }

    #[test]
    fn what_was_fetched_for_others_a_moment_ago_does_for_those_who_say_so() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let now = at(1000);
        for (hastened_at, fetched_at, echo, expected) in [
            (Some(950), 998, 3, Hastened::Served),
            (Some(950), 998, 2, Hastened::Due),
            (Some(950), 998, 0, Hastened::Due),
            // It was fetched for other reasons.
            (Some(940), 998, 3, Hastened::Due),
            (None, 998, 3, Hastened::Due),
        ] {
            let (fetched_at, hastened_at) = (Some(at(fetched_at)), hastened_at.map(at));
            let because = Some(Because::Interval);
            let place = Place { due_at: Some(at(2000)), because, fetched_at, hastened_at, ..PLACE };
            let wish = Wish { seen: fetched_at, at: now, echo: Duration::from_secs(echo), gone_for: None };
            assert_eq!(place.hastened(wish, now), expected, "{place:?} {wish:?}");
        }
    }
}
