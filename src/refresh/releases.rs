//! Leases that are given back.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::domain::resource::ResourceId;
use crate::store::{LeaseToken, Store};

/// What a flight is known by. The resource alone would not do: once an outcome is stored, the next lease of its resource can
/// be taken before the flight has landed.
pub(super) type Leased = (LeaseToken, ResourceId);

/// The leases that a lane gives back.
pub(super) struct Releases {
    store: Arc<dyn Store>,
    // Tasks of their own: a lane that waited for the store here would not move its flights meanwhile, and one of those may
    // be who the store waits for.
    under_way: JoinSet<()>,
    /// What was held back, and is given back together.
    held_back: Vec<Leased>,
}

impl Releases {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, under_way: JoinSet::new(), held_back: Vec::new() }
    }

    pub(super) fn give_back(&mut self, leased: Vec<Leased>) {
        // Those that are done.
        while self.under_way.try_join_next().is_some() {}
        let store = Arc::clone(&self.store);
        self.under_way.spawn(async move {
            if let Err(error) = store.release(&leased).await {
                tracing::warn!(%error, "could not give leases back; they run out by themselves");
            }
        });
    }

    /// Keeps one until [`give_back_held`](Self::give_back_held).
    pub(super) fn hold_back(&mut self, leased: Leased) {
        self.held_back.push(leased);
    }

    /// Together, since what was held back was held back together.
    pub(super) fn give_back_held(&mut self) {
        if !self.held_back.is_empty() {
            let held_back = std::mem::take(&mut self.held_back);
            self.give_back(held_back);
        }
    }

    /// Whether nothing is being given back.
    pub(super) fn are_none(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Waits until everything has been given back.
    pub(super) async fn all_given_back(&mut self) {
        while self.under_way.join_next().await.is_some() {}
    }
}
