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
mod claims;
mod columns;
mod current;
mod describe;
mod erase;
mod error;
mod grant;
mod hasten;
mod heed;
mod history;
mod listing;
mod measure;
mod migrations;
mod news;
mod open;
mod origins;
mod outcomes;
mod pack;
mod pages;
mod plan;
mod postgres;
mod reads;
mod refusal;
mod retry;
mod row_select;
mod select;
mod sources;
mod sqlite;
mod status;
mod tables;
mod walks;
mod webhooks;
mod wishes;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

pub use self::status::{
    Counts, Disk, HistorySize, LastFailure, NextDue, Overdue, Pause, SourceStatus, Status, UpstreamStatus,
};
use crate::config::TableHome;
use crate::domain::archive::Restored;
use crate::domain::change::Cursor;
use crate::domain::collection;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::governor::Wait;
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, Params, ResourceId, SourceId, SourceName, UpstreamId};
use crate::domain::schedule::Cadence;
use crate::domain::table::Table;

pub use crate::domain::resource::LeaseToken;
pub use archive::{Exported, Import};
pub use claims::{Backlog, Claim, ClaimRequest, Claimed, Selection, Together};
pub use current::{Current, StoredContent, WalkOf};
pub use erase::{Allowed, Erased};
pub use error::StoreError;
pub use history::KeptVersion;
pub use listing::{Batch, Bodies, ListRequest, Listed, ListedContent, Listing, MOST_SCANNED};
pub use news::{AppliedSince, Changes, Follower, News};
pub use open::{Inspected, SchemaState, StoreOptions, connect, inspect};
pub use origins::{KnownOrigin, ListedKey, OriginId, OriginSpec, OriginStatus, Put, Removed, Round, Seen};
pub use outcomes::{Applied, Fate, GoneBudget, Settled};
pub use pages::{Brought, PageContent, PageFate, WalkPage};
pub use reads::Reads;
pub use refusal::{MOST_REFUSED, Refusal};
pub use row_select::{RowPage, RowRequest};
pub use select::{KeyQuery, Rows, SelectedRow};
pub use sources::{Authority, KeysChanged, Registered, SourceSpec};
pub use tables::{Filled, KnownTable, TableId, TableState};
pub use walks::{Ended, HowItEnded, Missing, WalkEnd, WalkLease, held_back};
pub use webhooks::{Enqueued, Outbox, Queued, Sent, ToSend, WebhookState};
pub use wishes::{Hastened, Wish};

use sources::{check_fingerprint, no_such_source};
use wishes::{AT_ONCE, readable_due, wished_due};

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

    /// Those of these keys of a source that are erased.
    async fn erased(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Key>, StoreError>;

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
