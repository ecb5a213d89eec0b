//! The decision: what a resource was, what the wire said, and what follows. Pure.

mod outcome;
mod times;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};

use super::cache_control::CacheControl;
use super::change::ChangeKind;
use super::content::{Unfit, inspect, typed};
use super::failure::{Absence, Failing, Failure, FailureKind};
use super::freshness::Stated;
use super::governor::is_redirect;
use super::hop_by_hop;
use super::observation::{Observation, Seen, Via};
use super::policy::{Heed, Policy};
use super::refused::{MOST_KEPT, Refused};
use super::retry_after::retry_after;
use super::schedule::{AT_ONCE, Because, Due, has_lasted, jittered};
use super::snapshot::kept;
use super::terms::Terms;
use super::time::later;
use super::validators::Validators;

pub use outcome::{Absent, Deferral, Freshness, Metadata, Outcome, Previous, Replacement};

/// Decides what follows from an observation. `rand` in [0, 1) is the decision's only randomness.
#[must_use]
pub fn decide(
    policy: &Policy,
    previous: &Previous,
    observation: Observation,
    now: DateTime<Utc>,
    rand: f64,
) -> Outcome {
    let Observation { requested_at, answered_at, conditional, mut seen, via } = observation;
    let not_before = seen.headers().and_then(|headers| policy.not_before(headers, answered_at));
    let decision = Decision { policy, previous, requested_at, answered_at, not_before, via, now, rand };
    if let Some(headers) = seen.headers_mut() {
        hop_by_hop::remove(headers);
    }
    let outcome = match seen {
        Seen::Content { headers, body } => decision.content(&headers, &body),
        Seen::NotModified { headers } if conditional => decision.not_modified(&headers),
        Seen::NotModified { headers } => decision.deferred(
            Failure {
                kind: FailureKind::UnusableNotModified,
                status: Some(304),
                detail: "the upstream answered 304 to a request without conditions".into(),
            },
            &headers,
        ),
        Seen::Refused { status, headers, failure } => decision.refused(status, &headers, failure),
        Seen::Unreachable { failure } => decision.deferred(failure, &HeaderMap::new()),
    };
    decision.as_polled(outcome)
}

/// What follows from a failure that is no observation of the upstream: ours, to store or to ask.
#[must_use]
pub fn defer(policy: &Policy, previous: &Previous, failure: Failure, now: DateTime<Utc>, rand: f64) -> Outcome {
    let decision = Decision::without_answer(policy, previous, now, rand);
    decision.as_polled(decision.deferred(failure, &HeaderMap::new()))
}

/// What follows from a failure that came with these header fields, whatever its status. For what is not one resource: a 404 does
/// not make it gone.
#[must_use]
pub fn put_off(
    policy: &Policy,
    previous: &Previous,
    (failure, headers): (Failure, &HeaderMap),
    now: DateTime<Utc>,
    rand: f64,
) -> Outcome {
    let not_before = policy.not_before(headers, now);
    Decision { not_before, ..Decision::without_answer(policy, previous, now, rand) }.deferred(failure, headers)
}

/// One decision's givens.
struct Decision<'a> {
    policy: &'a Policy,
    previous: &'a Previous,
    requested_at: DateTime<Utc>,
    answered_at: DateTime<Utc>,
    /// Before when the upstream wants not to be asked again.
    not_before: Option<DateTime<Utc>>,
    via: Via,
    now: DateTime<Utc>,
    rand: f64,
}

impl<'a> Decision<'a> {
    fn without_answer(policy: &'a Policy, previous: &'a Previous, now: DateTime<Utc>, rand: f64) -> Self {
        let (requested_at, answered_at, via) = (now, now, Via::default());
        Self { policy, previous, requested_at, answered_at, not_before: None, via, now, rand }
    }

    /// The outcome, due by itself only where someone polls.
    fn as_polled(&self, outcome: Outcome) -> Outcome {
        if self.policy.cadence.is_polled() { outcome } else { outcome.put_aside(self.now) }
    }

