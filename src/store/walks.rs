//! Collections: what a walk stores, page by page, and what its end means for members that it did not see.
//!
//! A collection's walk is a resource of its own, that with the empty key ([`Key::of_walk`]): due, claimed, leased, wanted and
//! failing as any other. Its members are resources that are never due by themselves ([`NEVER`]). Each page is one
//! transaction: its members, how far the walk has come, and a longer lease. So a walk that is broken off has stored what it
//! has seen, and nothing is taken for missing before one has come to its end.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::columns::{Cells, Record, micros};
use super::plan::{ChangeRow, Plan, Reach, ScheduleRow};
use super::{Brought, GoneBudget, LeaseToken, StoreError, WalkOf, WalkPage};
use crate::domain::change::ChangeKind;
use crate::domain::collection::{self, Item, Known, Remembered, Stamp, Step, UnderWay};
use crate::domain::decision::{Freshness, Metadata, Replacement};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::domain::schedule::{Because, Due, NEVER};
use crate::domain::snapshot::ContentHash;
use crate::domain::validators::Validators;

#[cfg(doc)]
use crate::domain::resource::Key;

/// The lease under which a walk stores.
#[derive(Debug, Clone, Copy)]
pub struct WalkLease {
    /// The lease.
    pub token: LeaseToken,
    /// The walk's own resource.
    pub walk: ResourceId,
    /// The collection.
    pub source: SourceId,
    /// What is asked for. What is stored of another is forgotten.
    pub fingerprint: Fingerprint,
}

/// The end of a walk.
#[derive(Debug, Clone)]
pub struct WalkEnd {
    /// Under which lease.
    pub lease: WalkLease,
    /// When.
    pub at: DateTime<Utc>,
    /// How it ended.
    pub how: HowItEnded,
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq)]
pub enum HowItEnded {
    /// It was on all pages.
    Complete {
        /// From which time on changes are asked for now; `None` leaves that.
        since: Option<String>,
        /// What to do about members that it did not see, if it looked for all and could read all.
        missing: Option<Missing>,
        /// What is wrong all the same.
        problem: Option<String>,
    },
    /// It failed.
    Failed {
        /// Whether it may go on later from where it was.
        goes_on: bool,
        /// What is wrong.
        problem: String,
    },
}

/// What to do about members that were not seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Missing {
    /// In how many complete walks in a row they must be missing to be gone.
    pub gone_after: u32,
    /// How many may go: all of them or none.
    pub budget: GoneBudget,
}

/// What the end of a walk did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether the lease held the walk; else nothing was stored.
    pub is_stored: bool,
    /// The members that are gone now.
    pub gone: Vec<ResourceId>,
    /// How many would have gone and were left as they were, being too many.
    pub held: u64,
}

impl Ended {
    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        (self.held > 0).then(|| held_back(self.held))
    }
}

impl WalkOf {
    /// `walk, walked_at` of a resource with the walk that it comes with, if it does.
    pub(super) fn read<R: Cells>(row: &R) -> Result<Option<Self>, StoreError> {
        let record = Record::of(row, "walk", 0);
        let Some(walk) = record.maybe_integer("walk")? else { return Ok(None) };
        Ok(Some(Self { walk: ResourceId(walk), ended_at: record.maybe_time("walked_at")? }))
    }
}

/// What a member of a page was.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub(super) struct KnownMember {
    pub(super) id: ResourceId,
    version: u64,
    content_hash: Option<ContentHash>,
    is_gone: bool,
    is_retired: bool,
    is_erased: bool,
    is_member: bool,
    was_absent: bool,
}

impl KnownMember {
    /// `id, key, version, content_hash, gone_since, retired_at, erased_at, absences` of `resource`, `because` of `schedule`.
    pub(super) fn read<R: Cells>(row: &R) -> Result<(String, Self), StoreError> {
        let record = Record::identified_by(row, "resource", "id")?;
        let known = Self {
            id: ResourceId(record.id()),
            version: record.count("version")?,
            content_hash: record.maybe_hash("content_hash")?,
            is_gone: record.maybe_integer("gone_since")?.is_some(),
            is_retired: record.maybe_integer("retired_at")?.is_some(),
            is_erased: record.maybe_integer("erased_at")?.is_some(),
            is_member: record.integer("because")? == i64::from(Because::Walk.code()),
            was_absent: record.integer("absences")? > 0,
        };
        Ok((record.text("key")?, known))
    }

