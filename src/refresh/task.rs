//! What a lane works on.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::store::Selection;

/// What a lane works on, and until when.
#[derive(Debug, Clone)]
pub struct Task {
    /// Of which resources it takes what is due.
    pub which: Selection,
    /// Only what was due by then; `None` is whatever falls due.
    pub due_by: Option<DateTime<Utc>>,
    /// Whether it ends when nothing is left, and then with or without what other processes are fetching.
    pub until: Until,
    /// How long a task that ends by itself waits at the most for an upstream that wants to be left alone.
    pub patience: Duration,
}

/// When a lane ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When nothing is due that isn't leased.
    NothingWaits,
    /// When nothing is due, leased by others or not.
    NothingIsLeft,
}
