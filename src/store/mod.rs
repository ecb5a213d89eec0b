//! The store's contract. Two databases stand behind it, SQLite and Postgres, and both pass the same suite of tests
//! (`tests/it/store_contract`), in which every method here appears.
//!
//! # Tables
//!
//! | table | one row for each | rewritten |
//! |---|---|---|
//! | `upstream` | limit group: limits, token bucket, run of unreachable answers, how it stands with us (pauses, pace) | by each claim |
//! | `source` | source: its upstream, what it asks for, cadence, number of keys, gone budget | when one of these changes |
//! | `resource` | resource: identity, validators and what else came with its content, hashes, failures | when one of these changes; not by a plain 304 |
//! | `schedule` | resource: due, wanted, fetched, stale (narrow) | by each refresh |
//! | `content` | snapshot: headers and body (wide) | when the content changes |
//! | `history` | content that was replaced, where its source keeps such | never; the oldest go out with a new one, and by their age |
//! | `kept_size` | source: how many those are, and their bytes | by triggers |
//! | `origin` | where keys of a source come from: its own list in the configuration, a file, a query, another source, hands | when it is read anew, and differs |
//! | `key_origin` | key that an origin has, with its parameters; a key is polled while there is one | when one of these changes; by the minute, those of readers that were read |
//! | `census` | kind of polled resource: how many are alike in source, reason, standing and rounded times | by triggers |
//! | `last_failure` | source that ever failed: its latest failure | by a trigger |
//! | `walk` | collection: its walk's resource, and how far that has come | by each page and end of a walk |
//! | `walk_page` | page of a collection: what led to it and on, validators, members | when one of these changes |
//! | `typed` | typed table of a source: what it is configured as, how far it is filled; its rows are in `typed_ID` | when one of these changes |
//! | `refused` | resource whose latest answer was no content: the body that came (at most 1000 rows) | when one comes; gone with the next usable answer |
//! | `lease` | claim that is under way: worker, token, expiry, resource ids, and which of them ride in the request of another | by each claim and apply |
//! | `change` | change of content, numbered in commit order | never |
//! | `applied` | committed batch, numbered in commit order: the ids it touched | never; pruned after an hour |
//! | `counter` | one row: the last numbers given to `change` and `applied`, and the number of wishes | by each apply and wish |
//! | `webhook` | webhook: its place in the feed, failures in a row, who sends | by each message |
//! | `webhook_queue` | change that an endpoint did not take, and those behind it of the same resource | by each attempt |
//! | `meta` | name and value: seed, schema versions, owner of the configuration | at migration; the owner's row by `serve` |
//!
//! Apps and people read the view of all copies (`headpond_snapshots` on SQLite, `headpond.snapshots` on Postgres): bodies as
//! text, times as times, and the state at the moment of reading. Nothing in here reads it.
//!
//! A claim writes two rows whatever its size, the upstream's and one lease, and leaves the due index alone: leased
//! resources are skipped by id. So a refresh rewrites one narrow row, and a lost worker's resources are due again as soon
//! as its lease has expired, without a repair.
//!
//! # Why these rows
//!
//! What a refresh costs is decided by the rows that it rewrites. With lease columns in one wide row, claim and apply would
//! each rewrite all that is known of a resource and its place in the due index: measured on 100,000 resources in batches of
//! 256, that was 44,000 rows/s and 1.2 KB written per row on SQLite, 29,000 and 660 B of WAL on Postgres. A narrow row
//! apart, and one lease for a whole claim, bring SQLite to about 55,000 claims and applies of a 304 per second and 0.9 KB
//! for each, all of it included; for Postgres see `benches/refresh`, which prints both. The due index is by upstream and
//! time and nothing else, since each refresh moves its entry; the other two on `schedule` are partial, and empty on an
//! ordinary day. Neighbouring ids fall due together, so that a batch touches few pages.
//!
//! # Counts that are kept
//!
//! [`status`](Store::status) reads a few hundred rows, whatever the number of resources. Triggers keep `census`, so that no
//! statement can forget to: by row on SQLite, where it costs a refresh 2 µs, and by statement on Postgres, 1 µs a row and
//! 15 B of WAL for a 304 (both measured on a batch of 256 of 100,000 rows).
//! SQLite has one writer, which adds and takes away. On Postgres two transactions that update the same count would wait for
//! each other, and for ever where they take several in different order: so each only inserts what it adds and takes away,
//! the count is the sum, and one statement in fifty folds the rows that are alike into one. The module `status` says what is
//! rounded.
//!
//! # How long a call may take
//!
//! Every call returns while the database is away. Postgres: 5 s for a connection or a lock, 60 s for a statement, 120 s for
//! a transaction of whatever kind, counted here, so also when the server went away without a word; calls that work in parts
//! end with the first part that fails. SQLite: 5 s for another process's lock, 30 s for a free reader; what the disk itself
//! holds up, it holds up.

