//! Erasing: nothing is left of a resource but its key, and that it is erased.
//!
//! Its row stays as a tombstone: retired for ever, so that no schedule, reader or claim has it fetched, and no origin, page of a
//! collection or archive makes it anew. In the transaction that erases, refreshes under way lose their leases of it, so that
//! what they bring is refused.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::StoreError;
use super::columns::{Cells, Record, micros};
use super::plan::{ChangeRow, Leases, Plan};
use crate::domain::change::ChangeKind;
use crate::domain::resource::{Key, ResourceId};
use crate::domain::schedule::NEVER;

/// What became of a key that was to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// All that there was of it is gone.
    Now(ResourceId),
    /// It was erased before.
    Before,
    /// There was nothing of it, and there won't be.
    Unseen,
    /// There is no such key; nothing was done.
    Unknown,
}

/// What became of a key that may be fetched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// It is polled again, and due.
    Polled,
    /// Nobody lists it now: it comes back with whoever does.
    Unlisted,
    /// It is not erased.
    NotErased,
}

/// From when on what is erased is retired: never so long ago that it is pruned.
pub(super) fn retired_at() -> i64 {
    micros(NEVER)
}

/// A resource as an erasure or its undoing finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: ResourceId,
    pub(super) is_retired: bool,
    pub(super) is_erased: bool,
    /// Whether origins have it.
    pub(super) is_listed: bool,
}

impl Found {
    /// `id, key, retired_at, erased_at` of `resource`, and `listed`, in how many origins it is.
    pub(super) fn read<R: Cells>(row: &R) -> Result<(String, Self), StoreError> {
        let record = Record::identified_by(row, "resource", "id")?;
        let found = Self {
            id: ResourceId(record.id()),
            is_retired: record.maybe_integer("retired_at")?.is_some(),
            is_erased: record.maybe_integer("erased_at")?.is_some(),
            is_listed: record.integer("listed")? > 0,
        };
        Ok((record.text("key")?, found))
    }
}

/// What to erase, worked out from what there is.
#[derive(Debug, Default)]
pub(super) struct Erasure {
    /// What becomes of each key, in the order given.
    pub(super) fates: Vec<Erased>,
    /// Resources to erase.
    pub(super) ids: Vec<i64>,
    /// Their keys.
    pub(super) keys: Vec<String>,
    /// How many of them are polled.
    pub(super) polled: i64,
    /// Keys that are not there and are to be blocked.
    pub(super) unseen: Vec<String>,
}

impl Erasure {
    /// Of these keys, of which these are there; with `unseen`, of the others too.
    pub(super) fn of(keys: &[Key], found: &HashMap<String, Found>, unseen: bool) -> Self {
        let mut erasure = Self::default();
        let mut met = HashSet::new();
        for key in keys {
            let fate = match found.get(key.as_str()) {
                Some(found) if found.is_erased => Erased::Before,
                Some(found) => Erased::Now(found.id),
                None if unseen => Erased::Unseen,
                None => Erased::Unknown,
            };
            erasure.fates.push(fate);
            if !met.insert(key) {
                continue;
            }
            match fate {
                Erased::Now(id) => {
                    erasure.ids.push(id.0);
                    erasure.keys.push(key.as_str().to_owned());
                    erasure.polled += i64::from(found.get(key.as_str()).is_some_and(|found| !found.is_retired));
                }
                Erased::Unseen => erasure.unseen.push(key.as_str().to_owned()),
                Erased::Before | Erased::Unknown => {}
            }
        }
        erasure.ids.sort_unstable();
        erasure
    }

    /// Whether nothing is to be written.
    pub(super) fn is_none(&self) -> bool {
        self.ids.is_empty() && self.unseen.is_empty()
    }

    /// What is announced, and which leases lose what.
    pub(super) fn plan<'p>(&self, leases: &Leases, now: DateTime<Utc>) -> Plan<'p> {
        let all: BTreeSet<ResourceId> = self.ids.iter().copied().map(ResourceId).collect();
        let change = |resource: &ResourceId| ChangeRow {
            tag: fastrand::u32(..),
            resource: *resource,
            kind: ChangeKind::Erased,
            at: micros(now),
        };
        let mut plan = Plan {
            changes: all.iter().map(change).collect(),
            also_touched: all.iter().copied().collect(),
            ..Plan::default()
        };
        for (token, held) in leases {
            let cut: BTreeSet<_> = held.resources.intersection(&all).copied().collect();
            if !cut.is_empty() {
                plan.settled.insert(*token, cut);
            }
        }
        plan
    }
}

/// What to allow again.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// What becomes of each key, in the order given.
    pub(super) fates: Vec<Allowed>,
    /// Resources that are polled again.
    pub(super) polled: Vec<i64>,
    /// Those that nobody lists.
    pub(super) unlisted: Vec<i64>,
}

impl Allowance {
    /// Of these keys, of which these are there.
    pub(super) fn of(keys: &[Key], found: &HashMap<String, Found>) -> Self {
        let mut allowance = Self::default();
        let mut met = HashSet::new();
        for key in keys {
            let erased = found.get(key.as_str()).filter(|found| found.is_erased);
            let Some(found) = erased else {
                allowance.fates.push(Allowed::NotErased);
                continue;
            };
            allowance.fates.push(if found.is_listed { Allowed::Polled } else { Allowed::Unlisted });
            if met.insert(key) {
                let into = if found.is_listed { &mut allowance.polled } else { &mut allowance.unlisted };
                into.push(found.id.0);
            }
        }
        allowance.polled.sort_unstable();
        allowance
    }
}

/// Those of these keys that are erased, of which these are there.
pub(super) fn erased(keys: &[Key], found: &HashMap<String, Found>) -> Vec<Key> {
    let is_erased = |key: &&Key| found.get(key.as_str()).is_some_and(|found| found.is_erased);
    keys.iter().filter(is_erased).cloned().collect()
}

/// Resources of a plan that are gone, and of which their sources keep nothing then.
pub(super) type GoneErased = HashSet<ResourceId>;

/// How a change is announced.
pub(super) fn kind(change: &ChangeRow, erased: &GoneErased) -> ChangeKind {
    let is_erased = change.kind == ChangeKind::Gone && erased.contains(&change.resource);
    if is_erased { ChangeKind::Erased } else { change.kind }
}
