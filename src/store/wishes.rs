//! Wishes for single resources and whole sources, by readers and by hand.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Selection;
use crate::domain::schedule::{self, Because, Due};

/// A reader who waits, for [`Store::hasten`](super::Store::hasten).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The `fetched_at` of what the reader has seen. What was fetched since then is what is waited for.
    pub seen: Option<DateTime<Utc>>,
    /// When the reader asks.
    pub at: DateTime<Utc>,
    /// How old a copy that other readers waited for may be to do for this one too: readers who ask at the same time don't
    /// arrive at the same time.
    pub echo: Duration,
    /// For how long what is gone is not asked for again once a reader has waited for it; `None`: not before it is due.
    pub gone_for: Option<Duration>,
}

/// What [`Store::hasten`](super::Store::hasten) found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hastened {
    /// It is due now.
    Due,
    /// It is being fetched, or is first in line already: the next outcome is the one to wait for.
    Coming,
    /// It has been fetched since the reader looked.
    Newer,
    /// It was fetched for other readers a moment ago.
    Served,
    /// It failed or is gone, or its upstream asked for quiet: it is due then, and no reader makes it due earlier.
    PutOff(DateTime<Utc>),
    /// It is no longer polled.
    Never,
}

/// The due time of single resources that were asked for by hand, as it is stored. `wanted_at` says when that was.
pub(super) const AT_ONCE: i64 = schedule::AT_ONCE.timestamp_micros();

/// The latest that a wish leaves things due. Whole sources take their turn, lest they starve the schedule and single wishes.
pub(super) fn wished_due(which: &Selection, at: DateTime<Utc>) -> i64 {
    match which {
        Selection::Resources(_) => AT_ONCE,
        Selection::All | Selection::Sources(_) => at.timestamp_micros(),
    }
}

/// What a reader is told of a due time: a wish's own time where `due_at` only says "first", and the time from which on someone
/// may ask for it where it is not polled.
pub(super) fn readable_due(due_at: DateTime<Utc>, wanted_at: Option<DateTime<Utc>>, because: Because) -> Due {
    let at = if due_at == schedule::AT_ONCE { wanted_at.unwrap_or(due_at) } else { due_at };
    Due { at: schedule::aside_until(at).unwrap_or(at), because }
}