mod archive;
mod columns;
mod describe;
mod erase;
mod grant;
mod hasten;
mod heed;
mod history;
mod listing;
mod measure;
mod migrations;
mod origins;
mod pack;
mod plan;
mod postgres;
mod reads;
mod refusal;
mod retry;
mod row_select;
mod select;
mod sqlite;
mod status;
mod tables;
mod walks;
mod webhooks;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::HeaderMap;

pub use self::status::{
    Counts, Disk, HistorySize, LastFailure, NextDue, Overdue, Pause, SourceStatus, Status, UpstreamStatus,
};
use crate::clock::Clock;
use crate::config::{self, TableHome};
use crate::domain::archive::Restored;
use crate::domain::change::{Change, Cursor};
use crate::domain::collection;
use crate::domain::decision::{Freshness, Outcome, Previous};
use crate::domain::failure::Failing;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::governor::{Signal, Turn, Wait};
use crate::domain::history::History;
use crate::domain::limit::Limits;
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, Params, ResourceId, SourceId, SourceName, UpstreamId};
use crate::domain::schedule::{self, Because, Cadence, Due};
use crate::domain::snapshot::ContentHash;
use crate::domain::table::Table;
use crate::domain::terms::Terms;
use crate::domain::validators::Validators;

pub use crate::domain::resource::LeaseToken;
pub use archive::{Exported, Import};
pub use erase::{Allowed, Erased};
pub use history::KeptVersion;
pub use listing::{Batch, Bodies, ListRequest, Listed, ListedContent, Listing, MOST_SCANNED};
pub use origins::{KnownOrigin, ListedKey, OriginId, OriginSpec, OriginStatus, Put, Removed, Round, Seen};
pub use reads::Reads;
pub use refusal::{MOST_REFUSED, Refusal};
pub use row_select::{RowPage, RowRequest};
pub use select::{KeyQuery, Rows, SelectedRow};
pub use tables::{Filled, KnownTable, TableId, TableState};
pub use walks::{Brought, Ended, HowItEnded, Missing, PageContent, PageFate, WalkEnd, WalkLease, WalkPage, held_back};
pub use webhooks::{Enqueued, Outbox, Queued, Sent, ToSend, WebhookState};

