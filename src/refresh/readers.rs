//! What follows from what was read, by the minute: read times are stored, and keys that exist for readers and have had none
//! for long are polled no longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Refresher;
use super::ownership::Ownership;
use crate::domain::time::{earlier, later};
use crate::store::{Reads, StoreError};

/// How often read times are stored, and how exact they are.
const EVERY: Duration = Duration::from_secs(60);

/// How long other processes may take to store theirs.
const GRACE: Duration = Duration::from_secs(120);

/// Looks once a minute until `stop` is cancelled, and once more then.
pub async fn keep(
    refreshers: watch::Receiver<Arc<Refresher>>,
    owner: Arc<Ownership>,
    reads: Arc<Reads>,
    stop: CancellationToken,
) {
    loop {
        let refresher = Arc::clone(&refreshers.borrow());
        let clock = Arc::clone(&refresher.clock);
        let is_over = stop.run_until_cancelled(clock.sleep_until(later(clock.now(), EVERY))).await.is_none();
        let stored = store_reads(&refresher, &reads).await;
        let looked = match stored {
            Ok(()) if !is_over && owner.is_held().await => retire_unread(&refresher).await,
            stored => stored,
        };
        if let Err(error) = looked {
            tracing::warn!(%error, "could not store which keys were read, or look for those that are not");
        }
        if is_over {
            return;
        }
    }
}

/// Stores what was read since the last time. What could not be stored is forgotten: the next reads of the same keys say the same.
///
/// # Errors
/// When the store fails.
pub async fn store_reads(refresher: &Refresher, reads: &Reads) -> Result<(), StoreError> {
    let read = reads.take();
    if read.is_empty() { Ok(()) } else { refresher.store.note_reads(&read, refresher.clock.now()).await }
}

/// Polls no longer what has had no reader for long.
///
/// # Errors
/// When the store fails.
pub async fn retire_unread(refresher: &Refresher) -> Result<(), StoreError> {
    let now = refresher.clock.now();
    for (id, source) in refresher.roster.sources() {
        let Some(rules) = &source.on_demand else { continue };
        let since = earlier(earlier(now, rules.idle_after), GRACE);
        let retired = refresher.store.retire_unread(id, since).await?;
        if retired > 0 {
            tracing::info!(source = %source.name, retired, "keys that nobody has read for idle_after are no longer polled");
        }
    }
    Ok(())
}
