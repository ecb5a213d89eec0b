//! The store on Postgres, in a schema of its own: `headpond`.
//!
//! Transactions lock rows in one order, so that they wait for each other and not for ever: leases by token, then `source`, `typed`,
//! `upstream`, `schedule` and `resource` by id, `last_failure` by source, and `counter` last. A claim alone takes an upstream
//! before leases, and skips those that are locked instead of waiting for them. Whoever writes `origin` or `key_origin` has the
//! source's row, but for what is wrong with an origin and when keys were read, which are written alone. Nobody ever waits for a row of `census`.

mod apply;
mod archive;
mod begin;
mod claim;
mod connect;
mod demand;
mod erase;
mod error;
mod feed;
mod follow;
mod hasten;
mod history;
mod keys;
mod lease;
mod list;
mod migrate;
mod origins;
mod owner;
#[cfg(test)]
mod plans;
mod read;
mod refusal;
mod register;
mod reschedule;
mod rows;
mod select;
mod status;
mod tables;
mod typed;
mod upkeep;
mod views;
mod walk;
mod want;
mod webhooks;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgPool;
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::sync::Mutex;

pub(super) use self::connect::inspect;
use self::error::Result;
use super::columns::micros;
use super::retry::retrying;
use super::{
    Allowed, Applied, AppliedSince, Authority, Backlog, Batch, Bodies, Changes, ClaimRequest, Claimed, Current, Ended,
    Erased, Exported, Filled, Follower, Hastened, Import, KeptVersion, KeyQuery, KeysChanged, KnownOrigin, KnownTable,
    LeaseToken, ListRequest, ListedKey, Listing, OriginId, OriginSpec, PageFate, PruneRules, Put, Refusal, Registered,
    Removed, Round, RowPage, RowRequest, Rows, Seen, Selection, Sent, Settled, SourceSpec, Status, Store, StoreError,
    StoredContent, TableId, ToSend, WalkEnd, WalkPage, WebhookState, Wish,
};
use crate::clock::Clock;
use crate::config::TableHome;
use crate::domain::archive::Restored;
use crate::domain::change::Cursor;
use crate::domain::collection::{Known, Remembered};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::governor::Wait;
use crate::domain::origin::{CONFIG, Hand};
use crate::domain::resource::{Key, Params, ResourceId, SourceId, SourceName, UpstreamId};
use crate::domain::schedule::Cadence;
use crate::domain::table::Table;

/// The channel that says that something was applied or wanted.
const CHANNEL: &str = "headpond";

/// Resources in a Postgres database.
#[derive(Debug)]
pub(super) struct PostgresStore {
    /// Readers have connections of their own: however long writers wait for each other, reads go on.
    readers: PgPool,
    writers: PgPool,
    /// The one connection of queries for keys, which may take long: one after the other, and never in the way of readers.
    queries: Mutex<PgPool>,
    clock: Arc<dyn Clock>,
    seed: u64,
    description: String,
}

impl PostgresStore {
    async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        begin::begin(&self.writers).await
    }
}

/// How long one transaction may take in all. The server ends statements, waits for locks and idle transactions earlier; this
/// is for one that went away without a word, from which no answer ever comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long `close` waits for connections that are in use.
const FAREWELL: Duration = Duration::from_secs(5);

/// Gives a transaction up that takes too long.
async fn bounded<T>(work: impl Future<Output = Result<T>> + Send) -> Result<T, StoreError> {
    within(PATIENCE, work).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>> + Send) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError::Unavailable(format!("no answer came within {} seconds", limit.as_secs()))),
    }
}

/// Tells whoever follows that something may be due earlier than it was. The last statement of its transaction: it locks
/// `counter`.
async fn wish(tx: &mut PgConnection) -> Result<()> {
    sqlx::query(WISH).bind(CHANNEL).execute(tx).await?;
    Ok(())
}

const WISH: &str = "
      WITH raised AS (UPDATE headpond.counter SET wishes = wishes + 1)
    SELECT pg_notify($1, '')";

#[async_trait]
impl Store for PostgresStore {
    fn describe(&self) -> String {
        self.description.clone()
    }

    async fn database_time(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(Some(bounded(read::clock(self)).await?))
    }

