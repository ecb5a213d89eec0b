//! One request for many keys: fetched once, parted, and decided for each.

use std::ops::Range;
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
use crate::domain::governor::Said;
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

/// Takes out the claims that do not go with the first: what failed and what did not are not asked for together, so that a key
/// which the upstream can't take costs those nothing that it can; and long keys are asked for by fewer at once, as there is
/// room in one URL.
pub fn take_unfitting(source: &Source, claims: &mut Vec<Claim>) -> Vec<Claim> {
    let is_failing = |claim: &Claim| claim.previous.failures > 0;
    let is_first_failing = claims.first().is_some_and(is_failing);
    let mut others: Vec<Claim> = claims.extract_if(.., |claim| is_failing(claim) != is_first_failing).collect();
    let length = |claims: &[Claim]| {
        let keys: Vec<&Key> = claims.iter().map(|claim| &claim.key).collect();
        source.ask_all(&keys).map_or(0, |ask| ask.url.as_str().len())
    };
    let mut fitting = claims.len();
    while fitting > 1 && claims.get(..fitting).is_some_and(|some| length(some) > LONGEST_URL) {
        fitting = fitting.div_ceil(2);
    }
    others.extend(claims.split_off(fitting.min(claims.len())));
    others
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
    let claims: Vec<Arc<Claim>> = claims.into_iter().map(Arc::new).collect();
    let (answers, said) = match ask(refresher, source, &claims, &ticket).await {
        Ok(asked) => asked,
        Err(Halt::Store(error)) => return Err(error),
        Err(Halt::Quiet(_)) => {
            tokio::time::sleep(HELD_BACK).await;
            return Ok(Flown { verdicts: claims.iter().map(|_| Verdict::HeldBack).collect(), odd: None });
        }
    };
    let at = refresher.clock.now();
    let (mut settling, mut odd) = (Vec::with_capacity(claims.len()), None);
    for (range, observation) in answers {
        let some: Arc<[Arc<Claim>]> = claims.get(range).unwrap_or_default().into();
        let (outcomes, odd_ones) = decide_where_it_fits(source, batch, &some, observation, at).await;
        odd = odd.or(odd_ones);
        for (claim, outcome) in some.iter().zip(outcomes) {
            // What was answered says what it says of the upstream once.
            let said = if settling.is_empty() { said } else { Said::Nothing };
            let signal = source.policy.hearing(claim.source).signal(said);
            let decided = Decided { at, outcome, signal };
            settling.push(committer.settle(Arc::clone(claim), Arc::clone(source), decided));
        }
    }
    Ok(Flown { verdicts: join_all(settling).await, odd })
}

/// Parts of the claims, in their order, and what each was answered with.
type Answers = Vec<(Range<usize>, Observation)>;

/// Asks for all at once; and where the upstream can't take that, for halves of it, as often as it takes to find one key among
/// all. So that fails alone, and the others do not starve by it.
async fn ask(
    refresher: &Refresher,
    source: &Source,
    claims: &[Arc<Claim>],
    ticket: &Ticket,
) -> Result<(Answers, Said), Halt> {
    let (mut answers, mut said) = (Vec::new(), Said::Nothing);
    let mut open: Vec<(Range<usize>, Option<Observation>)> = vec![(0..claims.len(), None)];
    let mut requests_left = 2 * claims.len().next_power_of_two().ilog2();
    while let Some((range, refusal)) = open.pop() {
        let some = claims.get(range.clone()).unwrap_or_default();
        let Some(first) = some.first() else { continue };
        let observed =
            observe(refresher, first, source, source.ask_all(&keys(some)), (ticket, refusal.is_none())).await;
        let observation = match (observed, refusal) {
            (Ok((observation, signal)), refusal) => {
                said = said.and_then(signal.said);
                refusal.filter(|_| was_not_asked(&observation.seen)).unwrap_or(observation)
            }
            // What was asked for has an answer, if not a good one.
            (Err(_), Some(refusal)) => refusal,
            (Err(halt), None) => return Err(halt),
        };
        if some.len() > 1 && requests_left >= 2 && is_about_what_was_asked(&observation.seen) {
            requests_left -= 2;
            let middle = range.start + some.len() / 2;
            open.push((middle..range.end, Some(observation.clone())));
            open.push((range.start..middle, Some(observation)));
        } else {
            answers.push((range, observation));
        }
    }
    Ok((answers, said))
}

/// Whether an answer may be due to one of the keys.
fn is_about_what_was_asked(seen: &Seen) -> bool {
    matches!(seen, Seen::Refused { status, .. } if [400, 404, 410, 413, 414, 422].contains(&status.as_u16()))
}

/// Whether nothing was sent, for lack of a token.
fn was_not_asked(seen: &Seen) -> bool {
    matches!(seen, Seen::Unreachable { failure } if failure.kind == FailureKind::Limited)
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
