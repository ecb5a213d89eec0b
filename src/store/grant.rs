//! What a claim gets: the due resources that an upstream's limits allow now, and when it is worth asking again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::governor::{Covers, Probe, Standing, Wait, Way, Why};
use crate::domain::limit::{Bucket, Limits};
use crate::domain::resource::{LeaseToken, ResourceId, SourceId};
use crate::domain::schedule::AT_ONCE;
use crate::domain::time::later;
use crate::store::heed::Note;
use crate::store::pack::to_read;
use crate::store::{ClaimRequest, Selection, StoreError, Together};

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

/// A lease that holds a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    /// Which.
    pub(super) token: LeaseToken,
    /// When it ends.
    pub(super) ends_at: DateTime<Utc>,
}

/// An upstream at the time of a claim, with its row locked.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Its limits.
    pub(super) limits: Limits,
    /// Its tokens.
    pub(super) bucket: Bucket,
    /// How it stands with us.
    pub(super) standing: Standing,
    /// The same as it is stored.
    pub(super) noted: Note,
    /// What is leased. Expired leases are not among these.
    pub(super) leased: HashMap<ResourceId, Hold>,
    /// How many of these are asked for in the request of another one.
    pub(super) riders: usize,
    /// What is leased of other upstreams: a source may have moved here with requests under way. These count against no
    /// limit here, but must not be leased again.
    pub(super) elsewhere: HashMap<ResourceId, Hold>,
}

/// Something that isn't leased: a request, known by the first of what it asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offered {
    /// What.
    pub(super) resource: ResourceId,
    /// Of which source.
    pub(super) source: SourceId,
    /// When it is due.
    pub(super) due_at: DateTime<Utc>,
}

/// What to lease.
#[derive(Debug, PartialEq)]
pub(super) struct Grant {
    /// Which of what was offered: their places, in order.
    pub(super) granted: Vec<usize>,
    /// The bucket after it.
    pub(super) bucket: Bucket,
    /// How the upstream stands after it, if that is to be stored.
    pub(super) standing: Option<Note>,
    /// See [`Claimed::ask_again_at`](super::Claimed::ask_again_at).
    pub(super) ask_again_at: Option<DateTime<Utc>>,
    /// See [`Claimed::wait`](super::Claimed::wait).
    pub(super) wait: Option<Wait>,
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
    /// The lease under which it is granted.
    pub(super) lease: Hold,
}

impl Wanted {
    /// What a claim asks for at this time, under a new lease.
    pub(super) fn by(request: &ClaimRequest, now: DateTime<Utc>) -> Self {
        Self {
            now,
            due_by: request.due_by.unwrap_or(now),
            at_most: request.at_most,
            lease: Hold { token: LeaseToken(fastrand::i64(1..)), ends_at: later(now, request.lease_for) },
        }
    }
}

/// Takes one request's share of rate and budgets, or says when there will be one.
pub(super) fn take_one(
    limits: &Limits,
    bucket: Bucket,
    mut standing: Standing,
    now: DateTime<Utc>,
) -> Result<(Bucket, Standing), DateTime<Utc>> {
    let taken = bucket.take((limits, standing.pace()), now, 1);
    let budget = standing.budget_wait(limits, now).map(|wait| wait.until);
    if let Some(at) = standing.silent_until(now).or(taken.next_at.max(budget)) {
        return Err(at);
    }
    standing.pay(limits, now, 1);
    Ok((taken.bucket, standing))
}

/// What was never fetched before all else that is due, but after what somebody asked for; the rest as it was.
pub(super) fn new_first<T>(new: Vec<T>, all: Vec<T>, at: impl Fn(&T) -> (ResourceId, DateTime<Utc>)) -> Vec<T> {
    let ids: BTreeSet<_> = new.iter().map(|one| at(one).0).collect();
    let others = all.into_iter().filter(|one| !ids.contains(&at(one).0));
    let (mut asked, rest): (Vec<_>, Vec<_>) = others.partition(|one| at(one).1 == AT_ONCE);
    asked.extend(new);
    asked.extend(rest);
    asked
}

