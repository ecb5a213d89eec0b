//! Copies that come from an archive, or go into one.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::columns::{Cells, Record, current, micros};
use super::plan::{ChangeRow, Leases, Plan, ScheduleRow};
use super::{Current, StoreError};
use crate::domain::archive::{Replaced, Restored};
use crate::domain::change::ChangeKind;
use crate::domain::decision::{Metadata, Replacement};
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, Params, ResourceId};
use crate::domain::schedule::Because;
use crate::domain::snapshot::ContentHash;

/// A polled resource with all that an archive has of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Its key.
    pub key: Key,
    /// Values for its URL template.
    pub params: Params,
    /// By whom it was added by hand.
    pub hands: Vec<Hand>,
    /// What a reader sees of it.
    pub current: Current,
    /// The upstream's max-age in seconds.
    pub max_age: Option<u32>,
    /// [`Snapshot::content_hash`](crate::domain::snapshot::Snapshot::content_hash) of its content.
    pub content_hash: Option<ContentHash>,
}

/// What became of a resource that was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// It is stored, or gone, as the archive says.
    Stored,
    /// The content was there already; it is confirmed as of the archive's time.
    Confirmed,
    /// What is stored is as new or newer, and stays; or it is erased, and stays so.
    Kept,
    /// The archive says nothing of it but its key.
    Nothing,
}

/// Reads a row of an export: that of [`current`], and `key, params, hands` (names with commas between them), `max_age,
/// content_hash`.
pub(super) fn exported<R: Cells>(row: &R) -> Result<Exported, StoreError> {
    let record = Record::identified_by(row, "resource", "id")?;
    let hands = record.maybe_text("hands")?.unwrap_or_default();
    Ok(Exported {
        key: record.key("key")?,
        params: record.params("params")?,
        hands: Hand::ALL.into_iter().filter(|hand| hands.split(',').any(|name| name == hand.as_str())).collect(),
        current: current(row)?,
        max_age: record.maybe_count("max_age")?,
        content_hash: record.maybe_hash("content_hash")?,
    })
}

/// What is known of a resource before an import.
#[derive(Debug)]
pub(super) struct Stored {
    id: ResourceId,
    version: u64,
    content_hash: Option<ContentHash>,
    gone_since: Option<i64>,
    due_at: i64,
    because: i16,
    fetched_at: Option<i64>,
    is_erased: bool,
    /// Whether its source keeps nothing of what is gone.
    erases_gone: bool,
}

impl Stored {
    /// `id, key, version, content_hash, gone_since, due_at, because, fetched_at, erased_at, erase_gone`.
    pub(super) fn read<R: Cells>(row: &R) -> Result<(String, Self), StoreError> {
        let record = Record::identified_by(row, "resource", "id")?;
        let stored = Self {
            id: ResourceId(record.id()),
            version: record.count("version")?,
            content_hash: record.maybe_hash("content_hash")?,
            gone_since: record.maybe_integer("gone_since")?,
            // What is retired has none, and keeps none whatever is written.
            due_at: record.maybe_integer("due_at")?.unwrap_or_default(),
            because: record.count("because")?,
            fetched_at: record.maybe_integer("fetched_at")?,
            is_erased: record.maybe_integer("erased_at")?.is_some(),
            erases_gone: record.integer("erase_gone")? != 0,
        };
        Ok((record.text("key")?, stored))
    }

    /// When what is stored was last known to be so.
    fn known_at(&self) -> i64 {
        self.fetched_at.max(self.gone_since).unwrap_or(i64::MIN)
    }

    /// What its source keeps of the contents that an archive has: the present one, and those from after so many versions.
    fn kept<'r>(&self, restored: &'r Restored) -> (Option<&'r Replacement>, u64) {
        if !self.erases_gone {
            return (restored.content.as_ref(), 0);
        }
        if restored.gone_since.is_some() {
            return (None, u64::MAX);
        }
        let went = restored.history.iter().filter(|past| past.is_gone).map(|past| past.version).max();
        (restored.content.as_ref(), went.unwrap_or(0))
    }
}

/// What an import writes of one resource.
#[derive(Debug)]
struct Write {
    schedule: ScheduleRow,
    changed_at: DateTime<Utc>,
    replaced: Option<Replacement>,
    confirmed: Option<Metadata>,
    past: Vec<Replaced>,
    gone: Option<DateTime<Utc>>,
    change: Option<ChangeKind>,
}

