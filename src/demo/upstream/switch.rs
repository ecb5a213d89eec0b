//! The switch that turns the simulated upstream off for a while.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// On, unless it was turned off until a time that is still to come.
#[derive(Debug, Default)]
pub(super) struct Switch {
    // A std mutex: one read or write happens under it.
    off_until: Mutex<Option<DateTime<Utc>>>,
}

impl Switch {
    /// Turns it off until then; a later word counts instead of an earlier one.
    pub(super) fn off_until(&self, until: DateTime<Utc>) {
        self.set(Some(until));
    }

    /// Turns it on.
    pub(super) fn on(&self) {
        self.set(None);
    }

    /// Until when it is off at `now`; `None` when it is on.
    pub(super) fn is_off_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.off_until.lock().unwrap_or_else(PoisonError::into_inner).filter(|until| *until > now)
    }

    fn set(&self, off_until: Option<DateTime<Utc>>) {
        *self.off_until.lock().unwrap_or_else(PoisonError::into_inner) = off_until;
    }
}
