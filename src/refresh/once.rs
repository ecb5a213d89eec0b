//! One-shot refresh: lanes that run until nothing is left.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::committer::Committer;
use super::follow::follow;
use super::lane::Lane;
use super::tally::{Counts, Tally};
use super::task::{Task, Until};
use super::{Refresher, UpstreamSettings};
use crate::domain::resource::{ResourceId, SourceId};
use crate::store::{Selection, StoreError};

/// What to refresh.
#[derive(Debug, Clone)]
pub enum Target {
    /// All resources of these sources.
    Sources(Vec<SourceId>),
    /// These resources of one source.
    Resources(SourceId, Vec<ResourceId>),
}

/// How to refresh it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Also what isn't due.
    pub force: bool,
    /// Also wait for what other processes are fetching.
    pub wait: bool,
    /// How long to wait at the most for an upstream that wants to be left alone.
    pub patience: Duration,
}

/// One run of [`Refresher`] over a target.
#[derive(Debug)]
pub struct Run {
    refresher: Arc<Refresher>,
    target: Target,
    manner: Manner,
    started_at: DateTime<Utc>,
    tally: Arc<Tally>,
    /// How many resources the run is about.
    pub expected: u64,
}

impl Run {
    /// Makes a run, and with `force` its resources due.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(refresher: Arc<Refresher>, target: Target, manner: Manner) -> Result<Self, StoreError> {
        let started_at = refresher.clock.now();
        let which = target.selection();
        if manner.force {
            refresher.store.want(&which, started_at).await?;
        }
        let backlog = refresher.store.backlog(&which, started_at).await?;
        let expected = backlog.waiting + backlog.leased;
        Ok(Self { refresher, target, manner, started_at, tally: Arc::default(), expected })
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Works until nothing is left of what was due at the start, `stop` is cancelled, or what is left would have to be waited for
    /// for longer than is wanted.
    ///
    /// # Errors
    /// When the store can't be used any more. (It is waited for when it is only busy or away.)
    pub async fn finish(&self, stop: &CancellationToken, abandon: &CancellationToken) -> Result<Counts, StoreError> {
        let refresher = &self.refresher;
        let (committer, commits) = Committer::new(refresher, abandon.clone());
        let commits = tokio::spawn(commits);
        let done = CancellationToken::new();
        let following = tokio::spawn(follow(Arc::clone(&refresher.store), refresher.announcer.clone(), done.clone()));
        let mut lanes = JoinSet::new();
        for upstream in refresher.roster.upstreams() {
            let Some(which) = self.target.within(upstream) else { continue };
            let until = if self.manner.wait { Until::NothingIsLeft } else { Until::NothingWaits };
            let task = Task { which, due_by: Some(self.started_at), until, patience: self.manner.patience };
            let tally = Some(Arc::clone(&self.tally));
            let lane = Lane::new(Arc::clone(refresher), committer.clone(), upstream.clone(), task, tally);
            lanes.spawn(lane.run(stop.clone(), abandon.clone()));
        }
        drop(committer);
        let mut ended = Ok(());
        while let Some(lane) = lanes.join_next().await {
            let abnormal = |error| Err(StoreError::Unavailable(format!("a lane ended abnormally: {error}")));
            ended = ended.and(lane.unwrap_or_else(abnormal));
        }
        done.cancel();
        // Both end now; what a panic in one of them lost has been counted as given up.
        _ = tokio::join!(commits, following);
        ended?;
        let mut counts = self.tally.counts();
        if !counts.waits.is_empty() {
            counts.waiting = refresher.store.backlog(&self.target.selection(), self.started_at).await?.waiting;
        }
        counts.elsewhere = self.expected.saturating_sub(counts.total() - counts.elsewhere);
        Ok(counts)
    }
}

impl Target {
    fn selection(&self) -> Selection {
        match self {
            Self::Sources(sources) => Selection::Sources(sources.clone()),
            Self::Resources(_, resources) => Selection::Resources(resources.clone()),
        }
    }

    /// The part of the target that belongs to an upstream.
    fn within(&self, upstream: &UpstreamSettings) -> Option<Selection> {
        match self {
            Self::Sources(sources) => {
                let here: Vec<_> = sources.iter().copied().filter(|source| upstream.sources.contains(source)).collect();
                (!here.is_empty()).then_some(Selection::Sources(here))
            }
            Self::Resources(source, resources) => {
                upstream.sources.contains(source).then(|| Selection::Resources(resources.clone()))
            }
        }
    }
}
