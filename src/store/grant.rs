//! What a claim gets: the due resources that an upstream's limits allow now, and when it is worth asking again.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::limit::{Bucket, Limits};
use crate::domain::resource::ResourceId;

/// An upstream at the time of a claim, with its row locked.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Its limits.
    pub(super) limits: Limits,
    /// Its tokens.
    pub(super) bucket: Bucket,
    /// What is leased, and until when. Expired leases are not among these.
    pub(super) leased: HashMap<ResourceId, DateTime<Utc>>,
    /// What is leased of other upstreams: a source may have moved here with requests under way. These count against no
    /// limit here, but must not be leased again.
    pub(super) elsewhere: HashMap<ResourceId, DateTime<Utc>>,
}

/// What to lease.
#[derive(Debug, PartialEq)]
pub(super) struct Grant {
    /// How many of the free candidates, from the first.
    pub(super) granted: usize,
    /// The bucket after it.
    pub(super) bucket: Bucket,
    /// See [`Claimed::ask_again_at`](super::Claimed::ask_again_at).
    pub(super) ask_again_at: Option<DateTime<Utc>>,
}

/// What the claim asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The present time.
    pub(super) now: DateTime<Utc>,
    /// Only what is due by then.
    pub(super) due_by: DateTime<Utc>,
    /// How many at the most.
    pub(super) at_most: u32,
    /// When a lease granted now expires.
    pub(super) expires_at: DateTime<Utc>,
}

impl Upstream {
    /// Until when a resource is leased, if it is.
    pub(super) fn leased_until(&self, resource: ResourceId) -> Option<DateTime<Utc>> {
        self.leased.get(&resource).or_else(|| self.elsewhere.get(&resource)).copied()
    }

    /// How many candidates to read, in due order, so that those that are free and one more are among them.
    pub(super) fn candidates_to_read(&self, at_most: u32) -> i64 {
        let in_the_way = self.leased.len() + self.elsewhere.len();
        i64::from(at_most.min(self.limits.max_concurrent))
            .saturating_add(i64::try_from(in_the_way).unwrap_or(i64::MAX))
            .saturating_add(1)
    }

    /// Grants from candidates in due order; `free` are those that aren't leased.
    pub(super) fn grant(&self, wanted: Wanted, candidates: &[(ResourceId, DateTime<Utc>)]) -> Grant {
        let is_due = |(_, due_at): &&(ResourceId, DateTime<Utc>)| *due_at <= wanted.due_by;
        let (leased, free): (Vec<_>, Vec<_>) = candidates.iter().partition(|(id, _)| self.leased_until(*id).is_some());
        let due = free.iter().copied().filter(is_due).count();
        let capacity =
            usize::try_from(self.limits.max_concurrent).unwrap_or(usize::MAX).saturating_sub(self.leased.len());
        let at_most = usize::try_from(wanted.at_most).unwrap_or(usize::MAX);
        let fitting = u32::try_from(due.min(capacity).min(at_most)).unwrap_or(u32::MAX);
        let taken = self.bucket.take(&self.limits, wanted.now, fitting);
        let granted = usize::try_from(taken.granted).unwrap_or(usize::MAX);

        let next_lease_end = || {
            let own = (granted > 0).then_some(wanted.expires_at);
            self.leased.values().copied().chain(own).min()
        };
        let for_more = if due <= granted {
            None
        } else if capacity <= granted {
            next_lease_end()
        } else {
            // A token's time, or at once where only `at_most` was the limit.
            taken.next_at.or(Some(wanted.now))
        };
        let next_due = free.iter().map(|(_, due_at)| *due_at).find(|due_at| *due_at > wanted.due_by);
        let lost = leased.iter().copied().filter(is_due).filter_map(|(id, _)| self.leased_until(*id)).min();
        let ask_again_at = [for_more, next_due, lost].into_iter().flatten().min();
        Grant { granted, bucket: taken.bucket, ask_again_at }
    }
}
