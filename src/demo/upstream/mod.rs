//! The simulated upstream: weather forecasts and user profiles that are computed, not stored.
//!
//! | route | answers |
//! |---|---|
//! | `GET /weather/{city}` | a forecast; a new one every 20 to 60 s |
//! | `GET /users/{user}` | a profile, `u1` to `u2000`; another about every 5 min |
//! | `POST /off?for=1m` | turns it off: every connection is closed without an answer, for that long or until `/on` |
//! | `POST /on` | turns it on again |
//! | `GET /stats` | how many requests there were, and how they were answered |
//!
//! What it answers follows from its seed and the time, and which answers are faults from its seed and the number of
//! requests: two of the same seed answer the same.

mod answers;
pub mod cities;
pub mod dice;
pub mod edition;
pub mod faults;
mod server;
pub mod stats;
mod switch;
pub mod users;
pub mod weather;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::dice::Dice;
use self::faults::{Faults, Shares};
use self::stats::Stats;
use self::switch::Switch;
use crate::clock::Clock;

/// A simulated upstream.
#[derive(Debug)]
pub struct Upstream {
    clock: Arc<dyn Clock>,
    weather: Dice,
    users: Dice,
    faults: Faults,
    switch: Switch,
    /// What it has done so far.
    pub stats: Stats,
}

impl Upstream {
    /// One that is on.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64, shares: Shares) -> Arc<Self> {
        let dice = Dice::new(seed);
        Arc::new(Self {
            clock,
            weather: dice.of(0),
            users: dice.of(1),
            faults: Faults::new(dice.of(2), shares),
            switch: Switch::default(),
            stats: Stats::default(),
        })
    }

    /// Serves until `stop` is cancelled.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let router = answers::router(Arc::clone(&self));
        server::serve(listener, self, router, stop).await;
    }

    fn is_off(&self) -> bool {
        self.switch.is_off_until(self.clock.now()).is_some()
    }
}

/// Whether a route answers also while it is off.
fn is_about_itself(path: &str) -> bool {
    ["/off", "/on", "/stats"].contains(&path)
}