    /// Whether it becomes a member by this page.
    pub(super) fn joins(&self) -> bool {
        !self.is_erased && (self.is_retired || !self.is_member)
    }

    /// Whether it counts as one more of the source's keys by this page.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired && !self.is_erased
    }

    /// Whether a page that is as it was can confirm it.
    pub(super) fn can_be_confirmed(&self) -> bool {
        !self.joins() && !self.is_gone && self.content_hash.is_some()
    }
}

/// The writes of a page, worked out from what its members were.
#[derive(Default)]
pub(super) struct Draft {
    replaced: Vec<(ResourceId, Replacement)>,
    confirmed: Vec<ResourceId>,
    recovered: Vec<(ResourceId, Metadata)>,
    pub(super) brought: Brought,
}

impl Draft {
    /// Of a page with these items.
    pub(super) fn of_items(page: &WalkPage, items: &[Item], known: &HashMap<String, KnownMember>) -> Self {
        let mut draft = Self::default();
        for item in items {
            let Some(member) = known.get(item.key.as_str()).filter(|member| !member.is_erased) else { continue };
            if member.content_hash == Some(item.snapshot.content_hash) && !member.is_gone {
                draft.confirm(member);
                continue;
            }
            let kind = match member.version {
                0 => ChangeKind::Created,
                _ if member.is_gone => ChangeKind::Returned,
                _ => ChangeKind::Changed,
            };
            *(if kind == ChangeKind::Changed { &mut draft.brought.changed } else { &mut draft.brought.new }) += 1;
            let replacement = Replacement {
                snapshot: item.snapshot.clone(),
                typed: None,
                version: member.version + 1,
                kind,
                metadata: Metadata::default(),
                freshness: page.freshness,
                kept_until: None,
                due: Due { at: NEVER, because: Because::Walk },
            };
            draft.replaced.push((member.id, replacement));
        }
        draft
    }

    /// Of a page that is as it was.
    pub(super) fn of_same(members: &[KnownMember]) -> Self {
        let mut draft = Self::default();
        for member in members {
            draft.confirm(member);
        }
        draft
    }

    fn confirm(&mut self, member: &KnownMember) {
        self.brought.unchanged += 1;
        self.confirmed.push(member.id);
        if member.joins() || member.was_absent {
            // It is there again; and what it failed of when it was asked for by itself is over.
            self.recovered.push((member.id, Metadata::default()));
        }
    }

    /// Whether nothing but confirmations is to be stored; see [`may_be_lost`](super::plan::may_be_lost).
    pub(super) fn may_be_lost(&self) -> bool {
        self.replaced.is_empty() && self.recovered.is_empty()
    }

    /// All members of the page.
    pub(super) fn members(&self) -> Vec<ResourceId> {
        self.replaced.iter().map(|(id, _)| *id).chain(self.confirmed.iter().copied()).collect()
    }

    /// The rows to write.
    pub(super) fn plan(&self, page: &WalkPage, upstream: UpstreamId) -> Plan<'_> {
        let at = page.decided_at;
        let Freshness { fetched_at, stale_after } = page.freshness;
        let schedule = |resource| ScheduleRow {
            resource,
            due_at: micros(NEVER),
            because: Because::Walk.code(),
            requested_at: micros(at),
            fetched_at: Some(micros(fetched_at)),
            stale_after: Some(micros(stale_after)),
            kept_until: None,
        };
        Plan {
            schedule: self.members().into_iter().map(schedule).collect(),
            replaced: self.replaced.iter().map(|(id, replacement)| (*id, at, replacement)).collect(),
            confirmed: self.recovered.iter().map(|(id, metadata)| (*id, metadata)).collect(),
            changes: self.replaced.iter().map(|(id, new)| change(*id, new.kind, at)).collect(),
            reach: BTreeMap::from([(upstream, Reach::answered())]),
            heard: BTreeMap::from([(upstream, vec![page.heard()])]),
            beside: Some(page.lease.walk),
            ..Plan::default()
        }
    }
}