/// A database that keeps resources. All methods may be called from many tasks and processes at once.
///
/// # Errors
/// Each method returns [`StoreError`] for faults of ours or of the database; what an upstream did is never an error here.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// What the database runs on and how it is set up, for a log line.
    fn describe(&self) -> String;

    /// The database's present time; SQLite has no clock of its own and answers `None`.
    async fn database_time(&self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Makes upstreams and sources known, with their limits, and returns the sources' ids in the order given.
    ///
    /// With [`Authority::Owns`], limits are set, and a source that is known under another upstream moves there with its
    /// resources. One that was known by another fingerprint asks for something else now: the validators and
    /// refused bodies of its resources are forgotten, and all of them are due, again after a fetch that is under way. With [`Authority::Adds`] nothing is
    /// written: each source is found under the upstream and the limits that it has, and one that isn't there, or has
    /// another fingerprint, is [`StoreError::Unusable`].
    async fn register(&self, sources: &[SourceSpec], authority: Authority) -> Result<Vec<Registered>, StoreError>;

    /// Adds keys to a source's own list in the configuration, due at once. A key that had been retired is polled again, with
    /// these parameters.
    ///
    /// A key that is polled keeps its state. With [`Authority::Owns`] its parameters are updated, and it is due at once if
    /// they differ; with [`Authority::Adds`] it is left as it is.
    async fn add_keys(
        &self,
        source: SourceId,
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<KeysChanged, StoreError>;

    /// Makes what the regular schedule of a source decided due by this cadence, where that is earlier than it was, if the
    /// source had another cadence before; likewise what waits after a failure. Returns how many.
    async fn reschedule(&self, source: SourceId, cadence: &Cadence) -> Result<u64, StoreError>;

    /// Makes this worker the owner of the configuration until then, whoever owned it before.
    async fn own_config(&self, worker: &str, until: DateTime<Utc>) -> Result<(), StoreError>;

    /// Lets this worker own the configuration until then, if it is still the last that made itself the owner, and says
    /// whether it is.
    async fn renew_config(&self, worker: &str, until: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Gives the configuration up, if this worker still owns it.
    async fn disown_config(&self, worker: &str) -> Result<(), StoreError>;

    /// The worker that owns the configuration, if its time has not run out.
    async fn config_owner(&self, now: DateTime<Utc>) -> Result<Option<String>, StoreError>;

    /// Stops polling all keys of the other sources, wherever they come from, and forgets where that was.
    async fn retire_sources_except(&self, keep: &[SourceId]) -> Result<u64, StoreError>;

    /// Adds keys that someone named one by one; otherwise as [`add_keys`](Self::add_keys), with [`Authority::Owns`].
    async fn add_by_hand(
        &self,
        source: SourceId,
        hand: Hand,
        keys: &[(Key, Params)],
    ) -> Result<KeysChanged, StoreError>;

    /// Takes keys out of what was added by hand. Those that no origin has any more are no longer polled. In the order given.
    async fn remove_keys(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Removed>, StoreError>;

    /// Has a key polled because someone reads it, due before all others, unless it is polled already; says whether it was not.
    /// Of the keys that exist for readers, beyond `most`, those go that were not read for the longest time: they are not
    /// polled any more, and lose their data with the next [`prune`](Self::prune).
    async fn demand(&self, source: SourceId, key: &Key, most: u32) -> Result<bool, StoreError>;

    /// Notes that resources were read, where they exist for their readers. What was read later stays as it is.
    async fn note_reads(&self, resources: &[ResourceId], at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Takes out of a source what exists for readers and was not read since then. What no origin has any more is no longer
    /// polled, and keeps its data until [`prune`](Self::prune); returns how many these are.
    async fn retire_unread(&self, source: SourceId, since: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Makes a source's origins known, in the order given. Those that are there keep their keys.
    async fn origins(&self, source: SourceId, origins: &[OriginSpec]) -> Result<Vec<KnownOrigin>, StoreError>;

    /// A source's origins besides these and those of hands.
    async fn other_origins(&self, source: SourceId, keep: &[OriginId]) -> Result<Vec<OriginId>, StoreError>;

    /// Begins to read an origin anew. What was read of it before can't be written any more.
    async fn begin_round(&self, origin: OriginId) -> Result<Round, StoreError>;

    /// Adds keys to an origin, due at once where they weren't polled or have other parameters now. Keys that were seen in this
    /// round before are left as they are.
    async fn put_keys(&self, round: Round, seen: &Seen, keys: &[(Key, Params)]) -> Result<Put, StoreError>;

    /// What an origin has after this resource, in the order of ids.
    async fn listed(
        &self,
        origin: OriginId,
        after: Option<ResourceId>,
        at_most: u32,
    ) -> Result<Vec<ResourceId>, StoreError>;

    /// Takes resources out of an origin. Those that no other has are no longer polled, and keep their data until
    /// [`prune`](Self::prune); returns how many these are. For the others, the parameters of what is left hold.
    async fn drop_keys(&self, round: Round, resources: &[ResourceId]) -> Result<u64, StoreError>;

    /// Notes that an origin is stored as it was read, under a mark that tells the same reading again, and well.
    async fn end_round(&self, round: Round, mark: &str) -> Result<(), StoreError>;

    /// Notes what is wrong with an origin now, or that nothing is.
    async fn note_problem(&self, origin: OriginId, problem: Option<&str>) -> Result<(), StoreError>;

    /// Forgets an origin, if it has no keys.
    async fn forget_origin(&self, round: Round) -> Result<(), StoreError>;

    /// A source's polled keys after this one, in the order of keys, with where they come from.
    async fn keys(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<ListedKey>, StoreError>;

    /// Runs a query for keys, which can only read, and sends what it finds in parts as fast as they are taken.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for a statement that is wrong, with the database's words, or that takes too long.
    async fn select_keys(&self, query: &KeyQuery, rows: Rows) -> Result<(), StoreError>;

    /// The typed tables that there are, in the order in which they were made.
    async fn tables(&self) -> Result<Vec<KnownTable>, StoreError>;

    /// What keeps a source's table from being opened, in words: names that are taken, roles that there aren't, views that
    /// depend on one that must be made anew. `live` is the one whose place it takes.
    async fn table_obstacles(
        &self,
        source: &SourceName,
        table: &Table,
        home: &TableHome,
        live: Option<&KnownTable>,
    ) -> Result<Vec<String>, StoreError>;

    /// Makes a table for a source, without views. From now on applies write it. If that has begun already, it goes on;
    /// one that has begun for another table of the source is dropped.
    async fn begin_table(&self, source: SourceId, table: &Table) -> Result<TableId, StoreError>;

    /// Makes rows of the next copies that are stored, at most so many. Goes on where it ended, also in another process.
    async fn fill_table(&self, table: TableId, at_most: u32) -> Result<Filled, StoreError>;

    /// Lets apps read a table: makes its views, or turns those of the one before round, with the rights that there are on
    /// them. The one before is [`TableState::Left`]. Done again, it makes good what is missing.
    async fn open_table(&self, table: TableId, home: &TableHome) -> Result<(), StoreError>;

    /// Drops a table with its rows, and its views if it is what apps read. Views that depend on these stop it.
    async fn drop_table(&self, table: TableId) -> Result<(), StoreError>;

    /// The keys of a source whose latest failure is that a body, which is still kept, does not fit its table.
    async fn misfits(&self, source: SourceId) -> Result<Vec<Key>, StoreError>;

    /// The place in the change feed after all that there is.
    async fn feed_end(&self) -> Result<Cursor, StoreError>;

    /// The id of the source of that name; `None` when it was never registered.
    async fn source(&self, name: &SourceName) -> Result<Option<SourceId>, StoreError>;

    /// The id of the upstream of that name; `None` when no source ever had it.
    async fn upstream(&self, name: &str) -> Result<Option<UpstreamId>, StoreError>;

    /// The ids of these keys of a source, in the order given; `None` for a key that isn't there or is retired.
    async fn find(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Option<ResourceId>>, StoreError>;

    /// Leases due resources of one upstream, as many as its limits allow: these are about requests, and one request may be for many
    /// resources of a source ([`ClaimRequest::together`]).
    ///
    /// The upstream's row is locked while its tokens and leases are counted, so that limits hold over all processes. What
    /// was asked for by hand comes first, then what has been due longest. Expired leases end here, those of other upstreams
    /// too: a source may have moved from one, and what was leased there is claimed anew.
    async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, StoreError>;

    /// Takes one more token of an upstream for a request that a claim does not pay for (a redirect's next hop, or a claim
    /// that could not be sent in time). `Err` inside tells when to ask again.
    async fn take_token(&self, upstream: UpstreamId) -> Result<Result<(), DateTime<Utc>>, StoreError>;

    /// What keeps due resources of a source from being asked for, beside rate and concurrency.
    async fn wait(&self, source: &SourceName) -> Result<Option<Wait>, StoreError>;

    /// Commits a batch of outcomes in one transaction: snapshots, bookkeeping, schedule, changes and the batch's number.
    ///
    /// An outcome whose lease no longer holds its resource is refused and leaves no trace. On an error nothing of the
    /// batch is stored.
    async fn apply(&self, batch: &[Settled]) -> Result<Applied, StoreError>;

    /// Makes a source a collection, if it isn't one: it gets a walk, which is due at once. Returns the walk's resource.
    async fn open_walk(&self, source: SourceId) -> Result<ResourceId, StoreError>;

    /// Ends the walks of all other sources, which are no collections any more. Returns how many. Their members stay as keys do,
    /// until they are taken out of the origin `walk`.
    async fn close_walks_except(&self, keep: &[SourceId]) -> Result<u64, StoreError>;

    /// What is known of a collection's walks that ask for this.
    async fn walk(&self, source: SourceId, asks: Fingerprint) -> Result<collection::Known, StoreError>;

    /// What the last walk of all members remembered of a page, by its place from 0.
    async fn walk_page(&self, source: SourceId, place: u32) -> Result<Option<collection::Remembered>, StoreError>;

    /// Commits a page of a walk in one transaction: its members, how far the walk has come, and a longer lease.
    async fn store_page(&self, page: &WalkPage) -> Result<PageFate, StoreError>;

    /// Ends a walk. One of all members that was complete makes those gone that it did not see, or none of them if they are too
    /// many. The lease stays.
    async fn end_walk(&self, end: &WalkEnd) -> Result<Ended, StoreError>;

    /// Lets a lease last until then; `false` when it is over.
    async fn renew(&self, token: LeaseToken, until: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Gives leased resources back unfetched; they are due as before.
    async fn release(&self, leased: &[(LeaseToken, ResourceId)]) -> Result<(), StoreError>;

    /// Makes resources due now, if they aren't yet: someone wants them. Those that are named one by one
    /// ([`Selection::Resources`]) come before all others; whole sources take their turn with what else is due by `at`, so
    /// that they starve neither the schedule nor a single wish. One that is being fetched becomes due again after that
    /// fetch, if the fetch began before `at`. Retired ones are left out. Returns how many.
    async fn want(&self, which: &Selection, at: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Makes a resource due now and before all others, because a reader waits for it; but never for a second request where
    /// one will do, nor against its upstream's will.
    ///
    /// Like [`want`](Self::want) for one, with a reader's manners: any number of readers, in any number of processes, cause
    /// one request between them, and a request that is under way counts for all of them.
    async fn hasten(&self, resource: ResourceId, wish: Wish) -> Result<Hastened, StoreError>;

    /// Counts what is due by `due_by` and not leased, and what of that is leased (by anyone).
    async fn backlog(&self, which: &Selection, due_by: DateTime<Utc>) -> Result<Backlog, StoreError>;

    /// What a reader sees of a resource; `None` when the key is unknown. All parts are of one moment.
    async fn current(&self, source: &SourceName, key: &Key) -> Result<Option<Current>, StoreError>;

    /// A page of a source's polled keys, all of one moment; `None` when the source is unknown. It looks at
    /// [`MOST_SCANNED`] resources at the most.
    async fn list(&self, source: &SourceName, request: &ListRequest) -> Result<Option<Listing>, StoreError>;

    /// What a reader sees of these keys of a source, which must all be different, retired ones too, and all of one moment;
    /// `None` when the source is unknown.
    async fn batch(&self, source: &SourceName, keys: &[Key], bodies: Bodies) -> Result<Option<Batch>, StoreError>;

    /// A page of the rows of a source's typed table, all of one moment. `None` while the table that is asked for, with all of
    /// these columns, is not there yet.
    async fn table_rows(&self, source: &SourceName, request: &RowRequest) -> Result<Option<RowPage>, StoreError>;

    /// The body of this resource that was refused last, if nothing usable has come since and it is still kept.
    async fn refusal(&self, source: &SourceName, key: &Key) -> Result<Option<Refusal>, StoreError>;

    /// Erases keys of a source: snapshots, rows of tables, history, refused bodies, and all else that is known of them, in one
    /// transaction, in which refreshes that are under way lose them. The keys stay, so that nothing has them fetched or stored
    /// again until they are [allowed](Self::allow); with `unseen`, also those of which nothing is known. In the order given.
    async fn erase(&self, source: SourceId, keys: &[Key], unseen: bool) -> Result<Vec<Erased>, StoreError>;

    /// Lets keys of a source be fetched again that were erased. Those that are listed are due at once. In the order given.
    async fn allow(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Allowed>, StoreError>;

    /// The contents of this resource that were replaced and are kept, the newest first; their bodies are left out.
    async fn history(&self, source: &SourceName, key: &Key) -> Result<Vec<KeptVersion>, StoreError>;

    /// One of those.
    async fn version(&self, source: &SourceName, key: &Key, version: u64) -> Result<Option<StoredContent>, StoreError>;

    /// The entries of the change feed after `since` (from its beginning when `None`), at most `limit`.
    async fn changes(&self, since: Option<Cursor>, limit: u32) -> Result<Changes, StoreError>;

    /// The ids that the batches numbered after `number` touched, the newest number, and the number of wishes.
    async fn applied_since(&self, number: i64) -> Result<AppliedSince, StoreError>;

    /// Signals from other processes (and from this one) that something was applied or wanted.
    async fn follow(&self) -> Result<Box<dyn Follower>, StoreError>;

    /// Whether every registered source has tried each key that it had when it was first started. Once true it stays true
    /// for that source, in the database.
    async fn is_ready(&self) -> Result<bool, StoreError>;

    /// How all sources and upstreams stand at `now`, and what the database takes up: of one moment, and without counting
    /// resources. Counts by state are those of `now` after rounding; see [`Counts`].
    async fn status(&self, now: DateTime<Utc>) -> Result<Status, StoreError>;

    /// Deletes what has outlived its retention, and all but the newest [`MOST_REFUSED`] refused bodies; returns how many rows.
    async fn prune(&self, rules: &PruneRules) -> Result<u64, StoreError>;

    /// Polled resources of a source after this key, in the order of keys, with all that an archive has of them.
    async fn export(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<Exported>, StoreError>;

    /// Stores what an archive has of resources of a source whose keys differ, in one transaction, and announces it as if it had
    /// been fetched; in the order given. What is stored and is as new or newer stays, and so does every due time. What is being
    /// fetched meanwhile is fetched again.
    ///
    /// A key that no origin has is not polled; what is stored of it is kept until [`prune`](Self::prune).
    async fn import(&self, source: SourceId, batch: &[Restored]) -> Result<Vec<Import>, StoreError>;

    /// Copies a SQLite database to this file, consistent and while others write; returns its size in bytes. A file that is there
    /// is replaced, once the copy is complete and on the disk.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] on Postgres, which has its own tools for it.
    async fn backup(&self, file: &Path) -> Result<u64, StoreError>;

    /// Makes these webhooks known, each at the feed's end, and forgets all others.
    async fn register_webhooks(&self, names: &[String]) -> Result<(), StoreError>;

    /// What a webhook's sender has before it. If there is anything, this worker may send until then, unless another does or the
    /// webhook is dead.
    async fn webhook_outbox(&self, name: &str, worker: &str, until: DateTime<Utc>) -> Result<ToSend, StoreError>;

    /// Stores what a worker has sent; `false` when it may not send any more, and then nothing is stored.
    async fn webhook_sent(&self, name: &str, worker: &str, sent: &Sent) -> Result<bool, StoreError>;

    /// How all webhooks stand.
    async fn webhooks(&self) -> Result<Vec<WebhookState>, StoreError>;

    /// Has a webhook sent to again, at once and from where it was; `false` when there is none of this name.
    async fn resume_webhook(&self, name: &str) -> Result<bool, StoreError>;

    /// Closes all connections; work under way is finished first.
    async fn close(&self);
}

/// Waits for news in the database.
#[async_trait]
pub trait Follower: Send {
    /// Returns when something was applied or wanted since the last call, by whatever process.
    async fn news(&mut self) -> Result<News, StoreError>;
}

/// What a [`Follower`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something was committed: look at [`Store::applied_since`] and at what is due.
    Something,
    /// The connection was lost for a while: whatever was cached may be old.
    Resync,
}

/// Whether a caller's configuration is the one that holds. The `serve` that was started last owns it; other processes beside
/// it may add keys, and change nothing that it has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// What is stored becomes what the caller says: limits, the upstreams of sources, the parameters of keys.
    Owns,
    /// Only missing keys are added.
    Adds,
}

/// One source as the config describes it, for [`Store::register`].
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// Its name.
    pub name: SourceName,
    /// The name of its upstream.
    pub upstream: String,
    /// The limits of that upstream.
    pub limits: Limits,
    /// What it asks for.
    pub fingerprint: Fingerprint,
    /// Whether its resources come with walks: then they are not due by themselves.
    pub is_walked: bool,
    /// What is kept of contents that were replaced.
    pub history: Option<History>,
    /// Whether what is gone upstream is erased.
    pub erase_gone: bool,
}

impl SourceSpec {
    /// A source of the config, with its upstream.
    #[must_use]
    pub fn of(source: &config::Source, upstream: &config::Upstream) -> Self {
        Self {
            name: source.name.clone(),
            upstream: source.upstream.clone(),
            limits: upstream.limits,
            fingerprint: source.fingerprint(),
            is_walked: source.collection.is_some(),
            history: source.history,
            erase_gone: source.erase_gone,
        }
    }
}

/// A source's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// The source's.
    pub source: SourceId,
    /// Its upstream's.
    pub upstream: UpstreamId,
}

/// What [`Store::add_keys`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeysChanged {
    /// Keys that were not there.
    pub added: u64,
    /// Keys that are polled again.
    pub revived: u64,
    /// Keys whose parameters are others now.
    pub updated: u64,
}

/// A set of resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All that are polled.
    All,
    /// All of these sources.
    Sources(Vec<SourceId>),
    /// These.
    Resources(Vec<ResourceId>),
}

/// A reader who waits, for [`Store::hasten`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The `fetched_at` of what the reader has seen. What was fetched since then is what is waited for.
    pub seen: Option<DateTime<Utc>>,
    /// When the reader asks.
    pub at: DateTime<Utc>,
    /// How old a copy that other readers waited for may be to do for this one too: readers who ask at the same time don't
    /// arrive at the same time.
    pub echo: Duration,
    /// For how long what is gone is not asked for again once a reader has waited for it; `None`: not before it is due.
    pub gone_for: Option<Duration>,
}

/// What [`Store::hasten`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hastened {
    /// It is due now.
    Due,
    /// It is being fetched, or is first in line already: the next outcome is the one to wait for.
    Coming,
    /// It has been fetched since the reader looked.
    Newer,
    /// It was fetched for other readers a moment ago.
    Served,
    /// It failed or is gone, or its upstream asked for quiet: it is due then, and no reader makes it due earlier.
    PutOff(DateTime<Utc>),
    /// It is no longer polled.
    Never,
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Who asks: the process and a random part, for people who look at the table.
    pub worker: String,
    /// Of which upstream.
    pub upstream: UpstreamId,
    /// How many requests at the most.
    pub at_most: u32,
    /// Of which resources.
    pub which: Selection,
    /// Only what was due by then; `None` is the time of the claim.
    pub due_by: Option<DateTime<Utc>>,
    /// How long the lease lasts.
    pub lease_for: Duration,
    /// The sources of which one request asks for many keys.
    pub together: Together,
}

/// How many keys one request asks for at the most, by source; one, of those that are not in it.
pub type Together = BTreeMap<SourceId, u32>;

/// What a worker got.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The resources, in the order in which to fetch them.
    pub claims: Vec<Claim>,
    /// When it is worth asking again if nothing else happens: the next token, the next due time, or the next expiry of a
    /// lease, of this upstream or of another from which a source may have moved. `None` when nothing is due ever.
    pub ask_again_at: Option<DateTime<Utc>>,
    /// What holds something up that is due, beside rate and concurrency.
    pub wait: Option<Wait>,
}

/// One leased resource.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The lease.
    pub token: LeaseToken,
    /// The resource.
    pub resource: ResourceId,
    /// Its source.
    pub source: SourceId,
    /// What the source asks for by the configuration that holds; `None` when that was never said.
    pub fingerprint: Option<Fingerprint>,
    /// Its key.
    pub key: Key,
    /// Values for its URL template.
    pub params: Params,
    /// What is known of it.
    pub previous: Previous,
    /// Why and since when it was due.
    pub due: Due,
    /// When its token was taken.
    pub granted_at: DateTime<Utc>,
    /// The resource in whose request it is asked for, and whose token pays for it: itself, where it has a request of its own.
    pub rides_with: ResourceId,
    /// Since when it was wanted. A request under this claim begins after that, whatever the clocks of two processes say.
    pub wanted_at: Option<DateTime<Utc>>,
}

/// One outcome to commit.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The lease under which it was fetched.
    pub token: LeaseToken,
    /// The resource.
    pub resource: ResourceId,
    /// When it was known what to ask: the claim's `granted_at`. A wish (`wanted_at`) that came later leaves it due.
    pub requested_at: DateTime<Utc>,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
    /// What follows.
    pub outcome: Outcome,
    /// The share of the source's keys that may go within `gone_period`; see [`crate::domain::decision::Absent::held`].
    pub gone_budget: GoneBudget,
    /// What the answer says about the upstream.
    pub signal: Signal,
}

