//! One upstream's due loop.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use super::batch::{Flown, by_request, fly_all, take_unfitting};
use super::committer::Committer;
use super::complaint::Complaint;
use super::flight::Ticket;
use super::releases::{Leased, Releases};
use super::tally::{Tally, Verdict};
use super::task::{Task, Until};
use super::{Refresher, UpstreamSettings};
use crate::announce::{Announcement, Listener};
use crate::clock::monotonic;
use crate::config::Source;
use crate::domain::governor::Wait;
use crate::domain::resource::{Key, SourceId};
use crate::store::{Claim, ClaimRequest, Claimed, Selection, StoreError};
use crate::telemetry::metrics;

/// How long to wait after a claim that the store could not answer.
const STORE_WAIT: TimeDelta = TimeDelta::seconds(1);

/// How long to wait after a claim of some sources: unlike one of all, it does not tell when more of them will be due.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(1);

/// How long a lane waits for more flights to land before it claims for those that have.
const MOMENT: Duration = Duration::from_millis(2);

/// The loop of one upstream.
pub struct Lane {
    refresher: Arc<Refresher>,
    committer: Committer,
    upstream: UpstreamSettings,
    task: Task,
    tally: Option<Arc<Tally>>,
    // All in the lane's own task: what one waits for mostly comes in batches that others wait for too, and waking a task
    // of its own for each would cost more than the rest of a refresh.
    flights: FuturesUnordered<BoxFuture<'static, Landing>>,
    airborne: HashMap<Leased, Airborne>,
    releases: Releases,
    complaint: Complaint,
    // What makes long flights end early.
    stop: CancellationToken,
    // What answers had in them that nobody asked for.
    oddity: Complaint,
}

/// What a claim came to.
struct Claims {
    ask_again_at: Option<DateTime<Utc>>,
    wait: Option<Wait>,
}

/// What a flight brings: of each of its claims, what became of it, and what nobody asked for.
type Landing = (Vec<(Leased, Verdict)>, Option<String>);

/// What a flight carries, for when it does not come back.
struct Airborne {
    source: SourceId,
    key: Key,
}

impl Lane {
    /// A lane that has not started.
    #[must_use]
    pub fn new(
        refresher: Arc<Refresher>,
        committer: Committer,
        upstream: UpstreamSettings,
        task: Task,
        tally: Option<Arc<Tally>>,
    ) -> Self {
        let (flights, airborne) = (FuturesUnordered::new(), HashMap::new());
        let releases = Releases::new(Arc::clone(&refresher.store));
        let (complaint, oddity) = <(Complaint, Complaint)>::default();
        let stop = CancellationToken::new();
        Self { refresher, committer, upstream, task, tally, flights, airborne, releases, complaint, stop, oddity }
    }

