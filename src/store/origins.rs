//! Where keys come from: the words of it, and what has to be done with keys that an origin has.
//!
//! An origin is read as a whole. [`Store::begin_round`](super::Store::begin_round) begins that, and shuts out whoever read it
//! before; [`put_keys`](super::Store::put_keys) adds what is in it, in parts; and what was not seen is taken away from it
//! afterwards, by [`listed`](super::Store::listed) and [`drop_keys`](super::Store::drop_keys), in parts too. So neither side
//! is ever held in memory, but for one bit a key ([`Seen`]), and an origin that is read again and says the same writes
//! nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringTreemap;

use super::columns::{Cells, Record, feed_tag, params_json};
use super::{Authority, KeysChanged, StoreError};
use crate::domain::change::Cursor;
use crate::domain::origin::FIRST_OF_OTHERS;
use crate::domain::resource::{Key, Params, ResourceId};

/// How many keys make room for one that is new at the most, so that its reader does not wait for a limit that was lowered.
pub(super) const MOST_EVICTED: i64 = 1000;

/// How many keys of readers are too much.
pub(super) fn excess(keys: i64, most: u32) -> i64 {
    keys.saturating_sub(most.into()).max(0)
}

/// Row id of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginId(pub i64);

/// An origin as the configuration describes it, for [`Store::origins`](super::Store::origins).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginSpec {
    /// Its name, unique within the source.
    pub name: String,
    /// Of several origins with the same key, the one with the lowest place says its parameters.
    pub place: i64,
    /// The file, the query, or the other source.
    pub about: String,
}

/// An origin as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOrigin {
    /// Its id.
    pub id: OriginId,
    /// The mark of what was read last, all of which is stored; `None` when it is to be read again.
    pub mark: Option<String>,
    /// When it was last read as a whole.
    pub synced_at: Option<DateTime<Utc>>,
}

/// A reading of an origin. The next one makes it void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Of which origin.
    pub origin: OriginId,
    /// Its number.
    pub number: i64,
}

/// The resources that were seen in an origin: about one bit for each, since their ids are neighbours mostly, and two bytes
/// at the most.
#[derive(Debug, Clone, Default)]
pub struct Seen(RoaringTreemap);

impl Seen {
    /// Whether it was seen.
    #[must_use]
    pub fn has(&self, resource: ResourceId) -> bool {
        self.0.contains(resource.0.unsigned_abs())
    }

    /// Notes those that a part had.
    pub fn note(&mut self, resources: &[ResourceId]) {
        self.0.extend(resources.iter().map(|id| id.0.unsigned_abs()));
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }
}

/// What [`Store::put_keys`](super::Store::put_keys) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// What became of the source's keys.
    pub changed: KeysChanged,
    /// The resources of all these keys, in no particular order.
    pub resources: Vec<ResourceId>,
    /// How many keys had been seen in this round before; they are left as they were then.
    pub duplicates: u64,
}

/// What [`Store::remove_keys`](super::Store::remove_keys) did with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// No origin has it any more: it is not polled.
    Retired,
    /// It was taken out of the hands' lists, and these origins still have it.
    StillIn(Vec<String>),
    /// It was never added by hand; these origins have it.
    OnlyIn(Vec<String>),
    /// No origin has it.
    Unknown,
}

/// A key with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// The key.
    pub key: Key,
    /// The parameters that hold.
    pub params: Params,
    /// The names of the origins that have it, the one whose parameters hold first.
    pub origins: Vec<String>,
}

/// How an origin stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginStatus {
    /// Its name.
    pub name: String,
    /// The file, the query, or the other source.
    pub about: String,
    /// How many keys it has.
    pub keys: u64,
    /// When it was last read as a whole.
    pub synced_at: Option<DateTime<Utc>>,
    /// What is wrong with it now, and since when that was last found.
    pub problem: Option<(String, DateTime<Utc>)>,
}

impl OriginSpec {
    /// Whether it is never waited for.
    pub(super) fn is_always_there(&self) -> bool {
        self.place < FIRST_OF_OTHERS
    }
}

/// The origins that are stored as they are described; `None` when one of them isn't. Rows of
/// `id, name, place, about, mark, synced_at` of `origin`.
pub(super) fn as_described<R: Cells>(rows: &[R], specs: &[OriginSpec]) -> Result<Option<Vec<KnownOrigin>>, StoreError> {
    let mut stored = HashMap::with_capacity(rows.len());
    for row in rows {
        let record = Record::identified_by(row, "origin", "id")?;
        let spec =
            OriginSpec { name: record.text("name")?, place: record.integer("place")?, about: record.text("about")? };
        stored.insert(spec.name.clone(), (spec, KnownOrigin::read(row)?));
    }
    let found = |spec: &OriginSpec| Some(stored.get(&spec.name).filter(|(as_stored, _)| as_stored == spec)?.1.clone());
    Ok(specs.iter().map(found).collect())
}

impl Removed {
    /// Of a key that these origins had, and those that have it now, if any.
    pub(super) fn of(before: &[String], left: Option<Vec<String>>) -> Self {
        match left {
            None => Self::Retired,
            Some(left) if left == before => Self::OnlyIn(left),
            Some(left) => Self::StillIn(left),
        }
    }
}

impl KnownOrigin {
    /// `id, mark, synced_at` of `origin`.
    pub(super) fn read<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "origin", "id")?;
        Ok(Self {
            id: OriginId(record.id()),
            mark: record.maybe_text("mark")?,
            synced_at: record.maybe_time("synced_at")?,
        })
    }
}