/// How much of a source may become gone within a period before the rest is held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoneBudget {
    /// Share of the source's keys, 0 to 1; at least one key may always go.
    pub share: f64,
    /// The period: the source's interval.
    pub period: Duration,
}

/// What [`Store::apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The batch's number; `None` when every outcome was refused.
    pub number: Option<i64>,
    /// For each outcome of the batch, in its order, what became of it.
    pub fates: Vec<Fate>,
    /// What changed for upstreams.
    pub turns: Vec<(UpstreamId, Turn)>,
}

/// What became of one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Committed as decided.
    Committed,
    /// It would have made too much of the source gone: committed as its `held` deferral.
    Held,
    /// The lease no longer held the resource: nothing was stored.
    LeaseLost,
}

/// What is left to do; see [`Store::backlog`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Due and free.
    pub waiting: u64,
    /// Due and leased.
    pub leased: u64,
}

/// What a reader sees of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The resource.
    pub resource: ResourceId,
    /// The snapshot's version; 0 when there never was one.
    pub version: u64,
    /// The snapshot; `None` when there never was one.
    pub content: Option<StoredContent>,
    /// Its freshness; `None` when there never was a snapshot.
    pub freshness: Option<Freshness>,
    /// The upstream's validators.
    pub validators: Validators,
    /// Since when it is gone.
    pub gone_since: Option<DateTime<Utc>>,
    /// Since when nothing may be kept of it.
    pub erased_at: Option<DateTime<Utc>>,
    /// The run of failures that it is in.
    pub failing: Option<Failing>,
    /// When it is next due; `None` when it is retired.
    pub due: Option<Due>,
    /// Since when it is wanted by someone for whom no outcome has come yet.
    pub wanted_at: Option<DateTime<Utc>>,
    /// When a reader last waited for it.
    pub hastened_at: Option<DateTime<Utc>>,
    /// Until when it is being fetched.
    pub leased_until: Option<DateTime<Utc>>,
    /// The walk that it comes with, if it is a member of a collection: `failing`, `due`, `wanted_at` and `leased_until` are
    /// the walk's then.
    pub walk: Option<WalkOf>,
    /// The upstream's terms for answering with it; `None` where it is always answered.
    pub terms: Option<Terms>,
    /// Whether something between the upstream and us changed the content (203).
    pub transformed: bool,
    /// Where the upstream says that the resource is for good.
    pub moved_to: Option<String>,
}

