//! One claim's way: fetch, decide, and hand over for commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::Refresher;
use super::committer::{Committer, Decided};
use super::tally::Verdict;
use super::walk;
use crate::clock::monotonic;
use crate::config::{Ask, BadAsk, Source};
use crate::domain::decision::{Outcome, decide, defer};
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::governor::{Hearing, Said, Signal};
use crate::domain::limit::Limits;
use crate::domain::observation::{Observation, Seen, Via};
use crate::domain::resource::UpstreamId;
use crate::domain::schedule::Because;
use crate::store::{Claim, StoreError};
use crate::telemetry::metrics;
use crate::upstream::{Exchange, FetchRequest, Halt, TokenGate};

/// The largest body that is looked at without giving up this thread: parsing more would keep other flights waiting.
pub(super) const LOOKED_AT_HERE: usize = 256 << 10;

/// How long what may not be sent in a pause keeps its lease: until the pause is stored, so that it is not leased again at once.
pub(super) const HELD_BACK: Duration = Duration::from_millis(250);

/// What is remembered in place of a path that nobody is shown.
const HIDDEN_PATH: &str = "/…";

/// How its claim was given.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Whose limits it was given by.
    pub upstream: UpstreamId,
    /// These limits.
    pub limits: Limits,
    /// How long the lease lasts from the grant on.
    pub lease_for: Duration,
    /// Cancelled when nothing new is to begin: what consists of several requests ends after the present one.
    pub stop: CancellationToken,
}

/// Fetches one claimed resource of this source, decides, and waits for the commit.
///
/// # Errors
/// When the store failed before anything was sent; the lease then runs out by itself.
pub async fn fly(
    refresher: &Refresher,
    committer: &Committer,
    source: Arc<Source>,
    claim: Claim,
    ticket: Ticket,
) -> Result<Verdict, StoreError> {
    if source.collection.is_some() || claim.key.is_of_walk() {
        return walk::fly(refresher, committer, source, claim, ticket).await;
    }
    let claim = Arc::new(claim);
    let ask = source.ask(&claim.key, &claim.params);
    let (observation, signal) = match observe(refresher, &claim, &source, ask, (&ticket, true)).await {
        Ok(observed) => observed,
        Err(Halt::Store(error)) => return Err(error),
        Err(Halt::Quiet(_)) => {
            tokio::time::sleep(HELD_BACK).await;
            return Ok(Verdict::HeldBack);
        }
    };
    let at = refresher.clock.now();
    let outcome = decide_where_it_fits(&source, &claim, observation, at).await;
    Ok(committer.settle(claim, source, Decided { at, outcome, signal }).await)
}

/// Decides; on a thread for long work when there is a large body to parse.
async fn decide_where_it_fits(
    source: &Arc<Source>,
    claim: &Arc<Claim>,
    observation: Observation,
    now: DateTime<Utc>,
) -> Outcome {
    let is_large = matches!(&observation.seen, Seen::Content { body, .. } if body.len() > LOOKED_AT_HERE);
    if !is_large {
        return decide(&source.policy, &claim.previous, observation, now, fastrand::f64());
    }
    let (for_source, for_claim) = (Arc::clone(source), Arc::clone(claim));
    let deciding = tokio::task::spawn_blocking(move || {
        decide(&for_source.policy, &for_claim.previous, observation, now, fastrand::f64())
    });
    deciding.await.unwrap_or_else(|error| {
        tracing::error!(%error, source = %source.name, key = %claim.key, "could not look at a body");
        let detail = "looking at the body ended abnormally; the log says how".into();
        let failure = Failure { kind: FailureKind::Unparsable, status: Some(200), detail };
        defer(&source.policy, &claim.previous, failure, now, fastrand::f64())
    })
}

/// Asks, for this claim and all that ride with it; by the claim's own token, or by another where that is used up.
pub(super) async fn observe(
    refresher: &Refresher,
    claim: &Claim,
    source: &Source,
    ask: Result<Ask, BadAsk>,
    (ticket, has_token): (&Ticket, bool),
) -> Result<(Observation, Signal), Halt> {
    let has_waited = claim.previous.because == Because::RetryAfter && has_token;
    let hearing = Hearing { has_waited, ..source.policy.hearing(claim.source) };
    let ask = match ask {
        Ok(ask) => ask,
        Err(problem) => {
            let now = refresher.clock.now();
            let failure = Failure { kind: FailureKind::BadRequest, status: None, detail: problem.to_string() };
            let observation = Observation {
                requested_at: now,
                answered_at: now,
                conditional: false,
                seen: Seen::Unreachable { failure },
                via: Via::default(),
            };
            return Ok((observation, hearing.signal(Said::Nothing)));
        }
    };
    let gate = if has_token { TokenGate::for_claim } else { TokenGate::for_page };
    let gate = gate(
        Arc::clone(&refresher.store),
        Arc::clone(&refresher.clock),
        (ticket.upstream, &source.upstream),
        &ticket.limits,
        granted(refresher, claim),
        ticket.lease_for,
    )
    .listening(hearing.clone(), refresher.quiet.clone());
    let request = FetchRequest {
        url: &ask.url,
        body: ask.body.as_ref(),
        settings: &source.request,
        // Those of an answer about many keys would be of no single one.
        validators: claim.previous.validators().filter(|_| source.batch.is_none()),
    };
    let Exchange { status, mut observation, .. } =
        refresher.fetchers.to(&source.upstream).exchange(&request, &gate).await?;
    if source.url.has_secret_path() {
        // Some of the URL comes from outside the configuration, and where it leads may repeat that.
        observation.via.moved_to = observation.via.moved_to.map(|_| HIDDEN_PATH.to_owned());
    }
    let took = (observation.answered_at - observation.requested_at).to_std().unwrap_or_default();
    metrics::exchanged(&source.upstream, status.map(|status| status.as_u16()), took);
    Ok((observation, hearing.signal(gate.said())))
}

/// When the claim was granted, on the monotonic clock.
pub(super) fn granted(refresher: &Refresher, claim: &Claim) -> Instant {
    let now = monotonic();
    now.checked_sub((refresher.clock.now() - claim.granted_at).to_std().unwrap_or_default()).unwrap_or(now)
}