    /// Claims and flies until the task is done or `stop` is cancelled; then waits for what is under way, at most until
    /// `abandon` is cancelled, and gives back what is left.
    ///
    /// # Errors
    /// When the store can't be used any more, for a task that ends by itself; others wait until it can.
    pub async fn run(mut self, stop: CancellationToken, abandon: CancellationToken) -> Result<(), StoreError> {
        // Listening begins before the first look at what is due, so that no wish falls between the two.
        self.stop = stop.clone();
        let mut news = self.refresher.announcer.listen();
        let mut result = Ok(());
        while !stop.is_cancelled() {
            let asked_at = self.refresher.clock.now();
            let claims = match self.claim_and_launch().await {
                Ok(claims) => {
                    self.complaint.is_over();
                    claims
                }
                Err(error) if self.task.until != Until::Stopped && !error.is_passing() => {
                    result = Err(error);
                    break;
                }
                Err(error) => {
                    self.complain(&error);
                    Claims { ask_again_at: Some(asked_at + STORE_WAIT), wait: None }
                }
            };
            self.releases.give_back_held();
            if self.flights.is_empty() {
                if !self.releases.are_none() {
                    // What is given back was missing from this claim.
                    self.releases.all_given_back().await;
                    continue;
                }
                if self.is_done(asked_at).await || self.is_in_vain(claims.wait, asked_at) {
                    break;
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(flown) = self.flights.next() => {
                    self.land(flown);
                    self.gather().await;
                }
                () = wake(&mut news, self.task.until) => {}
                () = sleep_until(&self.refresher, claims.ask_again_at) => {}
            }
        }
        self.wind_up(&abandon).await;
        result
    }

    /// Says why nothing could be claimed; of a database that is away for long, not every second.
    fn complain(&mut self, error: &StoreError) {
        let upstream = &self.upstream.name;
        if self.complaint.is_due(error.to_string(), monotonic()) {
            tracing::warn!(%error, upstream, "could not claim; trying again, and saying the same once a minute");
        } else {
            tracing::debug!(%error, upstream, "could not claim; trying again");
        }
    }

    /// Claims as much as there is room for, and sends it on its way.
    async fn claim_and_launch(&mut self) -> Result<Claims, StoreError> {
        let room =
            self.upstream.limits.max_concurrent.saturating_sub(u32::try_from(self.flights.len()).unwrap_or(u32::MAX));
        if room == 0 {
            return Ok(Claims { ask_again_at: None, wait: None });
        }
        let UpstreamSettings { id: upstream, limits, lease_for, ref together, .. } = self.upstream;
        let request = ClaimRequest {
            worker: self.refresher.worker.clone(),
            upstream,
            at_most: room,
            which: self.task.which.clone(),
            due_by: self.task.due_by,
            lease_for,
            together: together.clone(),
        };
        let Claimed { claims, mut ask_again_at, wait } = self.claim(&request).await?;
        let ticket = Ticket { upstream, limits, lease_for, stop: self.stop.clone() };
        let mut others = Vec::new();
        for claim in &claims {
            metrics::leased(&self.upstream.name, (claim.granted_at - claim.due.at).to_std().unwrap_or_default());
        }
        for mut members in by_request(claims) {
            match members.first().and_then(|claim| self.refresher.roster.source_of(claim)).cloned() {
                Some(source) => {
                    let unfitting = take_unfitting(&source, &mut members);
                    if !unfitting.is_empty() {
                        self.releases.give_back(unfitting.iter().map(|claim| (claim.token, claim.resource)).collect());
                    }
                    self.launch(source, members, ticket.clone());
                }
                None => others.extend(members),
            }
        }
        if !others.is_empty() {
            self.leave(&others);
            ask_again_at = Some(self.refresher.clock.now());
        }
        if self.task.until == Until::Stopped && matches!(self.task.which, Selection::Sources(_)) {
            let again = self.refresher.clock.now() + LOOK_AGAIN;
            ask_again_at = Some(ask_again_at.map_or(again, |at| at.min(again)));
        }
        metrics::in_flight(&self.upstream.name, self.airborne.len());
        Ok(Claims { ask_again_at, wait })
    }

    /// Claims, and lets flights go on meanwhile.
    async fn claim(&mut self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        let store = Arc::clone(&self.refresher.store);
        let mut claiming = store.claim(request);
        loop {
            tokio::select! {
                claimed = &mut claiming => return claimed,
                Some(flown) = self.flights.next() => self.land(flown),
            }
        }
    }

    /// Leaves sources to others from now on: those that another process's configuration has, or asks for something else. To
    /// ask as we know would bring answers to another question. What else falls due is then looked for every second.
    fn leave(&mut self, claims: &[Claim]) {
        let left: BTreeSet<SourceId> = claims.iter().map(|claim| claim.source).collect();
        let named = |id: &SourceId| {
            self.refresher
                .roster
                .source(*id)
                .map_or_else(|| format!("number {}", id.0), |source| source.name.to_string())
        };
        tracing::debug!(
            upstream = self.upstream.name,
            sources = left.iter().map(named).collect::<Vec<_>>().join(", "),
            "left to whoever holds the configuration by now: it has these sources, or asks for them otherwise"
        );
        let mut kept = match &self.task.which {
            Selection::All => self.upstream.sources.clone(),
            Selection::Sources(sources) => sources.clone(),
            // They are of the one source that is left.
            Selection::Resources(_) => Vec::new(),
        };
        kept.retain(|source| !left.contains(source));
        self.task.which = Selection::Sources(kept);
        self.releases.give_back(claims.iter().map(|claim| (claim.token, claim.resource)).collect());
    }

    /// Sends what one request asks for on its way.
    fn launch(&mut self, source: Arc<Source>, claims: Vec<Claim>, ticket: Ticket) {
        let (refresher, committer) = (Arc::clone(&self.refresher), self.committer.clone());
        let leased: Vec<Leased> = claims.iter().map(|claim| (claim.token, claim.resource)).collect();
        let airborne = claims.iter().map(|claim| Airborne { source: claim.source, key: claim.key.clone() });
        self.airborne.extend(leased.iter().copied().zip(airborne));
        let flight = async move {
            // A panic ends one flight, not the lane; the panic hook has reported it.
            let flight = AssertUnwindSafe(fly_all(&refresher, &committer, source, claims, ticket)).catch_unwind();
            let given_up = |why: String| leased.iter().map(|_| Verdict::GivenUp(why.clone())).collect();
            let (verdicts, odd) = match flight.await {
                Ok(Ok(Flown { verdicts, odd })) => (verdicts, odd),
                Ok(Err(error)) => (given_up(error.to_string()), None),
                Err(_) => (given_up("it ended abnormally; the log says how".into()), None),
            };
            (leased.into_iter().zip(verdicts).collect(), odd)
        };
        self.flights.push(flight.boxed());
    }

    fn land(&mut self, (verdicts, odd): Landing) {
        if let Some(odd) = odd {
            self.tell_odd(verdicts.first().map(|(leased, _)| *leased), &odd);
        }
        for (leased, verdict) in verdicts {
            self.land_one(leased, &verdict);
        }
    }

    /// Says what came that nobody asked for, once a minute.
    fn tell_odd(&mut self, of: Option<Leased>, odd: &str) {
        let flown = of.and_then(|leased| self.airborne.get(&leased));
        let Some(source) = flown.and_then(|flown| self.refresher.roster.source(flown.source)) else { return };
        if self.oddity.is_due(source.name.to_string(), monotonic()) {
            tracing::warn!(
                source = %source.name, items = odd,
                "an answer to a batch has items that are ignored; more of the same are logged at debug level for a minute"
            );
        } else {
            tracing::debug!(source = %source.name, items = odd, "an answer to a batch has items that are ignored");
        }
    }

    fn land_one(&mut self, leased: Leased, verdict: &Verdict) {
        let Some(flown) = self.airborne.remove(&leased) else { return };
        if let Verdict::GivenUp(why) = verdict {
            tracing::warn!(why, key = %flown.key, "a refresh was given up");
            self.releases.give_back(vec![leased]);
        }
        if *verdict == Verdict::HeldBack {
            self.releases.hold_back(leased);
        }
        self.count(&flown, verdict);
    }

    /// Lets more flights land, until half of the places are free or a moment has passed: one claim then does for all of
    /// them, and so will the commit of what it brings.
    async fn gather(&mut self) {
        let half = usize::try_from(self.upstream.limits.max_concurrent / 2).unwrap_or(usize::MAX);
        let mut moment = std::pin::pin!(tokio::time::sleep(MOMENT));
        while self.flights.len() > half {
            tokio::select! {
                Some(flown) = self.flights.next() => self.land(flown),
                () = &mut moment => return,
            }
        }
        while let Some(Some(flown)) = self.flights.next().now_or_never() {
            self.land(flown);
        }
    }

    fn count(&self, flown: &Airborne, verdict: &Verdict) {
        let Some(source) = self.refresher.roster.source(flown.source) else { return };
        metrics::refreshed(source.name.as_str(), &source.upstream, verdict.as_str());
        if let Some(failure) = verdict.failure() {
            metrics::refresh_failed(source.name.as_str(), &source.upstream, failure.kind.as_str());
        }
        if let Some(tally) = &self.tally {
            tally.count(&source.name, &flown.key, verdict);
        }
    }

    async fn is_done(&mut self, now: DateTime<Utc>) -> bool {
        if self.task.until == Until::Stopped {
            return false;
        }
        match self.refresher.store.backlog(&self.task.which, self.task.due_by.unwrap_or(now)).await {
            Ok(left) => left.waiting == 0 && (self.task.until == Until::NothingWaits || left.leased == 0),
            Err(error) => {
                tracing::warn!(%error, "could not count what is left; trying again");
                false
            }
        }
    }

    /// Whether what is left of the task waits for longer than anyone would, and says so.
    fn is_in_vain(&self, wait: Option<Wait>, now: DateTime<Utc>) -> bool {
        let Some(wait) = wait.filter(|_| self.task.until != Until::Stopped) else { return false };
        let is_in_vain = (wait.until - now).to_std().is_ok_and(|left| left > self.task.patience);
        if let (Some(tally), true) = (&self.tally, is_in_vain) {
            tally.gave_up_waiting(&self.upstream.name, &wait);
        }
        is_in_vain
    }

    async fn wind_up(mut self, abandon: &CancellationToken) {
        loop {
            tokio::select! {
                flown = self.flights.next() => {
                    let Some(flown) = flown else { break };
                    self.land(flown);
                    // Its place is free for the lane that may have followed this one.
                    self.refresher.announcer.announce(Announcement::LookAround);
                }
                () = abandon.cancelled() => break,
            }
        }
        self.flights.clear();
        self.releases.give_back_held();
        let leased: Vec<_> = self.airborne.keys().copied().collect();
        if !leased.is_empty() {
            self.releases.give_back(leased);
        }
        self.releases.all_given_back().await;
        // The lane that may have followed this one says how many it has when it claims next.
        metrics::in_flight(&self.upstream.name, 0);
    }
}

/// Returns when there may be something to claim, or nothing to wait for, that was not so before.
async fn wake(news: &mut Listener, until: Until) {
    while let Some(Announcement::Settled(_)) = news.next().await {
        // What was settled elsewhere may be what a task that ends waits for. For the others it is due in the future.
        if until != Until::Stopped {
            return;
        }
    }
}

async fn sleep_until(refresher: &Refresher, at: Option<DateTime<Utc>>) {
    match at {
        Some(at) => refresher.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
