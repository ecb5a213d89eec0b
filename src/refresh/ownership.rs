//! Whose configuration holds: that of the `serve` that was started or reloaded last.
//!
//! The owner alone writes keys and limits. Whoever lost the configuration to another process goes on serving, and refreshing
//! what both ask for in the same way; its own reload takes the configuration back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::domain::time::later;
use crate::store::{Store, StoreError};

/// For how long an owner says so in advance: three heartbeats.
const OWNED_FOR: Duration = Duration::from_secs(90);

/// This process's hold on the configuration.
#[derive(Debug)]
pub struct Ownership {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    worker: String,
    /// Whether it was held when it was last looked at. Locked over the calls to the store, so that a heartbeat that was
    /// refused is not noted after a take that came later.
    is_held: Mutex<bool>,
}

impl Ownership {
    /// A hold that has not been taken, under the name by which the process is known as a worker.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, worker: String) -> Self {
        Self { store, clock, worker, is_held: Mutex::new(false) }
    }

    /// Takes the configuration, whoever had it.
    ///
    /// # Errors
    /// When the store fails; then nothing has changed.
    pub async fn take(&self) -> Result<(), StoreError> {
        let mut is_held = self.is_held.lock().await;
        self.store.own_config(&self.worker, later(self.clock.now(), OWNED_FOR)).await?;
        *is_held = true;
        Ok(())
    }

    /// Keeps the configuration for a while longer, if it is still ours, and returns whether it is. That another process
    /// has taken it is logged once.
    ///
    /// # Errors
    /// When the store fails; then it is as it was, until its time runs out.
    pub async fn renew(&self) -> Result<bool, StoreError> {
        let mut is_held = self.is_held.lock().await;
        if *is_held && !self.store.renew_config(&self.worker, later(self.clock.now(), OWNED_FOR)).await? {
            *is_held = false;
            tracing::info!(
                "another process holds the configuration now; until this one is reloaded, it goes on with what the two have \
                 in common, and writes no keys or limits"
            );
        }
        Ok(*is_held)
    }

    /// Whether it was held when it was last looked at.
    pub async fn is_held(&self) -> bool {
        *self.is_held.lock().await
    }

    /// Gives the configuration up, if it is ours.
    ///
    /// # Errors
    /// When the store fails; then others take this process for the owner until its time runs out.
    pub async fn give_up(&self) -> Result<(), StoreError> {
        *self.is_held.lock().await = false;
        self.store.disown_config(&self.worker).await
    }
}