    fn content(&self, headers: &HeaderMap, body: &Bytes) -> Outcome {
        if let Some(failure) = self.unstorable(headers, self.content_status()) {
            return self.deferred(failure, headers);
        }
        let size = body.len() as u64;
        let mut snapshot = match inspect(headers, body.clone(), &self.policy.body) {
            Ok(snapshot) => snapshot,
            Err(unfit) => return self.unfit(unfit, size, headers),
        };
        self.leave_out_restricted(headers, &mut snapshot.headers);
        let stated = self.stated(headers, None);
        let metadata = Metadata {
            validators: Validators::of(headers),
            max_age: stated.max_age,
            terms: self.terms(headers, None),
            transformed: self.via.transformed,
            moved_to: self.via.moved_to.clone(),
        };
        let freshness = self.freshness(&stated, &metadata, headers);
        let was_gone = self.previous.gone_since.is_some();
        if self.previous.content_hash == Some(snapshot.content_hash) && !was_gone {
            return self.confirmed(metadata, freshness, &stated, snapshot.headers);
        }
        let typed = match typed(&snapshot, body, &self.policy.body) {
            Ok(typed) => typed,
            Err(unfit) => return self.unfit(unfit, size, headers),
        };
        let kind = match self.previous.version {
            0 => ChangeKind::Created,
            _ if was_gone => ChangeKind::Returned,
            _ => ChangeKind::Changed,
        };
        Outcome::Replaced(Box::new(Replacement {
            snapshot,
            typed,
            version: self.previous.version + 1,
            kind,
            metadata,
            freshness,
            kept_until: self.kept_until(&stated),
            due: self.regular(&stated),
        }))
    }

    fn unfit(&self, unfit: Unfit, size: u64, headers: &HeaderMap) -> Outcome {
        let Unfit { kind, detail, body } = unfit;
        let failure = Failure { kind, status: Some(self.content_status()), detail };
        let content_type = headers.get(header::CONTENT_TYPE).map(|value| Bytes::copy_from_slice(value.as_bytes()));
        // A copy, lest a small part keeps all of a large body in memory.
        let body = body.map(|body| Bytes::copy_from_slice(body.get(..MOST_KEPT).unwrap_or(&body)));
        let refused = Refused { status: self.content_status(), content_type, size, body };
        // An empty body has nothing to show.
        let refused = (size > 0).then_some(refused);
        Outcome::Deferred(Deferral { refused, ..self.deferral(failure, headers) })
    }

    /// The status that content came with.
    fn content_status(&self) -> u16 {
        if self.via.transformed { 203 } else { 200 }
    }

    fn not_modified(&self, headers: &HeaderMap) -> Outcome {
        let held = &self.previous.metadata;
        let supplied = Validators::of(headers);
        if !held.validators.recognise(&supplied) {
            return Outcome::Reset { due: Due { at: AT_ONCE, because: Because::Reset } };
        }
        if headers.contains_key(header::CACHE_CONTROL)
            && let Some(failure) = self.unstorable(headers, 304)
        {
            return self.deferred(failure, headers);
        }
        let stated = self.stated(headers, held.max_age);
        let metadata = Metadata {
            validators: held.validators.updated_by(&supplied),
            max_age: stated.max_age,
            terms: self.terms(headers, held.terms),
            transformed: held.transformed,
            moved_to: self.via.moved_to.clone(),
        };
        let mut described = kept(headers);
        self.leave_out_restricted(headers, &mut described);
        let freshness = self.freshness(&stated, &metadata, headers);
        self.confirmed(metadata, freshness, &stated, described)
    }

    /// RFC 9111 §3.2: each supplied field replaces the stored one. Content-Type is left out, as that section allows: the
    /// body was checked and hashed as what it was called when it came. Content-Length, Content-Encoding and Content-Range are
    /// never stored.
    fn confirmed(
        &self,
        metadata: Metadata,
        freshness: Freshness,
        stated: &Stated,
        mut described: HeaderMap,
    ) -> Outcome {
        let previous = self.previous;
        let is_as_it_was = metadata == previous.metadata && previous.failures == 0 && previous.absence.is_none();
        described.remove(header::CONTENT_TYPE);
        Outcome::Confirmed {
            freshness,
            kept_until: self.kept_until(stated),
            metadata: (!is_as_it_was).then_some(metadata),
            described,
            due: self.regular(stated),
        }
    }

    /// What the answer says of its freshness, as far as it is heeded.
    fn stated(&self, headers: &HeaderMap, held_max_age: Option<u32>) -> Stated {
        match self.policy.cache_control {
            Heed::Schedule | Heed::Respect => Stated::by(headers, self.requested_at, self.answered_at, held_max_age),
            Heed::Ignore => Stated::default(),
        }
    }

