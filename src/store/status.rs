//! How sources and upstreams stand, put together from a few hundred rows whatever the number of resources.
//!
//! Copies turn stale by time alone, without a write, so plain counters could not tell. The table `census` counts the polled
//! resources that are alike: same source, same reason for their due time, same standing, and times that are the same after
//! rounding. Triggers on `schedule` keep it, in the transaction of whatever changes a row there. Times are rounded up, to a
//! power of two of microseconds that is at most a 128th of the time that the copy is fresh for, but at least a second: that
//! much longer a copy can count as fresh here, and look younger. All other counts are exact.
//!
//! When something is next due is read from the due index, no further than [`WALK`] entries for each upstream.

mod upstreams;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::columns::{Cells, Record};
use super::{OriginStatus, StoreError, WebhookState};
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::resource::{Key, SourceId, SourceName, UpstreamId};
use crate::domain::schedule::Because;

pub(super) use upstreams::UpstreamRow;
pub use upstreams::{Overdue, Pause, UpstreamStatus};

/// How far the due index of one upstream is read to find the next due resource of each of its sources.
pub(super) const WALK: i64 = 10_000;

/// How far what is due is counted.
pub(super) const MOST_DUE: i64 = 100_000;

/// Everything that [`Store::status`](super::Store::status) tells, of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// That moment.
    pub at: DateTime<Utc>,
    /// The worker that owns the configuration: a running `serve`.
    pub owner: Option<String>,
    /// All sources that were ever registered, by name. One that the config dropped has no keys.
    pub sources: Vec<SourceStatus>,
    /// All upstreams that were ever registered, by name.
    pub upstreams: Vec<UpstreamStatus>,
    /// What the database takes up.
    pub disk: Disk,
    /// Who is told of changes, by name.
    pub webhooks: Vec<WebhookState>,
}

/// How a source stands.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceStatus {
    /// Its name.
    pub name: SourceName,
    /// The name of its upstream.
    pub upstream: String,
    /// Whether each key that it had when it was first started has been tried.
    pub is_ready: bool,
    /// Its keys.
    pub counts: Counts,
    /// Where its keys come from, in the order in which their parameters hold.
    pub origins: Vec<OriginStatus>,
    /// Its keys by the reason for their due time; those that are no one's are left out.
    pub because: BTreeMap<Because, u64>,
    /// When the oldest copy was fetched that is not gone, rounded up.
    pub oldest_fetched_at: Option<DateTime<Utc>>,
    /// When a key that is not in flight is next due.
    pub next_due: NextDue,
    /// The latest failure, whether it has passed or not.
    pub last_failure: Option<LastFailure>,
    /// What is kept of contents that were replaced.
    pub history: HistorySize,
}

/// How much is kept of contents that were replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistorySize {
    /// How many contents.
    pub versions: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Keys that are polled, by the state that a reader is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them: the sum of the following four.
    pub keys: u64,
    /// With a copy that is fresh.
    pub fresh: u64,
    /// With a copy that is stale.
    pub stale: u64,
    /// Never fetched.
    pub pending: u64,
    /// Gone upstream.
    pub gone: u64,
    /// Of all these, those whose latest refresh failed.
    pub failing: u64,
}

/// When something of a source is next due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextDue {
    /// Then; it may have passed.
    At(DateTime<Utc>),
    /// Not before then: so much else of its upstream is due earlier that nobody looked further.
    NotBefore(DateTime<Utc>),
    /// There are no keys, or all are in flight.
    Never,
}

/// The latest failure of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// Whose.
    pub key: Key,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub failure: Failure,
}

/// What the database takes up, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// SQLite: the file, with what the app has in it. Postgres: the tables of the schema `headpond` with their indexes.
    pub bytes: u64,
    /// SQLite: what of that is free, and used before the file grows.
    pub free: Option<u64>,
    /// SQLite: the write-ahead log beside the file.
    pub log: Option<u64>,
}

/// What was read, before it is put together.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) now: DateTime<Utc>,
    pub(super) owner: Option<String>,
    pub(super) sources: Vec<SourceRow>,
    pub(super) upstreams: Vec<UpstreamRow>,
    pub(super) census: Vec<CensusRow>,
    pub(super) queues: HashMap<UpstreamId, Queue>,
    /// With the source's id.
    pub(super) origins: Vec<(i64, OriginStatus)>,
    pub(super) disk: Disk,
    pub(super) webhooks: Vec<WebhookState>,
}

/// A row of `source`, with its last failure.
#[derive(Debug)]
pub(super) struct SourceRow {
    id: SourceId,
    upstream: UpstreamId,
    keys: u64,
    name: SourceName,
    is_ready: bool,
    last_failure: Option<LastFailure>,
    history: HistorySize,
}

impl SourceRow {
    /// `id, name, upstream_id, keys, ready` of `source`, `key, at, kind, status, detail` of `last_failure`, and `versions, bytes`
    /// of `kept_size`.
    pub(super) fn read<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let source = Record::identified_by(row, "source", "id")?;
        Ok(Self {
            id: SourceId(source.id()),
            upstream: UpstreamId(source.integer("upstream_id")?),
            keys: source.count("keys")?,
            name: source.source_name("name")?,
            is_ready: source.integer("ready")? != 0,
            last_failure: last_failure(&Record::of(row, "last_failure", source.id()))?,
            history: HistorySize { versions: source.count("versions")?, bytes: source.count("bytes")? },
        })
    }
}