/// The walk of a collection's member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkOf {
    /// The walk's own resource: what is wanted and waited for in the member's place.
    pub walk: ResourceId,
    /// When a walk was complete last.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Current {
    /// What is to be wanted and waited for, so that this is refreshed: the resource itself, or the walk that it comes with; and
    /// when that was last fetched.
    #[must_use]
    pub fn comes_with(&self) -> (ResourceId, Option<DateTime<Utc>>) {
        match self.walk {
            Some(walk) => (walk.walk, walk.ended_at),
            None => (self.resource, self.freshness.map(|freshness| freshness.fetched_at)),
        }
    }
}

/// A stored snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredContent {
    /// Our strong ETag.
    pub etag: ContentHash,
    /// When this content was first seen.
    pub changed_at: DateTime<Utc>,
    /// Kept header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: bytes::Bytes,
}

/// A page of the change feed.
#[derive(Debug, Clone, PartialEq)]
pub enum Changes {
    /// The entries, and where to go on.
    Page {
        /// In commit order.
        changes: Vec<Change>,
        /// The place after the last of them, or `since` again when there are none.
        next: Cursor,
    },
    /// `since` is older than what is kept, or of another history (a restored backup): start again from the list.
    Unknown,
}

/// What [`Store::applied_since`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedSince {
    /// The newest batch's number.
    pub newest: i64,
    /// The resources that were touched; `None` when batches after `number` have been pruned already.
    pub resources: Option<Vec<ResourceId>>,
    /// Rises with each transaction that can make something due earlier than it was: a wish, keys that are added, revived
    /// or get other parameters, a release, a source that moves to another upstream, an outage that ends. While it stays,
    /// all that was committed are outcomes, and nobody needs to look at what is due. Only a change of it has a meaning.
    pub wishes: i64,
}

