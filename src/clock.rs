//! The one place that reads the clock.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use tokio::sync::watch;

use crate::domain::time::later;

/// Tells the time, to the microsecond that databases can store, and waits for it.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present time.
    fn now(&self) -> DateTime<Utc>;

    /// Returns when `at` has come, or earlier: after a day at most. Whoever waits looks at the clock again.
    async fn sleep_until(&self, at: DateTime<Utc>);
}

/// Real time: a wall-clock reading taken once plus what has passed on the monotonic clock since, so that a step of the
/// machine's clock moves no schedule. [`anchor`](Self::anchor) sets it again, on Postgres by the database's clock.
#[derive(Debug)]
pub struct SystemClock {
    // A std mutex: held for two reads, never across an await.
    anchor: Mutex<(DateTime<Utc>, Instant)>,
}

impl SystemClock {
    /// A clock that starts from this machine's time.
    #[must_use]
    pub fn new() -> Self {
        Self { anchor: Mutex::new((wall_clock(), monotonic())) }
    }

    /// Goes on from this machine's time.
    pub fn anchor_locally(&self) {
        self.anchor(wall_clock());
    }

    /// Goes on from `now`.
    pub fn anchor(&self, now: DateTime<Utc>) {
        *self.anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (now, monotonic());
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        let (at, instant) = *self.anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        later(at, monotonic() - instant).trunc_subsecs(6)
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        let wait = (at - self.now()).to_std().unwrap_or_default();
        // A day at a time: a timer for the year 9999 would overflow.
        tokio::time::sleep(wait.min(Duration::from_secs(86_400))).await;
    }
}

/// The monotonic clock, for spans that no step of the wall clock may change.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<DateTime<Utc>>,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self { now: watch::Sender::new(now.trunc_subsecs(6)) }
    }

    /// Moves on by `span`; whoever sleeps until a time that has now come wakes up.
    pub fn advance(&self, span: Duration) {
        self.now.send_modify(|now| *now = later(*now, span));
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        // An error means that the clock is gone, and with it whoever could move it.
        _ = self.now.subscribe().wait_for(|now| *now >= at).await;
    }
}