impl Upstream {
    /// How many requests are under way.
    fn under_way(&self) -> usize {
        self.leased.len().saturating_sub(self.riders)
    }

    /// What must not be leased again, by ids in order.
    pub(super) fn taken(&self) -> BTreeSet<ResourceId> {
        self.leased.keys().chain(self.elsewhere.keys()).copied().collect()
    }

    /// How many candidates to read, in due order: those that may be granted, and one more.
    pub(super) fn candidates_to_read(&self, at_most: u32, together: &Together) -> i64 {
        to_read(i64::from(at_most.min(self.limits.max_concurrent)), together).saturating_add(1)
    }

    /// Whether what was never fetched goes first: where budgets decide, and it is not said what is to be asked for.
    pub(super) fn prefers_new(&self, request: &ClaimRequest) -> bool {
        !self.limits.budgets.is_empty() && request.which == Selection::All
    }

    /// The sources of which nothing may be asked now. Candidates of these would only be in the way.
    pub(super) fn closed(&self, now: DateTime<Utc>) -> BTreeSet<SourceId> {
        self.closed_sources(now).map(|(source, _)| source).collect()
    }

    fn closed_sources(&self, now: DateTime<Utc>) -> impl Iterator<Item = (SourceId, Wait)> {
        self.standing.pauses().iter().filter_map(move |pause| match pause.covers {
            Covers::Upstream => None,
            Covers::Source(source) => Some((source, self.wait(pause.covers, now)?)),
        })
    }

    fn wait(&self, covers: Covers, now: DateTime<Utc>) -> Option<Wait> {
        self.standing.wait(covers, now, |probe| self.is_alive(probe))
    }

    fn way(&self, covers: Covers, now: DateTime<Utc>) -> Way {
        self.standing.way(covers, now, |probe| self.is_alive(probe))
    }

    /// Whether a probe's own lease still holds it.
    fn is_alive(&self, probe: &Probe) -> bool {
        self.leased.get(&probe.resource).is_some_and(|hold| hold.token == probe.lease)
    }

    /// Grants some of what isn't [taken](Self::taken) nor of a [closed](Self::closed) source, in due order.
    pub(super) fn grant(&self, wanted: Wanted, offered: &[Offered]) -> Grant {
        let due = offered.iter().filter(|one| one.due_at <= wanted.due_by).count();
        let open = self.open(offered.get(..due).unwrap_or(offered), wanted.now);
        let pace = self.standing.pace();
        let capacity = usize::try_from(self.limits.concurrent_at(pace)).unwrap_or(usize::MAX);
        let capacity = capacity.saturating_sub(self.under_way());
        let at_most = usize::try_from(wanted.at_most).unwrap_or(usize::MAX);
        let fitting = u32::try_from(open.len().min(capacity).min(at_most)).unwrap_or(u32::MAX);
        let mut taken = self.bucket.take((&self.limits, pace), wanted.now, fitting);
        let allowed = self.standing.allows(&self.limits, wanted.now, taken.granted);
        if allowed.now < taken.granted {
            // What a budget holds back costs no token.
            let next_at = taken.next_at;
            taken = self.bucket.take((&self.limits, pace), wanted.now, allowed.now);
            taken.next_at = next_at.max(allowed.short.map(|(_, until)| until));
        }
        let budget = allowed.short.map(|(budget, until)| Wait { until, why: Why::Budget(budget) });
        let mut granted = open;
        let open = granted.len();
        granted.truncate(usize::try_from(taken.granted).unwrap_or(usize::MAX));

        let shut = self.wait(Covers::Upstream, wanted.now);
        let own_lease = (!granted.is_empty()).then_some(wanted.lease.ends_at);
        let for_more = if due <= granted.len() {
            None
        } else if let Some(shut) = shut {
            Some(shut.until)
        } else if capacity <= granted.len() || self.way(Covers::Upstream, wanted.now) == Way::OneOnly {
            own_lease.or(taken.next_at)
        } else if open == 0 {
            None
        } else if granted.len() == open {
            // Others may be behind what a pause of their source holds up.
            Some(wanted.now)
        } else {
            // A token's time, or at once where only `at_most` was the limit.
            taken.next_at.or(Some(wanted.now))
        };
        let next_due = offered.iter().map(|one| one.due_at).find(|due_at| *due_at > wanted.due_by);
        // What a lost worker holds is due again when its lease ends, and its place is free.
        let soon = later(wanted.now, SOON);
        let lost = self.leased.values().chain(self.elsewhere.values()).map(|hold| hold.ends_at).min();
        let lost = lost.map(|end| end.max(soon));
        let reopens = self.closed_sources(wanted.now).min_by_key(|(_, wait)| wait.until).map(|(_, wait)| wait);
        let ask_again_at = [for_more, next_due, lost, reopens.map(|wait| wait.until)].into_iter().flatten().min();
        let ask_again_at = ask_again_at.map(|at| shut.map_or(at, |shut| at.max(shut.until)));
        // What other sources have due is worth waiting for.
        let wait = if due > 0 { shut.or(budget) } else { reopens };
        let standing = self.standing_after(granted.iter().filter_map(|place| offered.get(*place)), wanted);
        Grant { granted, bucket: taken.bucket, standing, ask_again_at, wait }
    }

