//! Group commit: what the flights of all lanes bring goes into as few transactions as it can.
//!
//! There is no waiting for more: while one batch is being committed, the next gathers. So a lone outcome is stored at
//! once, and the batches grow with the load.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Refresher;
use super::notices::Notices;
use super::tally::Verdict;
use super::turns;
use crate::announce::{Announcement, Announcer};
use crate::clock::{Clock, monotonic};
use crate::config::Source;
use crate::domain::decision::{Deferral, Outcome, defer};
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::governor::Signal;
use crate::domain::resource::SourceName;
use crate::store::{Applied, Claim, Fate, GoneBudget, Settled, Store, StoreError};

/// The most outcomes of one transaction.
const BATCH: usize = 1024;
/// The most bytes of bodies in one transaction, unless a single body is larger.
const BATCH_BYTES: usize = 32 << 20;
/// How long to wait before trying a commit again that failed for a passing reason, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How often one source's failures are logged as a warning.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Takes outcomes and stores them.
#[derive(Debug, Clone)]
pub struct Committer {
    landings: mpsc::Sender<(Settled, Landing)>,
}

/// Where an outcome on its way to the store comes from, and who waits for it.
#[derive(Debug)]
struct Landing {
    claim: Arc<Claim>,
    source: Arc<Source>,
    reply: oneshot::Sender<Verdict>,
}

/// What was decided about a claim.
#[derive(Debug)]
pub struct Decided {
    /// When.
    pub at: DateTime<Utc>,
    /// What follows for the resource.
    pub outcome: Outcome,
    /// What was heard of the upstream.
    pub signal: Signal,
}

/// Outcomes of one transaction, and the landing of each.
#[derive(Debug, Default)]
struct Batch {
    settled: Vec<Settled>,
    landings: Vec<Landing>,
}

impl Batch {
    fn push(&mut self, (settled, landing): (Settled, Landing)) {
        self.settled.push(settled);
        self.landings.push(landing);
    }

    fn len(&self) -> usize {
        self.settled.len()
    }

    /// Takes the second half out.
    fn split_off_half(&mut self) -> Self {
        let half = self.len() / 2;
        Self { settled: self.settled.split_off(half), landings: self.landings.split_off(half) }
    }
}

impl Committer {
    /// A committer, and the work that it needs someone to run: it ends when all of the committer's clones are gone and
    /// everything is stored.
    ///
    /// A database that is away or full is waited for, with the outcomes in hand, until `abandon` is cancelled.
    pub fn new(refresher: &Refresher, abandon: CancellationToken) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (landings, arriving) = mpsc::channel(BATCH * 2);
        let desk = Desk {
            store: Arc::clone(&refresher.store),
            clock: Arc::clone(&refresher.clock),
            announcer: refresher.announcer.clone(),
            abandon,
            quiet_until: HashMap::new(),
            notices: Notices::default(),
        };
        (Self { landings }, desk.run(arriving))
    }

    /// Hands an outcome over and waits for what becomes of it.
    pub async fn settle(&self, claim: Arc<Claim>, source: Arc<Source>, decided: Decided) -> Verdict {
        let Decided { at: decided_at, outcome, signal } = decided;
        let period = source.policy.cadence.interval(decided_at);
        let settled = Settled {
            token: claim.token,
            resource: claim.resource,
            requested_at: known_at(&claim),
            decided_at,
            outcome,
            gone_budget: GoneBudget { share: source.max_delete_share, period },
            signal,
        };
        let (reply, landed) = oneshot::channel();
        if self.landings.send((settled, Landing { claim, source, reply })).await.is_err() {
            return Verdict::GivenUp("nothing is stored any more".into());
        }
        landed.await.unwrap_or_else(|_| Verdict::GivenUp("it was not stored".into()))
    }
}

/// When it was known what to ask. Not when the request was sent, which may be later: what it asked for was read with the
/// claim. And the claim fulfils the wish that it was made for, also when the wisher's clock is ahead of this one.
fn known_at(claim: &Claim) -> DateTime<Utc> {
    claim.wanted_at.map_or(claim.granted_at, |wanted_at| claim.granted_at.max(wanted_at))
}

/// Where the landings arrive.
struct Desk {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    announcer: Announcer,
    abandon: CancellationToken,
    quiet_until: HashMap<SourceName, Instant>,
    notices: Notices,
}