/// A batch of an import, decided.
#[derive(Debug)]
pub(super) struct Imports {
    writes: Vec<Write>,
    /// What became of each resource of the batch, in its order.
    pub(super) fates: Vec<Import>,
}

impl Imports {
    /// Decides. Keys differ within a batch; what isn't among `stored` is left out.
    pub(super) fn of(batch: &[Restored], stored: &HashMap<String, Stored>) -> Self {
        let mut imports = Self { writes: Vec::new(), fates: Vec::with_capacity(batch.len()) };
        for restored in batch {
            let fate = match stored.get(restored.key.as_str()) {
                Some(stored) => imports.add(restored, stored),
                None => Import::Nothing,
            };
            imports.fates.push(fate);
        }
        imports
    }

    fn add(&mut self, restored: &Restored, stored: &Stored) -> Import {
        let (content, erased_until) = stored.kept(restored);
        let fetched_at = content.map(|content| micros(content.freshness.fetched_at));
        let gone = restored.gone_since;
        if stored.is_erased {
            return Import::Kept;
        }
        let Some(known_at) = fetched_at.max(gone.map(micros)) else { return Import::Nothing };
        if known_at <= stored.known_at() {
            return Import::Kept;
        }
        let is_same = |content: &Replacement| {
            stored.gone_since.is_none() && stored.content_hash == Some(content.snapshot.content_hash)
        };
        let confirmed = content.filter(|content| is_same(content));
        let replaced = content
            .filter(|content| !is_same(content))
            .map(|content| Replacement { version: content.version.max(stored.version + 1), ..content.clone() });
        let change = match (gone, &replaced) {
            (Some(_), _) if stored.gone_since.is_some() => None,
            (Some(_), _) => Some(ChangeKind::Gone),
            (None, None) => None,
            (None, Some(_)) if stored.gone_since.is_some() => Some(ChangeKind::Returned),
            (None, Some(_)) if stored.version == 0 => Some(ChangeKind::Created),
            (None, Some(_)) => Some(ChangeKind::Changed),
        };
        // What has a version from here on is the present content, or was replaced here.
        let version = replaced.as_ref().map_or(stored.version, |content| content.version);
        let is_past = |past: &&Replaced| erased_until < past.version && past.version < version;
        let past = restored.history.iter().filter(is_past).cloned().collect();
        let fate = if confirmed.is_some() && gone.is_none() { Import::Confirmed } else { Import::Stored };
        self.writes.push(Write {
            schedule: ScheduleRow {
                resource: stored.id,
                due_at: stored.due_at,
                because: if stored.because == Because::New.code() { Because::Interval.code() } else { stored.because },
                // Older than any wish: what someone waits for stays wanted.
                requested_at: i64::MIN,
                fetched_at,
                stale_after: content.map(|content| micros(content.freshness.stale_after)),
                kept_until: None,
            },
            changed_at: restored.changed_at,
            confirmed: confirmed.map(|content| content.metadata.clone()),
            replaced,
            past,
            gone,
            change,
        });
        fate
    }

    /// Whether there is nothing to write.
    pub(super) fn are_none(&self) -> bool {
        self.writes.is_empty()
    }

    /// What to write. Refreshes under way are cut off from what is imported: they began with what was there before.
    pub(super) fn plan(&self, leases: &Leases, now: DateTime<Utc>) -> Plan<'_> {
        let mut plan = Plan::default();
        for write in &self.writes {
            let id = write.schedule.resource;
            plan.schedule.push(write.schedule);
            plan.confirmed.extend(write.confirmed.as_ref().map(|metadata| (id, metadata)));
            plan.replaced.extend(write.replaced.as_ref().map(|content| (id, write.changed_at, content)));
            plan.past.extend(write.past.iter().map(|past| (id, past)));
            plan.gone.extend(write.gone.map(|since| (id, since)));
            plan.changes.extend(write.change.map(|kind| ChangeRow {
                tag: fastrand::u32(..),
                resource: id,
                kind,
                at: micros(now),
            }));
        }
        for (token, held) in leases {
            let own = |id: &&ResourceId| self.writes.iter().any(|write| write.schedule.resource == **id);
            let cut: BTreeSet<_> = held.resources.iter().filter(own).copied().collect();
            if !cut.is_empty() {
                plan.settled.insert(*token, cut);
            }
        }
        plan
    }
}

/// Keys and parameters of what is stored without being polled, if it isn't there.
pub(super) fn with_copies(batch: &[Restored]) -> impl Iterator<Item = &Restored> {
    batch.iter().filter(|restored| restored.content.is_some() || restored.gone_since.is_some())
}