/// What [`Store::prune`] deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneRules {
    /// The time to count from.
    pub now: DateTime<Utc>,
    /// How long retired keys keep their data.
    pub retired: Duration,
    /// How long entries of the change feed are kept.
    pub changes: Duration,
    /// How long the ids of applied batches are kept.
    pub applied: Duration,
}

/// A fault of the database or in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer was in the way for longer than we wait, or a transaction had to give way: the same call may succeed.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The database can't be reached, is full, or is failing: the same call may succeed later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// No connection could be made to it when it was to be opened. A sentence that says where, and what to do: the same
    /// call may succeed later.
    #[error("{0}")]
    Unreachable(String),
    /// The database refused this data: the same call will fail again.
    #[error("the database refused the data: {0}")]
    Rejected(String),
    /// What is stored makes no sense.
    #[error("corrupt data in table {table}, column {column}, row {row}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        row: i64,
        /// What is wrong with it.
        problem: String,
    },
    /// The database can't be used as it is, and what to do about it.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anyone changing the data.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_) | Self::Unreachable(_))
    }
}

/// How to reach a database.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Connections for reading; writes of one process go through one more on SQLite.
    pub readers: u32,
    /// Whether to bring the schema up to date. Without it, an out-of-date schema is an error.
    pub migrate: bool,
    /// Whether a SQLite file that isn't there is made.
    pub create: bool,
}

