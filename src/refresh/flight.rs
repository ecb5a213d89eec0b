//! One claim's way: fetch, decide, and hand over for commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Refresher;
use super::committer::{Committer, Landed};
use crate::config::Source;
use crate::domain::decision::{Deferral, Outcome, decide};
use crate::domain::failure::{Failing, Failure, FailureKind};
use crate::domain::limit::Limits;
use crate::domain::observation::{Observation, Seen};
use crate::domain::resource::UpstreamId;
use crate::domain::schedule::{Because, Due};
use crate::domain::time::later;
use crate::store::{Claim, StoreError};
use crate::upstream::{FetchRequest, TokenGate};

/// How long a resource whose source this process does not know is left alone.
const UNKNOWN_SOURCE_WAIT: Duration = Duration::from_secs(3600);

/// How its claim was given.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    /// Whose limits it was given by.
    pub upstream: UpstreamId,
    /// These limits.
    pub limits: Limits,
    /// When the claim was asked for: its token and its lease are at most as old.
    pub asked_at: Instant,
    /// How long the lease lasts from then on.
    pub lease_for: Duration,
}

/// Fetches one claimed resource, decides, and waits for the commit.
///
/// # Errors
/// When the store failed before anything was sent; the lease then runs out by itself.
pub async fn fly(
    refresher: &Refresher,
    committer: &Committer,
    claim: Claim,
    ticket: Ticket,
) -> Result<Landed, StoreError> {
    let claim = Arc::new(claim);
    let Some(source) = refresher.roster.source(claim.source).cloned() else {
        let now = refresher.clock.now();
        return Ok(committer.settle(claim, None, now, now, unknown_source(now)).await);
    };
    let observation = observe(refresher, &claim, &source, ticket).await?;
    let (requested_at, now) = (observation.requested_at, refresher.clock.now());
    let outcome = decide(&source.policy, &claim.previous, observation, now, fastrand::f64());
    Ok(committer.settle(claim, Some(source), requested_at, now, outcome).await)
}

async fn observe(
    refresher: &Refresher,
    claim: &Claim,
    source: &Source,
    ticket: Ticket,
) -> Result<Observation, StoreError> {
    let url = match source.url.expand(&claim.key, &claim.params) {
        Ok(url) => url,
        Err(problem) => {
            let now = refresher.clock.now();
            let failure = Failure { kind: FailureKind::BadRequest, status: None, detail: problem.to_string() };
            return Ok(Observation {
                requested_at: now,
                answered_at: now,
                conditional: false,
                seen: Seen::Unreachable { failure },
            });
        }
    };
    let gate = TokenGate::for_claim(
        Arc::clone(&refresher.store),
        Arc::clone(&refresher.clock),
        (ticket.upstream, &ticket.limits),
        ticket.asked_at,
        ticket.lease_for,
    );
    let request = FetchRequest { url: &url, settings: &source.request, validators: claim.previous.validators() };
    refresher.fetcher.fetch(&request, &gate).await
}

/// A process with another config may add keys of a source that this one has no URL for.
fn unknown_source(now: DateTime<Utc>) -> Outcome {
    let detail = "the process that polls this upstream has no such source in its config".into();
    Outcome::Deferred(Deferral {
        failing: Failing {
            last: Failure { kind: FailureKind::BadRequest, status: None, detail },
            at: now,
            since: now,
            count: 1,
        },
        absence: None,
        due: Due { at: later(now, UNKNOWN_SOURCE_WAIT), because: Because::Backoff },
    })
}