fn last_failure<R: Cells>(record: &Record<'_, R>) -> Result<Option<LastFailure>, StoreError> {
    let Some(at) = record.maybe_time("at")? else { return Ok(None) };
    let kind = record.text("kind")?;
    let kind = FailureKind::parse(&kind)
        .ok_or_else(|| record.corrupt("kind", format_args!("`{kind}` is no kind of failure")))?;
    let failure = Failure { kind, status: record.maybe_count("status")?, detail: record.text("detail")? };
    Ok(Some(LastFailure { key: record.key("key")?, at, failure }))
}

/// Rows of `census` that differ in their times alone.
#[derive(Debug)]
pub(super) struct CensusRow {
    source: SourceId,
    because: Because,
    standing: i64,
    keys: u64,
    pending: u64,
    fresh: u64,
    oldest: Option<DateTime<Utc>>,
}

/// The latest refresh failed; a bit of `standing`.
const FAILING: i64 = 1;
/// It is gone; a bit of `standing`.
const GONE: i64 = 2;

impl CensusRow {
    /// `source_id, because, standing, resources, pending, fresh, oldest`.
    pub(super) fn read<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "census", "source_id")?;
        Ok(Self {
            source: SourceId(record.id()),
            // A reason that we don't know is a newer program's.
            because: Because::from_code(record.count("because")?).unwrap_or(Because::Interval),
            standing: record.integer("standing")?,
            keys: record.count("resources")?,
            pending: record.count("pending")?,
            fresh: record.count("fresh")?,
            oldest: record.maybe_time("oldest")?,
        })
    }
}

/// The beginning of an upstream's due index, without what is leased.
#[derive(Debug, Default)]
pub(super) struct Queue {
    next: HashMap<SourceId, DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    due: u64,
}

impl Queue {
    /// Of each source in it `source_id, entries, next_due_at, last_due_at`; and how much is due of the upstream.
    pub(super) fn read<'r, R: Cells + 'r>(
        rows: impl IntoIterator<Item = &'r R>,
        depth: i64,
        due: i64,
    ) -> Result<Self, StoreError> {
        let mut queue = Self { due: due.unsigned_abs(), ..Self::default() };
        let mut entries = 0;
        for row in rows {
            let record = Record::identified_by(row, "schedule", "source_id")?;
            queue.next.insert(SourceId(record.id()), record.time("next_due_at")?);
            queue.ends_at = queue.ends_at.max(Some(record.time("last_due_at")?));
            entries += record.integer("entries")?;
        }
        // What ends before the depth is reached has been read to its end.
        queue.ends_at = queue.ends_at.filter(|_| entries >= depth);
        Ok(queue)
    }

    fn next_due(&self, source: &SourceRow) -> NextDue {
        match (self.next.get(&source.id), self.ends_at) {
            (Some(at), _) => NextDue::At(*at),
            (None, Some(at)) if source.keys > 0 => NextDue::NotBefore(at),
            (None, _) => NextDue::Never,
        }
    }

    fn backlog(&self, now: DateTime<Utc>) -> Overdue {
        let most = MOST_DUE.unsigned_abs();
        let oldest = self.next.values().min().copied().filter(|at| *at <= now);
        Overdue { resources: self.due.min(most), is_more: self.due > most, oldest_due_at: oldest }
    }
}

/// How far to read an upstream's due index: its first entry is that of its only source.
pub(super) fn depth(upstream: UpstreamId, sources: &[SourceRow]) -> i64 {
    let polled = sources.iter().filter(|source| source.upstream == upstream && source.keys > 0).count();
    if polled > 1 { WALK } else { 1 }
}

impl Reading {
    /// Puts it together.
    pub(super) fn status(self) -> Status {
        let sources: Vec<_> = self.sources.iter().map(|source| self.source(source)).collect();
        let upstreams = self.upstreams.iter().map(|upstream| self.upstream(upstream, &sources)).collect();
        Status { at: self.now, owner: self.owner, sources, upstreams, disk: self.disk, webhooks: self.webhooks }
    }

    fn source(&self, source: &SourceRow) -> SourceStatus {
        let (mut counts, mut because, mut oldest) = (Counts::default(), BTreeMap::new(), None);
        for row in self.census.iter().filter(|row| row.source == source.id) {
            counts.add(row);
            *because.entry(row.because).or_default() += row.keys;
            let copies = row.oldest.filter(|_| row.standing & GONE == 0);
            oldest = [oldest, copies].into_iter().flatten().min();
        }
        let upstream = self.upstreams.iter().find(|upstream| upstream.id == source.upstream);
        let queue = self.queues.get(&source.upstream);
        SourceStatus {
            name: source.name.clone(),
            upstream: upstream.map(|upstream| upstream.name.clone()).unwrap_or_default(),
            // It is latched when someone asks; what was tried since then is known here too.
            is_ready: source.is_ready || (counts.keys > 0 && !because.contains_key(&Because::New)),
            counts,
            origins: self.origins_of(source.id),
            because,
            oldest_fetched_at: oldest.map(|at: DateTime<Utc>| at.min(self.now)),
            next_due: queue.map_or(NextDue::Never, |queue| queue.next_due(source)),
            last_failure: source.last_failure.clone(),
            history: source.history,
        }
    }

    fn origins_of(&self, source: SourceId) -> Vec<OriginStatus> {
        let own = self.origins.iter().filter(|(of, _)| *of == source.0);
        own.map(|(_, origin)| origin.clone()).collect()
    }
}

impl Counts {
    fn add(&mut self, row: &CensusRow) {
        self.keys += row.keys;
        self.failing += if row.standing & FAILING == 0 { 0 } else { row.keys };
        // Gone decides first, as for a reader.
        if row.standing & GONE != 0 {
            self.gone += row.keys;
        } else {
            self.pending += row.pending;
            self.fresh += row.fresh;
            self.stale += row.keys.saturating_sub(row.pending + row.fresh);
        }
    }
}
