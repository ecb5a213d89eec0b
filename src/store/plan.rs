//! What a batch of outcomes means for the tables, as rows for set-based statements. The databases' own modules only spell
//! these as SQL, so that a rule can't hold on one of them alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::columns::micros;
use super::{Fate, GoneBudget, LeaseToken, Settled};
use crate::domain::archive::Replaced;
use crate::domain::change::ChangeKind;
use crate::domain::decision::{Absent, Deferral, Freshness, Metadata, Outcome, Replacement};
use crate::domain::failure::FailureKind::{BadRequest, Limited};
use crate::domain::governor::{Heard, Said};
use crate::domain::refused::Refused;
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::domain::schedule::{Due, has_lasted};

/// After so many answers in a row that say "out of reach", the first that says otherwise ends an outage.
pub(super) const OUTAGE: u32 = 3;

/// How many resources one apply retries at the most when an outage ends, so that nobody waits long for its commit.
pub(super) const RETRIES: u32 = 10_000;

/// A lease that an outcome of the batch names.
#[derive(Debug)]
pub(super) struct Held {
    /// Whose limits it counts against.
    pub(super) upstream: UpstreamId,
    /// What it still holds.
    pub(super) resources: BTreeSet<ResourceId>,
}

/// The leases of a batch.
pub(super) type Leases = HashMap<LeaseToken, Held>;

/// Which outcomes of the batch may be stored: the lease holds the resource, and no earlier one settles it already.
pub(super) fn admit(batch: &[Settled], leases: &Leases) -> Vec<Fate> {
    let mut settled = HashSet::new();
    batch
        .iter()
        .map(|one| {
            let is_held = leases.get(&one.token).is_some_and(|lease| lease.resources.contains(&one.resource));
            if is_held && settled.insert(one.resource) { Fate::Committed } else { Fate::LeaseLost }
        })
        .collect()
}

/// Whether nothing but confirmations is to be stored. A power failure may take such a commit back: the resources are due
/// as before, and the same request brings the same answer. (A pause that ends may be asked after once more; none that begins
/// may be lost.)
pub(super) fn may_be_lost(batch: &[Settled]) -> bool {
    let may_be = |one: &Settled| matches!(one.outcome, Outcome::Confirmed { .. }) && !begins_a_pause(one.signal.said);
    batch.iter().all(may_be)
}

/// Whether an answer asks for quiet.
pub(super) fn begins_a_pause(said: Said) -> bool {
    said.quiet().is_some()
}

/// The ids that would newly become gone: the source's gone budget decides over these.
pub(super) fn going(batch: &[Settled], fates: &[Fate]) -> Vec<ResourceId> {
    batch
        .iter()
        .zip(fates)
        .filter(|(one, fate)| **fate == Fate::Committed && is_going(one))
        .map(|(one, _)| one.resource)
        .collect()
}

fn is_going(one: &Settled) -> bool {
    matches!(&one.outcome, Outcome::Gone(Absent { held: Some(_), .. }))
}

/// How much of a source has become gone in the present period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GonePeriod {
    /// When the period began.
    pub(super) began: DateTime<Utc>,
    /// How many resources have become gone in it.
    pub(super) gone: u64,
    /// How many keys the source has.
    pub(super) keys: u64,
}

impl GonePeriod {
    /// Lets one more go, if the budget allows it. A period that has passed gives way to a new one.
    fn let_go(&mut self, budget: &GoneBudget, now: DateTime<Utc>) -> bool {
        if has_lasted(self.began, now, budget.period) {
            (self.began, self.gone) = (now, 0);
        }
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let allowed = ((self.keys as f64 * budget.share) as u64).max(1);
        let may_go = self.gone < allowed;
        self.gone += u64::from(may_go);
        may_go
    }

    /// Lets so many go, if the budget allows all of them: of a list that lost more than that, none of it is believed.
    pub(super) fn let_all_go(&mut self, many: u64, budget: &GoneBudget, now: DateTime<Utc>) -> bool {
        let mut after = *self;
        let may_go = (0..many).all(|_| after.let_go(budget, now));
        if may_go {
            *self = after;
        }
        may_go
    }
}

