//! The process's clockwork: a heartbeat and housekeeping, as cron jobs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::Refresher;
use super::ownership::Ownership;
use crate::announce::Announcement;
use crate::clock::SystemClock;
use crate::config::Database;
use crate::store::PruneRules;

// Cron jobs, with seconds: the scheduler's repeated jobs can stop for ever
// (https://github.com/mvniekerk/tokio-cron-scheduler/issues/113).
const HEARTBEAT: &str = "*/30 * * * * *";
const ANCHOR: &str = "15 * * * * *";
const PRUNE: &str = "45 */10 * * * *";

/// How long the ids of applied batches are kept.
const APPLIED: Duration = Duration::from_secs(3600);

/// Running jobs; they end with [`stop`](Self::stop).
pub struct Clockwork {
    scheduler: JobScheduler,
}

impl Clockwork {
    /// Starts the jobs. What is kept for how long is looked up in `database` each time.
    ///
    /// # Errors
    /// When the scheduler does not start.
    pub async fn start(
        refresher: Arc<Refresher>,
        ownership: Arc<Ownership>,
        clock: Arc<SystemClock>,
        database: watch::Receiver<Database>,
    ) -> Result<Self, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        let beating = Arc::clone(&refresher);
        scheduler
            .add(job(HEARTBEAT, move || {
                let (refresher, ownership) = (Arc::clone(&beating), Arc::clone(&ownership));
                async move {
                    // Wakes every lane, in case a wake-up was lost on its way from another process.
                    refresher.announcer.announce(Announcement::LookAround);
                    if let Err(error) = ownership.renew().await {
                        tracing::warn!(%error, "could not say that this process owns the configuration");
                    }
                }
            })?)
            .await?;
        let anchored = Arc::clone(&refresher);
        scheduler
            .add(job(ANCHOR, move || {
                let (refresher, clock) = (Arc::clone(&anchored), Arc::clone(&clock));
                async move {
                    match refresher.store.database_time().await {
                        Ok(Some(now)) => clock.anchor(now),
                        Ok(None) => clock.anchor_locally(),
                        Err(error) => tracing::warn!(%error, "could not read the database's time"),
                    }
                }
            })?)
            .await?;
        scheduler
            .add(job(PRUNE, move || {
                let refresher = Arc::clone(&refresher);
                let (retired, changes) = kept(&database.borrow());
                async move {
                    let rules = PruneRules { now: refresher.clock.now(), retired, changes, applied: APPLIED };
                    match refresher.store.prune(&rules).await {
                        Ok(0) => {}
                        Ok(rows) => tracing::info!(rows, "deleted what had outlived its retention"),
                        Err(error) => tracing::warn!(%error, "could not delete what has outlived its retention"),
                    }
                }
            })?)
            .await?;
        scheduler.start().await?;
        Ok(Self { scheduler })
    }

    /// Stops the jobs; one that is running ends by itself.
    pub async fn stop(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(%error, "the clockwork did not stop well");
        }
    }
}

/// How long retired keys keep their data, and how long the feed is.
fn kept(database: &Database) -> (Duration, Duration) {
    (database.retention, database.keep_changes)
}

/// A job that never overlaps with itself: a turn that comes while the last one still runs is left out.
fn job<F, W>(cron: &str, work: F) -> Result<Job, JobSchedulerError>
where
    F: Fn() -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let turn = Arc::new(Mutex::new(()));
    let work = Arc::new(work);
    Job::new_async(cron, move |_, _| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (turn, work) = (Arc::clone(&turn), Arc::clone(&work));
        Box::pin(async move {
            if let Ok(_turn) = turn.try_lock() {
                work().await;
            }
        })
    })
}