/// Connects to the database at `url` (`sqlite://path` or `postgres://…`).
///
/// # Errors
/// [`StoreError::Unusable`] when the database isn't ours, is read-only, too new, or not migrated; or when it doesn't keep
/// what it committed (`synchronous` too low). [`StoreError::Unreachable`] when it can't be reached.
pub async fn connect(url: &str, options: &StoreOptions, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    let store: Arc<dyn Store> = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Arc::new(sqlite::SqliteStore::connect(url, options, clock).await?),
        Some("postgres" | "postgresql") => Arc::new(postgres::PostgresStore::connect(url, options, clock).await?),
        _ => return Err(not_a_database()),
    };
    Ok(Arc::new(measure::Measured(store)))
}

/// What [`inspect`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// What the database is.
    pub description: String,
    /// What is in it of ours.
    pub schema: SchemaState,
}

/// How far a database is from what this program works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// Nothing of ours is there.
    Absent,
    /// It was made by an older program: migrations are missing.
    Outdated,
    /// Nothing is missing.
    UpToDate,
}

/// Looks at the database at `url`, and makes and changes nothing.
///
/// # Errors
/// As [`connect`], as far as that can be told without writing.
pub async fn inspect(url: &str) -> Result<Inspected, StoreError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => sqlite::inspect(url).await,
        Some("postgres" | "postgresql") => postgres::inspect(url).await,
        _ => Err(not_a_database()),
    }
}

