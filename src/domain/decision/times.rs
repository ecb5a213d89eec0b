//! How fresh a copy is, when it is due next, and until when readers have to take it as it is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::{Decision, Freshness, Metadata};
use crate::domain::freshness::{Stated, guessed};
use crate::domain::schedule::{Because, Due, jittered};
use crate::domain::terms::{Reuse, Terms};
use crate::domain::time::later;

impl Decision<'_> {
    /// How much longer than the answer the upstream's own word keeps us from asking again.
    fn upstream_lifetime(&self, stated: &Stated) -> Duration {
        stated.remaining().min(self.policy.freshness_cap)
    }

    pub(super) fn freshness(&self, stated: &Stated, metadata: &Metadata, headers: &HeaderMap) -> Freshness {
        let fetched_at = self.answered_at;
        let stale_after = match (&metadata.terms, self.policy.stale_after) {
            (Some(terms), _) => later(fetched_at, self.lifetime(stated, *terms, metadata, headers)),
            (None, Some(age)) => later(fetched_at, age),
            (None, None) => self
                .policy
                .after_two(fetched_at)
                .max(later(fetched_at, self.upstream_lifetime(stated).saturating_mul(2)))
                .max(later(fetched_at, self.quiet().saturating_mul(2))),
        };
        Freshness { fetched_at, stale_after }
    }

    /// How much longer than the answer the copy is fresh by RFC 9111 §4.2.1: what is stated; else, where the upstream states
    /// nothing, the operator's contract (§4.2.4); else a guess (§4.2.2).
    fn lifetime(&self, stated: &Stated, terms: Terms, metadata: &Metadata, headers: &HeaderMap) -> Duration {
        let policy = self.policy;
        if terms.reuse == Reuse::Never {
            return Duration::ZERO;
        }
        if let Some(explicit) = stated.explicit() {
            return explicit;
        }
        if let (true, Some(stale_after)) = (terms.by_expires, self.previous.stale_after) {
            return (stale_after - self.answered_at).to_std().unwrap_or_default();
        }
        policy.stale_after.unwrap_or_else(|| {
            let last_modified = metadata.validators.last_modified.as_deref();
            guessed(last_modified, headers, self.answered_at, stated.age).min(policy.freshness_cap)
        })
    }

    /// The next regular refresh: by the cadence, or when the upstream's own lifetime ends if that is later. Resources
    /// that were fetched together are then spread over a tenth of that lifetime by their slots.
    pub(super) fn regular(&self, stated: &Stated) -> Due {
        let by_cadence = self.policy.cadence.next(self.now, self.previous.slot);
        let lifetime = self.upstream_lifetime(stated);
        let fresh_until = later(self.answered_at, lifetime);
        let is_kept = self.is_kept(lifetime);
        let (at, because) = if fresh_until > by_cadence || (is_kept && !self.policy.cadence.is_polled()) {
            let because = if is_kept { Because::NotBefore } else { Because::Freshness };
            (later(fresh_until, lifetime.mul_f64(self.previous.slot.fraction() / 10.0)), because)
        } else {
            (by_cadence, Because::Interval)
        };
        self.no_sooner(Due { at: jittered(at, self.policy.jitter, self.rand), because })
    }

    /// The same, but not before the upstream wants to be asked again, and then spread as by its lifetime.
    pub(super) fn no_sooner(&self, due: Due) -> Due {
        let late = self.quiet().mul_f64(self.previous.slot.fraction() / 10.0);
        // What nobody polls is due in an age, and asked for when a reader comes.
        let waits_for_reader = !self.policy.cadence.is_polled() && !due.because.spares_the_upstream();
        let not_before = self.not_before.filter(|at| waits_for_reader || *at > due.at);
        // A redirect is followed once it was waited for: that it was is told by its reason.
        let because = if due.because == Because::RetryAfter { due.because } else { Because::NotBefore };
        not_before.map_or(due, |at| Due { at: later(at, late), because })
    }

    /// Until when no reader can have it asked for again, however late it is due: while it is fresh by the upstream's word, where
    /// that is kept, and before the upstream wants to be asked again.
    pub(super) fn kept_until(&self, stated: &Stated) -> Option<DateTime<Utc>> {
        let lifetime = self.upstream_lifetime(stated);
        self.not_before.max(self.is_kept(lifetime).then(|| later(self.answered_at, lifetime)))
    }

    /// Whether what is fresh for so long by the upstream's word is not asked for, for readers either.
    fn is_kept(&self, lifetime: Duration) -> bool {
        !self.policy.early_refresh && !lifetime.is_zero()
    }

    /// For how long after the answer the upstream wants not to be asked again.
    fn quiet(&self) -> Duration {
        let quiet = self.not_before.and_then(|at| (at - self.answered_at).to_std().ok());
        quiet.unwrap_or_default()
    }
}
