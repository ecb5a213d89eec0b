//! One request for many keys: fetched once, parted, and decided for each.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;

use super::Refresher;
use super::committer::{Committer, Decided};
use super::flight::{self, HELD_BACK, LOOKED_AT_HERE, Ticket, observe};
use super::tally::Verdict;
use crate::config::Source;
use crate::domain::batch::{Batch, Shares};
use crate::domain::decision::{Outcome, decide, defer};
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::governor::{Said, Signal};
use crate::domain::observation::{Observation, Seen};
use crate::domain::resource::Key;
use crate::store::{Claim, StoreError};
use crate::upstream::Halt;

/// The longest URL, in bytes: servers accept 8 KiB as a request line, method and version included.
const LONGEST_URL: usize = 8000;

/// What became of a batch.
pub struct Flown {
    /// Of each claim, in their order.
    pub verdicts: Vec<Verdict>,
    /// What came that nobody asked for, for a log line.
    pub odd: Option<String>,
}

/// The claims by the request in which they are asked for, in their order.
#[must_use]
pub fn by_request(claims: Vec<Claim>) -> Vec<Vec<Claim>> {
    let mut requests: Vec<Vec<Claim>> = Vec::with_capacity(claims.len());
    for claim in claims {
        match requests.last_mut() {
            Some(last) if last.first().is_some_and(|first| first.rides_with == claim.rides_with) => last.push(claim),
            _ => requests.push(vec![claim]),
        }
    }
    requests
}

/// Takes out the claims for whose keys there is no room in one URL: long keys are asked for by fewer at once.
pub fn take_unfitting(source: &Source, claims: &mut Vec<Claim>) -> Vec<Claim> {
    let length = |claims: &[Claim]| {
        let keys: Vec<&Key> = claims.iter().map(|claim| &claim.key).collect();
        source.ask_all(&keys).map_or(0, |ask| ask.url.as_str().len())
    };
    let mut fitting = claims.len();
    while fitting > 1 && claims.get(..fitting).is_some_and(|some| length(some) > LONGEST_URL) {
        fitting = fitting.div_ceil(2);
    }
    claims.split_off(fitting.min(claims.len()))
}

/// Fetches what one request asks for, decides, and waits for the commit.
pub(super) async fn fly_all(
    refresher: &Refresher,
    committer: &Committer,
    source: Arc<Source>,
    claims: Vec<Claim>,
    ticket: Ticket,
) -> Result<Flown, StoreError> {
    if let Some(batch) = &source.batch {
        return fly(refresher, committer, (&source, batch), claims, ticket).await;
    }
    let mut verdicts = Vec::with_capacity(claims.len());
    for claim in claims {
        verdicts.push(flight::fly(refresher, committer, Arc::clone(&source), claim, ticket.clone()).await?);
    }
    Ok(Flown { verdicts, odd: None })
}

/// Fetches the claimed resources of this source, decides about each, and waits for the commits.
///
/// # Errors
/// When the store failed before anything was sent; the lease then runs out by itself.
pub async fn fly(
    refresher: &Refresher,
    committer: &Committer,
    (source, batch): (&Arc<Source>, &Batch),
    claims: Vec<Claim>,
    ticket: Ticket,
) -> Result<Flown, StoreError> {
    let claims: Arc<[Arc<Claim>]> = claims.into_iter().map(Arc::new).collect();
    let Some(first) = claims.first() else { return Ok(Flown { verdicts: Vec::new(), odd: None }) };
    let ask = source.ask_all(&keys(&claims));
    let (observation, signal) = match observe(refresher, first, source, ask, &ticket).await {
        Ok(observed) => observed,
        Err(Halt::Store(error)) => return Err(error),
        Err(Halt::Quiet(_)) => {
            tokio::time::sleep(HELD_BACK).await;
            return Ok(Flown { verdicts: claims.iter().map(|_| Verdict::HeldBack).collect(), odd: None });
        }
    };
    let at = refresher.clock.now();
    let (outcomes, odd) = decide_where_it_fits(source, batch, &claims, observation, at).await;
    let settle = |(claim, outcome): (&Arc<Claim>, Outcome)| {
        // There was one answer, which says what it says of the upstream once.
        let said = if claim.resource == first.resource { signal.said } else { Said::Nothing };
        let decided = Decided { at, outcome, signal: Signal { said, ..signal } };
        committer.settle(Arc::clone(claim), Arc::clone(source), decided)
    };
    let verdicts = join_all(claims.iter().zip(outcomes).map(settle)).await;
    Ok(Flown { verdicts, odd })
}

fn keys(claims: &[Arc<Claim>]) -> Vec<&Key> {
    claims.iter().map(|claim| &claim.key).collect()
}

/// Decides about all; on a thread for long work when there is a large body to parse.
async fn decide_where_it_fits(
    source: &Arc<Source>,
    batch: &Batch,
    claims: &Arc<[Arc<Claim>]>,
    observation: Observation,
    now: DateTime<Utc>,
) -> (Vec<Outcome>, Option<String>) {
    let is_large = matches!(&observation.seen, Seen::Content { body, .. } if body.len() > LOOKED_AT_HERE);
    if !is_large {
        return decide_all(source, batch, claims, observation, now);
    }
    let (for_source, for_batch, for_claims) = (Arc::clone(source), batch.clone(), Arc::clone(claims));
    let deciding =
        tokio::task::spawn_blocking(move || decide_all(&for_source, &for_batch, &for_claims, observation, now));
    deciding.await.unwrap_or_else(|error| {
        tracing::error!(%error, source = %source.name, "could not look at the answer to a batch");
        let detail = "looking at the answer ended abnormally; the log says how";
        let failure = Failure { kind: FailureKind::Unparsable, status: Some(200), detail: detail.into() };
        let put_off =
            |claim: &Arc<Claim>| defer(&source.policy, &claim.previous, failure.clone(), now, fastrand::f64());
        (claims.iter().map(put_off).collect(), None)
    })
}

fn decide_all(
    source: &Source,
    batch: &Batch,
    claims: &[Arc<Claim>],
    observation: Observation,
    now: DateTime<Utc>,
) -> (Vec<Outcome>, Option<String>) {
    let Observation { requested_at, answered_at, conditional, seen, via } = observation;
    let Shares { seen, odd } = batch.shares(seen, &keys(claims));
    let outcome = |(claim, seen): (&Arc<Claim>, Seen)| {
        let observation = Observation { requested_at, answered_at, conditional, seen, via: via.clone() };
        decide(&source.policy, &claim.previous, observation, now, fastrand::f64())
    };
    (claims.iter().zip(seen).map(outcome).collect(), odd)
}
