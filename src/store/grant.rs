//! What a claim gets: the due resources that an upstream's limits allow now, and when it is worth asking again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::limit::{Bucket, Limits};
use crate::domain::resource::ResourceId;
use crate::domain::time::later;
use crate::store::StoreError;

/// How long a resource is put off whose row can't be read: it must not keep the others of its upstream from being claimed,
/// and its error is logged each time.
pub(super) const PUT_OFF: Duration = Duration::from_secs(3600);

/// How soon to ask again at the earliest when a lease is in the way: one that has expired stays while it is being applied.
const SOON: Duration = Duration::from_millis(50);

/// Parts what could be read from the ids of what could not, and logs why.
pub(super) fn readable<T>(
    rows: impl IntoIterator<Item = (ResourceId, Result<T, StoreError>)>,
) -> (Vec<T>, Vec<ResourceId>) {
    let (mut read, mut corrupt) = (Vec::new(), Vec::new());
    for (resource, row) in rows {
        match row {
            Ok(row) => read.push(row),
            Err(error) => {
                tracing::error!(resource = resource.0, %error, "a resource can't be refreshed; it is put off by an hour");
                corrupt.push(resource);
            }
        }
    }
    (read, corrupt)
}

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
    /// What must not be leased again, by ids in order.
    pub(super) fn taken(&self) -> BTreeSet<ResourceId> {
        self.leased.keys().chain(self.elsewhere.keys()).copied().collect()
    }

    /// How many candidates to read, in due order: those that may be granted, and one more.
    pub(super) fn candidates_to_read(&self, at_most: u32) -> i64 {
        i64::from(at_most.min(self.limits.max_concurrent)).saturating_add(1)
    }

    /// Grants from the due times of what isn't [taken](Self::taken), in their order.
    pub(super) fn grant(&self, wanted: Wanted, due_times: &[DateTime<Utc>]) -> Grant {
        let due = due_times.iter().filter(|due_at| **due_at <= wanted.due_by).count();
        let capacity =
            usize::try_from(self.limits.max_concurrent).unwrap_or(usize::MAX).saturating_sub(self.leased.len());
        let at_most = usize::try_from(wanted.at_most).unwrap_or(usize::MAX);
        let fitting = u32::try_from(due.min(capacity).min(at_most)).unwrap_or(u32::MAX);
        let taken = self.bucket.take(&self.limits, wanted.now, fitting);
        let granted = usize::try_from(taken.granted).unwrap_or(usize::MAX);

        let own_lease = (granted > 0).then_some(wanted.expires_at);
        let for_more = if due <= granted {
            None
        } else if capacity <= granted {
            own_lease
        } else {
            // A token's time, or at once where only `at_most` was the limit.
            taken.next_at.or(Some(wanted.now))
        };
        let next_due = due_times.iter().copied().find(|due_at| *due_at > wanted.due_by);
        // What a lost worker holds is due again when its lease ends, and its place is free.
        let soon = later(wanted.now, SOON);
        let lost = self.leased.values().chain(self.elsewhere.values()).min().map(|end| (*end).max(soon));
        let ask_again_at = [for_more, next_due, lost].into_iter().flatten().min();
        Grant { granted, bucket: taken.bucket, ask_again_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_has_expired_and_is_still_there_is_not_asked_for_at_once() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let limits = Limits { requests_per_second: None, burst: 1, max_concurrent: 1 };
        let bucket = Bucket { tokens: 1.0, at: now };
        let wanted = Wanted { now, due_by: now, at_most: 1, expires_at: later(now, Duration::from_secs(60)) };
        let leased = HashMap::from([(ResourceId(1), now - Duration::from_secs(1))]);
        let soon = Some(now + SOON);
        // It counts against the limit, or holds the only resource that is due.
        let own = Upstream { limits, bucket, leased: leased.clone(), elsewhere: HashMap::new() };
        assert_eq!(own.grant(wanted, &[now]).ask_again_at, soon);
        let elsewhere = Upstream { limits, bucket, leased: HashMap::new(), elsewhere: leased };
        assert_eq!(elsewhere.grant(wanted, &[]).ask_again_at, soon);
    }
}