impl OriginStatus {
    /// `source_id, name, about, keys, synced_at, problem, problem_at` of `origin`.
    pub(super) fn read<R: Cells>(row: &R) -> Result<(i64, Self), StoreError> {
        let record = Record::identified_by(row, "origin", "source_id")?;
        let problem = record.maybe_text("problem")?.zip(record.maybe_time("problem_at")?);
        let origin = Self {
            name: record.text("name")?,
            about: record.text("about")?,
            keys: record.count("keys")?,
            synced_at: record.maybe_time("synced_at")?,
            problem,
        };
        Ok((record.id(), origin))
    }
}

impl ListedKey {
    /// `id, key, params` of `resource`, and the origins' names with commas between them.
    pub(super) fn read<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "resource", "id")?;
        let origins = record.maybe_text("origins")?.unwrap_or_default();
        Ok(Self {
            key: record.key("key")?,
            params: record.params("params")?,
            origins: origins.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        })
    }
}

/// What is stored under a key.
pub(super) struct KnownKey {
    id: i64,
    params: String,
    is_retired: bool,
    is_erased: bool,
    /// What this origin said last, if it has the key.
    own: Option<String>,
    /// The first other origin that has it.
    other: Option<i64>,
}

impl KnownKey {
    /// `id, key, params, retired_at, erased_at` of `resource`; `own, other`.
    pub(super) fn read<R: Cells>(row: &R) -> Result<(String, Self), StoreError> {
        let record = Record::identified_by(row, "resource", "id")?;
        let known = Self {
            id: record.id(),
            params: record.text("params")?,
            is_retired: record.maybe_integer("retired_at")?.is_some(),
            is_erased: record.maybe_integer("erased_at")?.is_some(),
            own: record.maybe_text("own")?,
            other: record.maybe_integer("other")?,
        };
        Ok((record.text("key")?, known))
    }
}

/// What has to be written for some keys of an origin.
#[derive(Default)]
pub(super) struct Changes {
    /// Keys that are not there, with their parameters.
    pub(super) new: Vec<(String, String)>,
    /// Resources that the origin has from now on, or with other parameters.
    pub(super) attached: Vec<(i64, String)>,
    /// Those of them that it didn't have.
    pub(super) joined: u64,
    /// Resources that are polled again.
    pub(super) revived: Vec<i64>,
    /// Resources whose parameters are others now.
    pub(super) updated: Vec<(i64, String)>,
    /// All that are there, changed or not.
    pub(super) known: Vec<ResourceId>,
    pub(super) duplicates: u64,
}

impl Changes {
    /// Compares the keys that an origin at this place has with what is stored. Of a key that is there twice the first
    /// counts. Who only adds leaves what is polled as it is.
    pub(super) fn of(
        keys: &[(Key, Params)],
        mut known: HashMap<String, KnownKey>,
        (place, seen): (i64, &Seen),
        authority: Authority,
    ) -> Self {
        let mut changes = Self::default();
        let mut met = std::collections::HashSet::with_capacity(keys.len());
        for (key, params) in keys {
            if !met.insert(key) {
                changes.duplicates += 1;
                continue;
            }
            match known.remove(key.as_str()) {
                None => changes.new.push((key.as_str().to_owned(), params_json(params))),
                Some(known) if seen.has(ResourceId(known.id)) => changes.duplicates += 1,
                // Nobody has it fetched again by listing it.
                Some(known) if known.is_erased => changes.known.push(ResourceId(known.id)),
                Some(known) if authority == Authority::Adds && !known.is_retired => {
                    changes.known.push(ResourceId(known.id));
                }
                Some(known) => changes.compare(&known, params_json(params), place),
            }
        }
        changes
    }

    fn compare(&mut self, known: &KnownKey, params: String, place: i64) {
        self.known.push(ResourceId(known.id));
        if known.is_retired {
            self.revived.push(known.id);
        }
        if known.params != params && known.other.is_none_or(|other| place < other) {
            self.updated.push((known.id, params.clone()));
        }
        if known.own.as_deref() != Some(params.as_str()) {
            self.joined += u64::from(known.own.is_none());
            self.attached.push((known.id, params));
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn are_none(&self) -> bool {
        self.new.is_empty() && self.attached.is_empty() && self.revived.is_empty() && self.updated.is_empty()
    }

    /// Those that are due at once.
    pub(super) fn due(&self) -> Vec<i64> {
        let mut due: Vec<i64> = self.revived.iter().copied().chain(self.updated.iter().map(|(id, _)| *id)).collect();
        due.sort_unstable();
        due.dedup();
        due
    }

    /// What a caller is told.
    pub(super) fn counts(&self) -> KeysChanged {
        KeysChanged {
            added: self.new.len() as u64,
            revived: self.revived.len() as u64,
            updated: self.updated.len() as u64,
        }
    }
}

/// The place after the feed's last entry, of which this is number and tag; without one, the beginning.
pub(super) fn feed_end(last: Option<(i64, i64)>, seed: u64) -> Cursor {
    let beginning = Cursor { number: 0, tag: feed_tag(seed) };
    last.map_or(beginning, |(number, tag)| Cursor { number, tag: u32::try_from(tag).unwrap_or_default() })
}

/// The error of a round after which another one has begun.
pub(super) fn outdated() -> StoreError {
    StoreError::Rejected("another reading of the same keys has begun since, perhaps by another process".into())
}

/// The error for a source that isn't there.
pub(super) fn no_source(source: i64) -> StoreError {
    StoreError::Rejected(format!("there is no source {source}"))
}