    fn terms(&self, headers: &HeaderMap, held: Option<Terms>) -> Option<Terms> {
        (self.policy.cache_control == Heed::Respect).then(|| Terms::of(headers, held))
    }

    /// RFC 9111 §3, where that is respected.
    fn unstorable(&self, headers: &HeaderMap, status: u16) -> Option<Failure> {
        let respects = self.policy.cache_control == Heed::Respect;
        let control = respects.then(|| CacheControl::of(headers))?;
        let why = control.keeps_from_storing(self.via.authorized)?;
        let detail = format!("the answer {why}, so a shared cache may not store it (cache_control is \"respect\")");
        Some(Failure { kind: FailureKind::Unstorable, status: Some(status), detail })
    }

    /// RFC 9111 §5.2.2.4 and §5.2.2.7, where they are respected.
    fn leave_out_restricted(&self, headers: &HeaderMap, kept: &mut HeaderMap) {
        if self.policy.cache_control == Heed::Respect {
            for name in CacheControl::of(headers).restricted() {
                kept.remove(name);
            }
        }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, failure: Failure) -> Outcome {
        match status {
            StatusCode::GONE => self.gone(),
            // What never had content has nothing to lose: absent is absent at once.
            StatusCode::NOT_FOUND if self.previous.version == 0 || self.previous.gone_since.is_some() => self.gone(),
            StatusCode::NOT_FOUND => {
                let absence = self.one_more_absence();
                let rules = &self.policy.gone;
                if absence.count >= rules.after && has_lasted(absence.since, self.now, rules.window) {
                    self.gone()
                } else {
                    Outcome::Deferred(Deferral { absence: Some(absence), ..self.deferral(failure, headers) })
                }
            }
            _ => self.deferred(failure, headers),
        }
    }

    fn one_more_absence(&self) -> Absence {
        match self.previous.absence {
            Some(absence) => Absence { count: absence.count.saturating_add(1), ..absence },
            None => Absence { count: 1, since: self.now },
        }
    }

    fn gone(&self) -> Outcome {
        let newly = self.previous.version > 0 && self.previous.gone_since.is_none();
        let held = newly.then(|| Deferral {
            absence: self.previous.absence,
            ..self.deferral(
                Failure {
                    kind: FailureKind::Held,
                    status: None,
                    detail: "the upstream says that it is gone, but too much of this source would go at once".into(),
                },
                &HeaderMap::new(),
            )
        });
        let at = jittered(later(self.now, self.policy.gone.recheck), self.policy.gone.recheck / 10, self.rand);
        Outcome::Gone(Absent {
            since: self.previous.gone_since.unwrap_or(self.now),
            due: self.no_sooner(Due { at, because: Because::GoneRecheck }),
            held,
        })
    }

    fn deferred(&self, failure: Failure, headers: &HeaderMap) -> Outcome {
        Outcome::Deferred(self.deferral(failure, headers))
    }

    fn deferral(&self, failure: Failure, headers: &HeaderMap) -> Deferral {
        let count = self.previous.failures.saturating_add(1);
        let backoff = later(self.now, self.policy.backoff.wait(count, self.rand));
        let status = failure.status.and_then(|status| StatusCode::from_u16(status).ok());
        let is_to_be_followed = status.is_some_and(is_redirect);
        let due = match retry_after(headers, self.answered_at, self.policy.retry_after_cap) {
            // A redirect is followed the next time, when it has been waited for.
            Some(at) if at > backoff || is_to_be_followed => Due { at: at.max(backoff), because: Because::RetryAfter },
            // The end of an outage makes it due once. If it fails again then, it is not the upstream that was down, and a
            // resource that always fails must not be asked for whenever another answers.
            _ if failure.is_outage() && self.previous.because != Because::RetryNow => {
                Due { at: backoff, because: Because::Outage }
            }
            _ => Due { at: backoff, because: Because::Backoff },
        };
        Deferral {
            failing: Failing {
                last: failure,
                at: self.now,
                since: self.previous.failing_since.unwrap_or(self.now),
                count,
            },
            absence: self.previous.absence,
            due: self.no_sooner(due),
            refused: None,
        }
    }
}

#[cfg(test)]
mod tests;