/// Holds back what is beyond the gone budgets of the sources, and counts the rest. `source_of` knows each id of [`going`].
pub(super) fn hold_back(
    batch: &[Settled],
    fates: &mut [Fate],
    source_of: &HashMap<ResourceId, SourceId>,
    periods: &mut BTreeMap<SourceId, GonePeriod>,
) {
    for (one, fate) in batch.iter().zip(fates) {
        if *fate != Fate::Committed || !is_going(one) {
            continue;
        }
        let period = source_of.get(&one.resource).and_then(|source| periods.get_mut(source));
        if !period.is_some_and(|period| period.let_go(&one.gone_budget, one.decided_at)) {
            *fate = Fate::Held;
        }
    }
}

/// Everything that a batch writes, but for its number.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// For each stored outcome, the schedule's row. The statement keeps `due_at` NULL (retired), and leaves due what was
    /// wanted after `requested_at`.
    pub(super) schedule: Vec<ScheduleRow>,
    /// New metadata; failures, 404s end.
    pub(super) confirmed: Vec<(ResourceId, &'a Metadata)>,
    /// Fields that replace those of their names in the stored content's.
    pub(super) described: Vec<(ResourceId, &'a HeaderMap)>,
    /// Contents from before the present one, which an archive has.
    pub(super) past: Vec<(ResourceId, &'a Replaced)>,
    /// New content; failures, 404s and being gone end.
    pub(super) replaced: Vec<(ResourceId, DateTime<Utc>, &'a Replacement)>,
    /// The validators go.
    pub(super) reset: Vec<ResourceId>,
    /// Failures and 404s are these now.
    pub(super) deferred: Vec<(ResourceId, &'a Deferral)>,
    /// Bodies that came and were refused, and when.
    pub(super) refused: Vec<(ResourceId, i64, &'a Refused)>,
    /// Gone since; validators, failures and 404s go.
    pub(super) gone: Vec<(ResourceId, DateTime<Utc>)>,
    /// Entries for the change feed, in order; their version is the resource's after these writes.
    pub(super) changes: Vec<ChangeRow>,
    /// What each upstream's answers say about being in reach.
    pub(super) reach: BTreeMap<UpstreamId, Reach>,
    /// What is touched besides those that have a row of `schedule` here.
    pub(super) also_touched: Vec<ResourceId>,
    /// The walk whose page this is: who waits for it hears of each.
    pub(super) beside: Option<ResourceId>,
    /// What they say about how it wants to be asked, in their order.
    pub(super) heard: BTreeMap<UpstreamId, Vec<Heard>>,
    /// What is settled, by lease.
    pub(super) settled: BTreeMap<LeaseToken, BTreeSet<ResourceId>>,
}

/// A row of `schedule` after a refresh.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScheduleRow {
    pub(super) resource: ResourceId,
    pub(super) due_at: i64,
    pub(super) because: i16,
    pub(super) requested_at: i64,
    /// `None` leaves this, `stale_after` and `kept_until` as they are.
    pub(super) fetched_at: Option<i64>,
    pub(super) stale_after: Option<i64>,
    pub(super) kept_until: Option<i64>,
}

/// A row of `change`, without its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeRow {
    pub(super) tag: u32,
    pub(super) resource: ResourceId,
    pub(super) kind: ChangeKind,
    pub(super) at: i64,
}

impl<'a> Plan<'a> {
    /// What to write for those of the batch that are not refused.
    pub(super) fn of(batch: &'a [Settled], fates: &[Fate], leases: &Leases) -> Self {
        let mut plan = Self::default();
        for (one, fate) in batch.iter().zip(fates) {
            let Some(lease) = leases.get(&one.token).filter(|_| *fate != Fate::LeaseLost) else { continue };
            plan.settled.entry(one.token).or_default().insert(one.resource);
            plan.reach.entry(lease.upstream).or_default().add(&one.outcome);
            let heard = Heard { lease: one.token, resource: one.resource, signal: one.signal };
            plan.heard.entry(lease.upstream).or_default().push(heard);
            match &one.outcome {
                Outcome::Gone(Absent { held: Some(deferral), .. }) if *fate == Fate::Held => plan.defer(one, deferral),
                outcome => plan.add(one, outcome),
            }
        }
        plan
    }

    fn add(&mut self, one: &Settled, outcome: &'a Outcome) {
        let id = one.resource;
        match outcome {
            Outcome::Replaced(replacement) => {
                self.schedule(one, replacement.due, Some((replacement.freshness, replacement.kept_until)));
                self.replaced.push((id, one.decided_at, replacement));
                self.change(one, replacement.kind);
            }
            Outcome::Confirmed { freshness, kept_until, metadata, described, due } => {
                self.schedule(one, *due, Some((*freshness, *kept_until)));
                self.confirmed.extend(metadata.as_ref().map(|metadata| (id, metadata)));
                self.described.extend((!described.is_empty()).then_some((id, described)));
            }
            Outcome::Reset { due } => {
                self.schedule(one, *due, None);
                self.reset.push(id);
            }
            Outcome::Deferred(deferral) => self.defer(one, deferral),
            Outcome::Gone(absent) => {
                self.schedule(one, absent.due, None);
                self.gone.push((id, absent.since));
                if absent.held.is_some() {
                    self.change(one, ChangeKind::Gone);
                }
            }
        }
    }

    fn defer(&mut self, one: &Settled, deferral: &'a Deferral) {
        self.schedule(one, deferral.due, None);
        self.deferred.push((one.resource, deferral));
        let refused = deferral.refused.as_ref();
        self.refused.extend(refused.map(|refused| (one.resource, micros(one.decided_at), refused)));
    }

    fn schedule(&mut self, one: &Settled, due: Due, copy: Option<(Freshness, Option<DateTime<Utc>>)>) {
        self.schedule.push(ScheduleRow {
            resource: one.resource,
            due_at: micros(due.at),
            because: due.because.code(),
            requested_at: micros(one.requested_at),
            fetched_at: copy.map(|(freshness, _)| micros(freshness.fetched_at)),
            stale_after: copy.map(|(freshness, _)| micros(freshness.stale_after)),
            kept_until: copy.and_then(|(_, kept_until)| kept_until).map(micros),
        });
    }

    fn change(&mut self, one: &Settled, kind: ChangeKind) {
        let at = micros(one.decided_at);
        self.changes.push(ChangeRow { tag: fastrand::u32(..), resource: one.resource, kind, at });
    }

    /// The ids of those for which something usable came, and that may have failed before.
    pub(super) fn recovered(&self) -> impl Iterator<Item = ResourceId> {
        let confirmed = self.confirmed.iter().map(|(id, _)| *id);
        confirmed.chain(self.replaced.iter().map(|(id, ..)| *id)).chain(self.gone.iter().map(|(id, _)| *id))
    }

    /// The ids of what is stored, in the batch's order.
    pub(super) fn touched(&self) -> impl Iterator<Item = ResourceId> {
        let rows = self.schedule.iter().map(|row| row.resource);
        rows.chain(self.also_touched.iter().copied()).chain(self.beside)
    }
}

/// What a batch's answers say about whether their upstream can be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reach {
    before: u32,
    answered: bool,
    after: u32,
}

impl Reach {
    /// That of one answer.
    pub(super) fn answered() -> Self {
        Self { answered: true, ..Self::default() }
    }

    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Deferred(deferral) if deferral.failing.last.is_outage() => {
                *(if self.answered { &mut self.after } else { &mut self.before }) += 1;
            }
            // Nothing was asked of the upstream.
            Outcome::Deferred(deferral) if matches!(deferral.failing.last.kind, BadRequest | Limited) => {}
            _ => (self.answered, self.after) = (true, 0),
        }
    }

    /// The upstream's run of answers that say "out of reach", after this batch.
    pub(super) fn outages(self, so_far: u32) -> u32 {
        if self.answered { self.after } else { so_far.saturating_add(self.before) }
    }

    /// The same after an outage has ended and so many were retried: where more may be left, the next answer ends the
    /// outage once more.
    pub(super) fn outages_left(self, so_far: u32, retried: u64) -> u32 {
        let outages = self.outages(so_far);
        if retried < u64::from(RETRIES) { outages } else { outages.max(OUTAGE) }
    }

    /// Whether the batch has the answer that ends an outage.
    pub(super) fn ends_outage(self, so_far: u32) -> bool {
        self.answered && so_far.saturating_add(self.before) >= OUTAGE
    }
}
