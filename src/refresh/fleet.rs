//! All lanes of a process that refreshes until it is told to stop, by whatever configuration holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Refresher;
use super::committer::Committer;
use super::lane::Lane;
use super::task::{Task, Until};
use crate::store::{Selection, StoreError};

/// Flies a lane for each upstream of the present refresher until `stop` is cancelled, and returns when all have landed; what
/// is under way when `abandon` is cancelled is given back.
///
/// When another refresher is sent, new lanes begin at once, and those of the last one claim nothing more: what they have
/// under way lands as it would have. Meanwhile an upstream may have two lanes. Its limits hold all the same, since the store
/// counts leases and tokens, whoever has them.
///
/// # Errors
/// When a lane panicked. The others are told to stop, and have landed.
pub async fn fly(
    mut refreshers: watch::Receiver<Arc<Refresher>>,
    committer: Committer,
    stop: CancellationToken,
    abandon: CancellationToken,
) -> Result<(), JoinError> {
    let mut lanes = JoinSet::new();
    let mut panicked = Ok(());
    while !stop.is_cancelled() && panicked.is_ok() {
        let refresher = Arc::clone(&refreshers.borrow_and_update());
        let present = stop.child_token();
        for upstream in refresher.roster.upstreams() {
            let (which, until, patience) = (Selection::All, Until::Stopped, Duration::MAX);
            let task = Task { which, due_by: None, until, patience };
            let lane = Lane::new(Arc::clone(&refresher), committer.clone(), upstream.clone(), task, None);
            lanes.spawn(lane.run(present.clone(), abandon.clone()));
        }
        tokio::select! {
            ended = first_panic(&mut lanes) => panicked = ended,
            () = another(&mut refreshers) => {}
            () = stop.cancelled() => {}
        }
        present.cancel();
    }
    panicked.and(all_landed(&mut lanes).await)
}

/// Returns when there is another refresher; never, when there can be none any more.
async fn another(refreshers: &mut watch::Receiver<Arc<Refresher>>) {
    if refreshers.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

type Lanes = JoinSet<Result<(), StoreError>>;

/// Takes lanes that have landed out of the set, and returns when one has panicked.
async fn first_panic(lanes: &mut Lanes) -> Result<(), JoinError> {
    while let Some(landed) = lanes.join_next().await {
        // A lane that never ends by itself has no result.
        landed.map(drop)?;
    }
    std::future::pending().await
}

async fn all_landed(lanes: &mut Lanes) -> Result<(), JoinError> {
    let mut all = Ok(());
    while let Some(landed) = lanes.join_next().await {
        all = all.and(landed.map(drop));
    }
    all
}
