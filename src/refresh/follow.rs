//! Hears from the database what other processes did, and passes it on within this one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::announce::{Announcement, Announcer};
use crate::store::{News, Store, StoreError};

/// The shortest time between two looks: under load, commits come faster than anyone needs to hear of each.
const BREATH: Duration = Duration::from_millis(50);
/// How long to wait after the store failed.
const STORE_WAIT: Duration = Duration::from_secs(1);

/// Passes news on until `stop` is cancelled.
pub async fn follow(store: Arc<dyn Store>, announcer: Announcer, stop: CancellationToken) {
    let follow = async {
        loop {
            if let Err(error) = follow_while_well(store.as_ref(), &announcer).await {
                tracing::warn!(%error, "could not follow what other processes do; trying again");
                tokio::time::sleep(STORE_WAIT).await;
            }
        }
    };
    stop.run_until_cancelled(follow).await;
}

async fn follow_while_well(store: &dyn Store, announcer: &Announcer) -> Result<(), StoreError> {
    // The follower stands before the first look, so that nothing falls between the two.
    let mut follower = store.follow().await?;
    let mut seen = store.applied_since(i64::MAX).await?;
    announcer.announce(Announcement::LookAround);
    loop {
        let news = follower.news().await?;
        let applied = store.applied_since(seen.newest).await?;
        match &applied.resources {
            Some(settled) if news == News::Something => announcer.announce(Announcement::Settled(settled[..].into())),
            _ => announcer.announce(Announcement::LookAround),
        }
        if applied.wishes != seen.wishes {
            announcer.announce(Announcement::Wanted);
        }
        seen = applied;
        tokio::time::sleep(BREATH).await;
    }
}