impl Desk {
    async fn run(mut self, mut arriving: mpsc::Receiver<(Settled, Landing)>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(one) => one,
                None => match arriving.recv().await {
                    Some(one) => one,
                    None => return,
                },
            };
            let mut bytes = body_bytes(&first.0);
            let mut batch = Batch::default();
            batch.push(first);
            while batch.len() < BATCH {
                let Ok(one) = arriving.try_recv() else { break };
                bytes += body_bytes(&one.0);
                if bytes > BATCH_BYTES {
                    next = Some(one);
                    break;
                }
                batch.push(one);
            }
            self.commit(batch).await;
        }
    }

    /// Commits a batch. Data that the database rejects is narrowed down by halves, so that only the offending outcome fails.
    async fn commit(&mut self, batch: Batch) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.apply_patiently(&part.settled).await {
                Ok(applied) => self.landed(part, applied),
                Err(StoreError::Rejected(_)) if part.len() > 1 => {
                    let rest = part.split_off_half();
                    parts.extend([rest, part]);
                }
                Err(error @ StoreError::Rejected(_)) => parts.extend(self.unstorable(part, &error)),
                Err(error) => {
                    tracing::error!(%error, outcomes = part.len(), "not stored; they are due again");
                    for landing in part.landings {
                        _ = landing.reply.send(Verdict::GivenUp(error.to_string()));
                    }
                }
            }
        }
    }

    /// Applies, with the results in hand for as long as the data isn't to blame and nobody says to give up.
    async fn apply_patiently(&self, settled: &[Settled]) -> Result<Applied, StoreError> {
        let mut wait = RETRY.0;
        loop {
            match self.store.apply(settled).await {
                Ok(applied) => return Ok(applied),
                Err(error @ StoreError::Rejected(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, outcomes = settled.len(), "could not store; trying again");
                    if self.abandon.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return Err(error);
                    }
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    /// What to store instead of a lone outcome that the database rejects: a failure that says so. `None` when that was
    /// what it rejected.
    fn unstorable(&self, mut lone: Batch, error: &StoreError) -> Option<Batch> {
        let (settled, landing) = (lone.settled.first_mut()?, lone.landings.first()?);
        tracing::error!(%error, key = %landing.claim.key, "the database rejects an outcome");
        if matches!(&settled.outcome, Outcome::Deferred(d) if d.failing.last.kind == FailureKind::Unstorable) {
            return None;
        }
        let detail = "the database refused to store what came; the log says why".into();
        let failure = Failure { kind: FailureKind::Unstorable, status: None, detail };
        let now = self.clock.now();
        settled.outcome = defer(&landing.source.policy, &landing.claim.previous, failure, now, fastrand::f64());
        Some(lone)
    }

    fn landed(&mut self, batch: Batch, Applied { fates, turns, .. }: Applied) {
        for (_, turn) in &turns {
            if let Some(by) = batch.landings.iter().find(|landing| turns::is_of(turn, &landing.claim)) {
                turns::tell(turn, &by.source, &by.claim);
            }
        }
        let resources = batch.settled.iter().map(|one| one.resource).collect();
        for ((settled, landing), fate) in batch.settled.iter().zip(batch.landings).zip(fates) {
            let verdict = match (fate, &settled.outcome) {
                (Fate::LeaseLost, _) => Verdict::Lost,
                (Fate::Held, Outcome::Gone(absent)) => match &absent.held {
                    Some(held) => Verdict::Failed(held.failing.last.clone()),
                    None => Verdict::Gone,
                },
                (_, outcome) => Verdict::of(outcome),
            };
            self.log(&landing, &verdict);
            if fate == Fate::Committed {
                self.notices.tell(&landing.source.name, &landing.claim.key, &settled.outcome);
            }
            // Whoever waited may be gone after a shutdown; the outcome is stored all the same.
            _ = landing.reply.send(verdict);
        }
        self.announcer.announce(Announcement::Settled(resources));
    }

    fn log(&mut self, landing: &Landing, verdict: &Verdict) {
        let key = &landing.claim.key;
        let source = &landing.source.name;
        let Verdict::Failed(failure) = verdict else {
            let because = landing.claim.due.because.as_str();
            tracing::debug!(%source, %key, because, ?verdict, "refreshed");
            return;
        };
        let now = monotonic();
        if self.quiet_until.get(source).is_some_and(|until| now < *until) {
            tracing::debug!(%source, %key, kind = %failure.kind, detail = failure.detail, "not refreshed");
        } else {
            self.quiet_until.insert(source.clone(), now + WARN_EVERY);
            tracing::warn!(
                %source, %key, kind = %failure.kind, detail = failure.detail,
                "not refreshed; more failures of this source within a minute are logged at debug level"
            );
        }
    }
}

fn body_bytes(settled: &Settled) -> usize {
    match &settled.outcome {
        Outcome::Replaced(replacement) => replacement.snapshot.body.len(),
        Outcome::Deferred(Deferral { refused: Some(refused), .. }) => {
            refused.body.as_ref().map_or(0, bytes::Bytes::len)
        }
        _ => 0,
    }
}
