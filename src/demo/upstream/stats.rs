//! What the simulated upstream has done, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use serde::Serialize;

/// Counters of requests for resources; those to the switch and for these numbers are left out.
#[derive(Debug, Default)]
pub struct Stats {
    requests: AtomicU64,
    contents: AtomicU64,
    not_modified: AtomicU64,
    rate_limited: AtomicU64,
    unavailable: AtomicU64,
    others: AtomicU64,
    dropped: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All requests, those still under way included.
    pub requests: u64,
    /// Answered 200.
    pub contents: u64,
    /// Answered 304.
    pub not_modified: u64,
    /// Answered 429.
    pub rate_limited: u64,
    /// Answered 503.
    pub unavailable: u64,
    /// Answered something else: 404, 405, 412.
    pub others: u64,
    /// Not answered: the connection was closed, because the upstream was off.
    pub dropped: u64,
}

impl Counts {
    /// How many requests brought nothing.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.rate_limited + self.unavailable + self.others + self.dropped
    }
}

impl Stats {
    /// Counts a request that has just come.
    pub fn came(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that is answered with this status; `None` when its connection is closed instead.
    pub fn went(&self, status: Option<StatusCode>) {
        let counter = match status {
            None => &self.dropped,
            Some(StatusCode::OK) => &self.contents,
            Some(StatusCode::NOT_MODIFIED) => &self.not_modified,
            Some(StatusCode::TOO_MANY_REQUESTS) => &self.rate_limited,
            Some(StatusCode::SERVICE_UNAVAILABLE) => &self.unavailable,
            Some(_) => &self.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            contents: read(&self.contents),
            not_modified: read(&self.not_modified),
            rate_limited: read(&self.rate_limited),
            unavailable: read(&self.unavailable),
            others: read(&self.others),
            dropped: read(&self.dropped),
        }
    }
}
