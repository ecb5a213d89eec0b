//! What the end of a walk means for the walk itself: when it is next due, and what is wrong.

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::Collection;
use crate::domain::decision::{Deferral, Freshness, Metadata, Outcome, Previous};
use crate::domain::failure::{Failing, Failure, FailureKind};
use crate::domain::policy::Policy;
use crate::domain::schedule::{Because, Due, jittered};
use crate::domain::time::later;

/// What follows for a walk that has been on all its pages, and is not wanted again before a time, if its pages said so. A `problem`
/// is told, and no reason to walk again any sooner.
#[must_use]
pub fn ended(
    policy: &Policy,
    previous: &Previous,
    (problem, not_before): (Option<Failure>, Option<DateTime<Utc>>),
    now: DateTime<Utc>,
    rand: f64,
) -> Outcome {
    let at = jittered(policy.cadence.next(now, previous.slot), policy.jitter, rand);
    let due = match not_before.filter(|not_before| *not_before > at) {
        Some(at) => Due { at, because: Because::NotBefore },
        None => Due { at, because: Because::Interval },
    };
    match problem {
        None => Outcome::Confirmed {
            freshness: Freshness { fetched_at: now, stale_after: policy.cadence.after_two(now) },
            kept_until: not_before,
            metadata: (previous.failures > 0).then(Metadata::default),
            described: HeaderMap::new(),
            due,
        },
        Some(last) => Outcome::Deferred(Deferral {
            failing: Failing {
                last,
                at: now,
                since: previous.failing_since.unwrap_or(now),
                count: previous.failures.saturating_add(1),
            },
            absence: None,
            due,
            refused: None,
        }),
    }
}

/// Whether a walk can go on after this failure where it was, if the page before leads on at all: it says nothing about the
/// pages, and may pass.
#[must_use]
pub fn may_pass(failure: &Failure) -> bool {
    use FailureKind::{Limited, RateLimited, ServerError, Truncated};
    failure.is_outage() || matches!(failure.kind, Limited | RateLimited | ServerError | Truncated)
}

/// How fresh a member is that came then: until the walk of all members after the next, unless `stale_after` says otherwise. A
/// walk of changes says nothing of those that it does not bring.
#[must_use]
pub fn freshness(policy: &Policy, collection: &Collection, fetched_at: DateTime<Utc>) -> Freshness {
    let stale_after = match (policy.stale_after, &collection.changes) {
        (Some(age), _) => later(fetched_at, age),
        (None, Some(changes)) => later(fetched_at, changes.sweep_every.saturating_mul(2)),
        (None, None) => policy.cadence.after_two(fetched_at),
    };
    Freshness { fetched_at, stale_after }
}