    async fn register(&self, sources: &[SourceSpec], authority: Authority) -> Result<Vec<Registered>, StoreError> {
        match authority {
            Authority::Owns => retrying(|| bounded(register::register(self, sources))).await,
            Authority::Adds => bounded(register::registered(self, sources)).await,
        }
    }

    async fn add_keys(
        &self,
        source: SourceId,
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<KeysChanged, StoreError> {
        keys::add(self, source, (CONFIG, 0), keys, authority).await
    }

    async fn reschedule(&self, source: SourceId, cadence: &Cadence) -> Result<u64, StoreError> {
        reschedule::reschedule(self, source, cadence).await
    }

    async fn own_config(&self, worker: &str, until: DateTime<Utc>) -> Result<(), StoreError> {
        bounded(owner::own(self, worker, until)).await
    }

    async fn renew_config(&self, worker: &str, until: DateTime<Utc>) -> Result<bool, StoreError> {
        bounded(owner::renew(self, worker, until)).await
    }

    async fn disown_config(&self, worker: &str) -> Result<(), StoreError> {
        bounded(owner::disown(self, worker)).await
    }

    async fn config_owner(&self, now: DateTime<Utc>) -> Result<Option<String>, StoreError> {
        bounded(owner::owner(self, now)).await
    }

    async fn retire_sources_except(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        origins::retire_sources_except(self, keep).await
    }

    async fn add_by_hand(
        &self,
        source: SourceId,
        hand: Hand,
        keys: &[(Key, Params)],
    ) -> Result<KeysChanged, StoreError> {
        keys::add(self, source, (hand.as_str(), hand.place()), keys, Authority::Owns).await
    }

    async fn remove_keys(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Removed>, StoreError> {
        retrying(|| bounded(origins::remove(self, source, keys))).await
    }

    async fn demand(&self, source: SourceId, key: &Key, most: u32) -> Result<bool, StoreError> {
        demand::demand(self, source, key, most).await
    }

    async fn note_reads(&self, resources: &[ResourceId], at: DateTime<Utc>) -> Result<(), StoreError> {
        demand::note_reads(self, resources, micros(at)).await
    }

    async fn retire_unread(&self, source: SourceId, since: DateTime<Utc>) -> Result<u64, StoreError> {
        demand::retire_unread(self, source, micros(since)).await
    }

    async fn origins(&self, source: SourceId, origins: &[OriginSpec]) -> Result<Vec<KnownOrigin>, StoreError> {
        retrying(|| bounded(origins::register(self, source, origins))).await
    }

    async fn other_origins(&self, source: SourceId, keep: &[OriginId]) -> Result<Vec<OriginId>, StoreError> {
        bounded(origins::others(self, source, keep)).await
    }

    async fn begin_round(&self, origin: OriginId) -> Result<Round, StoreError> {
        retrying(|| bounded(origins::begin(self, origin))).await
    }

    async fn put_keys(&self, round: Round, seen: &Seen, keys: &[(Key, Params)]) -> Result<Put, StoreError> {
        retrying(|| bounded(keys::put(self, round, seen, keys))).await
    }

    async fn listed(
        &self,
        origin: OriginId,
        after: Option<ResourceId>,
        at_most: u32,
    ) -> Result<Vec<ResourceId>, StoreError> {
        bounded(origins::listed(self, origin, after, at_most)).await
    }

    async fn drop_keys(&self, round: Round, resources: &[ResourceId]) -> Result<u64, StoreError> {
        retrying(|| bounded(origins::drop_keys(self, round, resources))).await
    }

    async fn end_round(&self, round: Round, mark: &str) -> Result<(), StoreError> {
        retrying(|| bounded(origins::end(self, round, mark))).await
    }

    async fn note_problem(&self, origin: OriginId, problem: Option<&str>) -> Result<(), StoreError> {
        bounded(origins::note_problem(self, origin, problem)).await
    }

    async fn forget_origin(&self, round: Round) -> Result<(), StoreError> {
        retrying(|| bounded(origins::forget(self, round))).await
    }

    async fn keys(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<ListedKey>, StoreError> {
        bounded(origins::keys(self, source, after, at_most)).await
    }

    async fn select_keys(&self, query: &KeyQuery, rows: Rows) -> Result<(), StoreError> {
        select::select(self, query, rows).await
    }

    async fn tables(&self) -> Result<Vec<KnownTable>, StoreError> {
        bounded(tables::known(self)).await
    }

    async fn table_obstacles(
        &self,
        source: &SourceName,
        table: &Table,
        home: &TableHome,
        live: Option<&KnownTable>,
    ) -> Result<Vec<String>, StoreError> {
        bounded(tables::obstacles(self, source, table, home, live)).await
    }

    async fn begin_table(&self, source: SourceId, table: &Table) -> Result<TableId, StoreError> {
        retrying(|| bounded(tables::begin(self, source, table))).await
    }

    async fn fill_table(&self, table: TableId, at_most: u32) -> Result<Filled, StoreError> {
        retrying(|| tables::fill(self, table, at_most)).await
    }

    async fn open_table(&self, table: TableId, home: &TableHome) -> Result<(), StoreError> {
        retrying(|| bounded(tables::open(self, table, home))).await
    }

    async fn drop_table(&self, table: TableId) -> Result<(), StoreError> {
        retrying(|| bounded(tables::drop(self, table))).await
    }

    async fn misfits(&self, source: SourceId) -> Result<Vec<Key>, StoreError> {
        bounded(refusal::misfits(self, source)).await
    }

    async fn feed_end(&self) -> Result<Cursor, StoreError> {
        bounded(feed::end(self)).await
    }

    async fn source(&self, name: &SourceName) -> Result<Option<SourceId>, StoreError> {
        bounded(keys::source(self, name.as_str())).await
    }

    async fn upstream(&self, name: &str) -> Result<Option<UpstreamId>, StoreError> {
        bounded(register::upstream(self, name)).await
    }

    async fn find(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Option<ResourceId>>, StoreError> {
        bounded(keys::find(self, source, keys)).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        bounded(claim::claim(self, request)).await
    }

    async fn take_token(&self, upstream: UpstreamId) -> Result<Result<(), DateTime<Utc>>, StoreError> {
        bounded(claim::take_token(self, upstream)).await
    }

    async fn wait(&self, source: &SourceName) -> Result<Option<Wait>, StoreError> {
        bounded(read::wait(self, source)).await
    }

    async fn apply(&self, batch: &[Settled]) -> Result<Applied, StoreError> {
        bounded(apply::apply(self, batch)).await
    }

    async fn open_walk(&self, source: SourceId) -> Result<ResourceId, StoreError> {
        retrying(|| bounded(walk::open(self, source))).await
    }

    async fn close_walks_except(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        retrying(|| bounded(walk::close_others(self, keep))).await
    }

    async fn walk(&self, source: SourceId, asks: Fingerprint) -> Result<Known, StoreError> {
        bounded(walk::walk(self, source, asks)).await
    }

    async fn walk_page(&self, source: SourceId, place: u32) -> Result<Option<Remembered>, StoreError> {
        bounded(walk::page(self, source, place)).await
    }

    async fn store_page(&self, page: &WalkPage) -> Result<PageFate, StoreError> {
        retrying(|| bounded(walk::page::store_page(self, page))).await
    }

    async fn end_walk(&self, end: &WalkEnd) -> Result<Ended, StoreError> {
        retrying(|| bounded(walk::end::end(self, end))).await
    }

    async fn renew(&self, token: LeaseToken, until: DateTime<Utc>) -> Result<bool, StoreError> {
        bounded(walk::renew(self, token, until)).await
    }

    async fn release(&self, leased: &[(LeaseToken, ResourceId)]) -> Result<(), StoreError> {
        bounded(lease::release(self, leased)).await
    }

    async fn want(&self, which: &Selection, at: DateTime<Utc>) -> Result<u64, StoreError> {
        Ok(want::want(self, which, at).await?)
    }

    async fn hasten(&self, resource: ResourceId, wish: Wish) -> Result<Hastened, StoreError> {
        retrying(|| bounded(hasten::hasten(self, resource, wish))).await
    }

    async fn backlog(&self, which: &Selection, due_by: DateTime<Utc>) -> Result<Backlog, StoreError> {
        bounded(want::backlog(self, which, due_by)).await
    }

    async fn current(&self, source: &SourceName, key: &Key) -> Result<Option<Current>, StoreError> {
        bounded(read::current(self, source, key)).await
    }

    async fn refusal(&self, source: &SourceName, key: &Key) -> Result<Option<Refusal>, StoreError> {
        bounded(refusal::read(self, source, key)).await
    }

    async fn erase(&self, source: SourceId, keys: &[Key], unseen: bool) -> Result<Vec<Erased>, StoreError> {
        retrying(|| bounded(erase::erase(self, source, keys, unseen))).await
    }

    async fn erased(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Key>, StoreError> {
        bounded(erase::erased(self, source, keys)).await
    }

    async fn allow(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Allowed>, StoreError> {
        retrying(|| bounded(erase::allow(self, source, keys))).await
    }

    async fn history(&self, source: &SourceName, key: &Key) -> Result<Vec<KeptVersion>, StoreError> {
        bounded(history::versions(self, source, key)).await
    }

    async fn version(&self, source: &SourceName, key: &Key, version: u64) -> Result<Option<StoredContent>, StoreError> {
        bounded(history::version(self, source, key, version)).await
    }

    async fn list(&self, source: &SourceName, request: &ListRequest) -> Result<Option<Listing>, StoreError> {
        bounded(list::list(self, source, request)).await
    }

    async fn batch(&self, source: &SourceName, keys: &[Key], bodies: Bodies) -> Result<Option<Batch>, StoreError> {
        bounded(list::batch(self, source, keys, bodies)).await
    }

    async fn table_rows(&self, source: &SourceName, request: &RowRequest) -> Result<Option<RowPage>, StoreError> {
        bounded(rows::rows(self, source, request)).await
    }

    async fn changes(&self, since: Option<Cursor>, limit: u32) -> Result<Changes, StoreError> {
        bounded(feed::changes(self, since, limit)).await
    }

    async fn applied_since(&self, number: i64) -> Result<AppliedSince, StoreError> {
        bounded(feed::applied_since(self, number)).await
    }

    async fn follow(&self) -> Result<Box<dyn Follower>, StoreError> {
        Ok(Box::new(bounded(follow::Listener::connect(&self.readers)).await?))
    }

    async fn is_ready(&self) -> Result<bool, StoreError> {
        bounded(upkeep::is_ready(self)).await
    }

    async fn status(&self, now: DateTime<Utc>) -> Result<Status, StoreError> {
        bounded(status::status(self, now)).await
    }

    async fn prune(&self, rules: &PruneRules) -> Result<u64, StoreError> {
        Ok(upkeep::prune(self, rules).await?)
    }

    async fn export(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<Exported>, StoreError> {
        Ok(archive::export(self, source, after, at_most).await?)
    }

    async fn import(&self, source: SourceId, batch: &[Restored]) -> Result<Vec<Import>, StoreError> {
        retrying(|| bounded(archive::import(self, source, batch))).await
    }

    async fn backup(&self, _: &Path) -> Result<u64, StoreError> {
        Err(StoreError::Unusable(
            "a Postgres database is backed up by Postgres' own tools: `pg_dump`, or a backup of the whole server"
                .into(),
        ))
    }

    async fn register_webhooks(&self, names: &[String]) -> Result<(), StoreError> {
        let end = self.feed_end().await?;
        bounded(webhooks::register(self, names, end)).await
    }

    async fn webhook_outbox(&self, name: &str, worker: &str, until: DateTime<Utc>) -> Result<ToSend, StoreError> {
        bounded(webhooks::lease(self, name, worker, until)).await
    }

    async fn webhook_sent(&self, name: &str, worker: &str, sent: &Sent) -> Result<bool, StoreError> {
        bounded(webhooks::sent(self, name, worker, sent)).await
    }

    async fn webhooks(&self) -> Result<Vec<WebhookState>, StoreError> {
        bounded(webhooks::states(self)).await
    }

    async fn resume_webhook(&self, name: &str) -> Result<bool, StoreError> {
        bounded(webhooks::resume(self, name)).await
    }

    async fn close(&self) {
        let closed = async {
            self.writers.close().await;
            self.readers.close().await;
            self.queries.lock().await.close().await;
        };
        if tokio::time::timeout(FAREWELL, closed).await.is_err() {
            tracing::warn!("connections to the database are still in use; they are dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_from_which_no_answer_comes_is_given_up() {
        let given_up = within(Duration::from_millis(10), std::future::pending::<Result<()>>()).await;
        assert!(matches!(given_up, Err(StoreError::Unavailable(_))));
    }
}