fn not_a_database() -> StoreError {
    StoreError::Unusable("the database URL must begin with sqlite:// or postgres://".into())
}

/// The error of [`Authority::Adds`] for a source that isn't there.
fn no_such_source(name: &SourceName) -> StoreError {
    StoreError::Unusable(format!(
        "source `{name}` is not in the database: the running `serve` does not have it; reload or restart `serve` with \
         this configuration, or stop it first"
    ))
}

/// With [`Authority::Adds`], a source must be asked as its owner asks it: else each would take the other's answers for news.
fn check_fingerprint(source: &SourceSpec, stored: Option<i64>) -> Result<(), StoreError> {
    if stored.is_none_or(|stored| Fingerprint(stored) == source.fingerprint) {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "source `{}`: the running `serve` asks with another url, other headers or another ignore_changes_in; reload or \
         restart `serve` with this configuration, or stop it first",
        source.name
    )))
}

/// The due time of single resources that were asked for by hand, as it is stored. `wanted_at` says when that was.
const AT_ONCE: i64 = schedule::AT_ONCE.timestamp_micros();

/// The latest that a wish leaves things due. Whole sources take their turn, lest they starve the schedule and single wishes.
fn wished_due(which: &Selection, at: DateTime<Utc>) -> i64 {
    match which {
        Selection::Resources(_) => AT_ONCE,
        Selection::All | Selection::Sources(_) => at.timestamp_micros(),
    }
}

/// What a reader is told of a due time: a wish's own time where `due_at` only says "first", and the time from which on someone
/// may ask for it where it is not polled.
fn readable_due(due_at: DateTime<Utc>, wanted_at: Option<DateTime<Utc>>, because: Because) -> Due {
    let at = if due_at == schedule::AT_ONCE { wanted_at.unwrap_or(due_at) } else { due_at };
    Due { at: schedule::aside_until(at).unwrap_or(at), because }
}