/// The rows that make members gone.
pub(super) fn plan_of_gone<'p>(end: &WalkEnd, gone: &[ResourceId]) -> Plan<'p> {
    Plan {
        gone: gone.iter().map(|id| (*id, end.at)).collect(),
        changes: gone.iter().map(|id| change(*id, ChangeKind::Gone, end.at)).collect(),
        also_touched: gone.to_vec(),
        beside: Some(end.lease.walk),
        ..Plan::default()
    }
}

fn change(resource: ResourceId, kind: ChangeKind, at: DateTime<Utc>) -> ChangeRow {
    ChangeRow { tag: fastrand::u32(..), resource, kind, at: micros(at) }
}

/// What is wrong where so many members are held back.
#[must_use]
pub fn held_back(many: u64) -> String {
    format!(
        "{many} members were not in the list any more, more than max_delete_share lets go at once: they are kept as they are \
         until fewer are missing"
    )
}

/// Of `walk`: what is known of a collection's walks, but for the pages that the present one has been on. Nothing is known of
/// what asked for something else.
pub(super) fn known<R: Cells>(row: &R, asks: Fingerprint) -> Result<Known, StoreError> {
    let record = Record::identified_by(row, "walk", "source_id")?;
    let number = record.integer("number")?;
    if record.maybe_integer("fingerprint")? != Some(asks.0) {
        return Ok(Known { number, ..Known::default() });
    }
    let kind = record.maybe_integer("kind")?;
    let under_way = match kind {
        None => None,
        Some(code) => Some(UnderWay {
            kind: collection::Kind::from_code(code).ok_or_else(|| record.corrupt("kind", "there is no such kind"))?,
            began_at: record.time("began_at")?,
            pages: record.count("pages")?,
            next: record.maybe_text("next")?.map(Step),
            newest: record.maybe_text("newest")?.and_then(|text| Stamp::parse(&text)),
            left_out: record.maybe_text("left_out")?,
        }),
    };
    Ok(Known {
        number,
        under_way,
        since: record.maybe_text("since")?,
        swept_at: record.maybe_time("swept_at")?,
        held: record.count("held")?,
        been_on: Vec::new(),
    })
}

/// Of `walk_page`: `step, hash`.
pub(super) fn been_on<R: Cells>(row: &R) -> Result<(Option<Step>, ContentHash), StoreError> {
    let record = Record::of(row, "walk_page", 0);
    let hash = record.maybe_hash("hash")?.ok_or_else(|| record.corrupt("hash", "it is missing"))?;
    Ok((record.maybe_text("step")?.map(Step), hash))
}

/// Of `walk_page`: `step, next, etag, last_modified, hash`.
pub(super) fn remembered<R: Cells>(row: &R) -> Result<Remembered, StoreError> {
    let (step, hash) = been_on(row)?;
    let record = Record::of(row, "walk_page", 0);
    let validators =
        Validators { etag: record.maybe_bytes("etag")?, last_modified: record.maybe_bytes("last_modified")? };
    Ok(Remembered { step, validators, next: record.maybe_text("next")?.map(Step), hash })
}

/// The columns `kind, began_at, pages, next, newest, left_out` of `walk`.
pub(super) struct UnderWayRow {
    pub(super) kind: Option<i64>,
    pub(super) began_at: Option<i64>,
    pub(super) pages: i64,
    pub(super) next: Option<String>,
    pub(super) newest: Option<String>,
    pub(super) left_out: Option<String>,
}

impl UnderWayRow {
    pub(super) fn of(under_way: Option<&UnderWay>) -> Self {
        Self {
            kind: under_way.map(|walk| walk.kind.code()),
            began_at: under_way.map(|walk| micros(walk.began_at)),
            pages: under_way.map_or(0, |walk| i64::from(walk.pages)),
            next: under_way.and_then(|walk| Some(walk.next.as_ref()?.0.clone())),
            newest: under_way.and_then(|walk| Some(walk.newest?.to_string())),
            left_out: under_way.and_then(|walk| walk.left_out.clone()),
        }
    }
}