    /// Which of what is due may be asked for, by pauses alone: their places.
    fn open(&self, due: &[Offered], now: DateTime<Utc>) -> Vec<usize> {
        let most = match self.way(Covers::Upstream, now) {
            Way::Open => usize::MAX,
            Way::OneOnly => 1,
            Way::Shut(_) => 0,
        };
        let mut probed = BTreeSet::new();
        let mut may = |one: &Offered| match self.way(Covers::Source(one.source), now) {
            Way::Open => true,
            Way::OneOnly => probed.insert(one.source),
            Way::Shut(_) => false,
        };
        due.iter().enumerate().filter(|(_, one)| may(one)).map(|(place, _)| place).take(most).collect()
    }

    /// How the upstream stands once these are leased, if that is to be stored: some of them may be probes.
    fn standing_after<'o>(&self, granted: impl Iterator<Item = &'o Offered>, wanted: Wanted) -> Option<Note> {
        let Hold { token: lease, ends_at } = wanted.lease;
        let mut standing = self.standing.clone();
        let mut requests = 0;
        for one in granted {
            requests += 1;
            for covers in [Covers::Upstream, Covers::Source(one.source)] {
                if self.way(covers, wanted.now) == Way::OneOnly {
                    standing.send_probe(covers, Probe { lease, resource: one.resource, ends_at });
                }
            }
        }
        if requests > 0 {
            standing.pay(&self.limits, wanted.now, requests);
        }
        self.noted.anew(&standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_has_expired_and_is_still_there_is_not_asked_for_at_once() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let limits = Limits {
            requests_per_second: None,
            burst: 1,
            max_concurrent: 1,
            budgets: crate::domain::budget::Budgets::NONE,
        };
        let bucket = Bucket { tokens: 1.0, at: now };
        let hold = |ends_at| Hold { token: LeaseToken(1), ends_at };
        let lease = hold(later(now, Duration::from_secs(60)));
        let wanted = Wanted { now, due_by: now, at_most: 1, lease };
        let leased = HashMap::from([(ResourceId(1), hold(now - Duration::from_secs(1)))]);
        let upstream = |leased, elsewhere| Upstream {
            limits,
            bucket,
            standing: Standing::default(),
            noted: Note(None),
            leased,
            riders: 0,
            elsewhere,
        };
        let soon = Some(now + SOON);
        // It counts against the limit, or holds the only resource that is due.
        let own = upstream(leased.clone(), HashMap::new());
        let due = Offered { resource: ResourceId(2), source: SourceId(1), due_at: now };
        assert_eq!(own.grant(wanted, &[due]).ask_again_at, soon);
        let elsewhere = upstream(HashMap::new(), leased);
        assert_eq!(elsewhere.grant(wanted, &[]).ask_again_at, soon);
    }
}
