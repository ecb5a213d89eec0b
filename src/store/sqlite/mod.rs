//! The store on a SQLite file: one connection that writes, others that read beside it (WAL).
//!
//! Statements are constants, next to what runs them. Sets of ids and rows go in as one JSON array and are taken apart by
//! `json_each`, so that a statement's text, and with it its prepared form, is the same for any number of rows. Rows of
//! several columns go through `jsonb_each`, which parses the array once: measured on 100,000 schedule rows in batches of
//! 256, an update takes 5.1 µs a row with it, 6.0 µs with `json_each`, and 4.0 µs with as many bound parameters, whose
//! statement would have to be built and prepared for each number of rows.

mod apply;
mod archive;
mod backup;
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
mod prune;
mod read;
mod refusal;
mod register;
mod reschedule;
mod rows;
mod script;
mod select;
mod status;
mod tables;
#[cfg(test)]
mod tests;
mod typed;
mod views;
mod walk;
mod want;
mod webhooks;
mod work;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{Mutex, MutexGuard};

pub(super) use self::connect::inspect;
use self::writer::Writer;
use super::columns::micros;
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
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, Params, ResourceId, SourceId, SourceName, UpstreamId};
use crate::domain::schedule::Cadence;
use crate::domain::table::Table;

/// A database file.
#[derive(Debug)]
pub(super) struct SqliteStore {
    description: String,
    seed: u64,
    clock: Arc<dyn Clock>,
    file: SqliteConnectOptions,
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
}

impl SqliteStore {
    async fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().await
    }
}

/// In one transaction with what became due earlier.
const WISH: &str = "UPDATE headpond_counter SET wishes = wishes + 1";

/// Tells those who follow that something may be due earlier than it was.
async fn wish(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
    sqlx::query(WISH).execute(&mut **transaction).await.map_err(error::failed)?;
    Ok(())
}

/// Rows as the JSON array that `json_each` takes apart.
fn json<T: Serialize + ?Sized>(rows: &T) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Rejected(error.to_string()))
}

#[async_trait]
impl Store for SqliteStore {
    fn describe(&self) -> String {
        self.description.clone()
    }

    async fn database_time(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(None)
    }

    async fn register(&self, sources: &[SourceSpec], authority: Authority) -> Result<Vec<Registered>, StoreError> {
        match authority {
            Authority::Owns => self.register_sources(sources).await,
            Authority::Adds => self.registered(sources).await,
        }
    }

    async fn add_keys(
        &self,
        source: SourceId,
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<KeysChanged, StoreError> {
        self.add_keys_to(source, keys, authority).await
    }

    async fn reschedule(&self, source: SourceId, cadence: &Cadence) -> Result<u64, StoreError> {
        self.reschedule_source(source, cadence).await
    }

    async fn own_config(&self, worker: &str, until: DateTime<Utc>) -> Result<(), StoreError> {
        self.set_config_owner(worker, until).await
    }

    async fn renew_config(&self, worker: &str, until: DateTime<Utc>) -> Result<bool, StoreError> {
        self.renew_config_owner(worker, until).await
    }

    async fn disown_config(&self, worker: &str) -> Result<(), StoreError> {
        self.remove_config_owner(worker).await
    }

    async fn config_owner(&self, now: DateTime<Utc>) -> Result<Option<String>, StoreError> {
        self.read_config_owner(now).await
    }

    async fn retire_sources_except(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        self.retire_other_sources(keep).await
    }

    async fn add_by_hand(
        &self,
        source: SourceId,
        hand: Hand,
        keys: &[(Key, Params)],
    ) -> Result<KeysChanged, StoreError> {
        self.add_to_named(source, (hand.as_str(), hand.place()), keys, Authority::Owns).await
    }

    async fn remove_keys(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Removed>, StoreError> {
        self.remove_by_hand(source, keys).await
    }

    async fn demand(&self, source: SourceId, key: &Key, most: u32) -> Result<bool, StoreError> {
        self.demand_key(source, key, most).await
    }

    async fn note_reads(&self, resources: &[ResourceId], at: DateTime<Utc>) -> Result<(), StoreError> {
        self.write_reads(resources, micros(at)).await
    }

    async fn retire_unread(&self, source: SourceId, since: DateTime<Utc>) -> Result<u64, StoreError> {
        self.retire_unread_since(source, micros(since)).await
    }

    async fn origins(&self, source: SourceId, origins: &[OriginSpec]) -> Result<Vec<KnownOrigin>, StoreError> {
        self.register_origins(source, origins).await
    }

    async fn other_origins(&self, source: SourceId, keep: &[OriginId]) -> Result<Vec<OriginId>, StoreError> {
        self.find_other_origins(source, keep).await
    }

    async fn begin_round(&self, origin: OriginId) -> Result<Round, StoreError> {
        self.begin_round_of(origin).await
    }

    async fn put_keys(&self, round: Round, seen: &Seen, keys: &[(Key, Params)]) -> Result<Put, StoreError> {
        self.put_keys_of(round, seen, keys).await
    }

    async fn listed(
        &self,
        origin: OriginId,
        after: Option<ResourceId>,
        at_most: u32,
    ) -> Result<Vec<ResourceId>, StoreError> {
        self.list_origin(origin, after, at_most).await
    }

    async fn drop_keys(&self, round: Round, resources: &[ResourceId]) -> Result<u64, StoreError> {
        self.drop_keys_of(round, resources).await
    }

    async fn end_round(&self, round: Round, mark: &str) -> Result<(), StoreError> {
        self.end_round_of(round, mark).await
    }

    async fn note_problem(&self, origin: OriginId, problem: Option<&str>) -> Result<(), StoreError> {
        self.note_problem_of(origin, problem).await
    }

    async fn forget_origin(&self, round: Round) -> Result<(), StoreError> {
        self.forget_empty_origin(round).await
    }

    async fn keys(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<ListedKey>, StoreError> {
        self.list_keys(source, after, at_most).await
    }

    async fn select_keys(&self, query: &KeyQuery, rows: Rows) -> Result<(), StoreError> {
        self.select(query, rows).await
    }

    async fn tables(&self) -> Result<Vec<KnownTable>, StoreError> {
        self.known_tables().await
    }

    async fn table_obstacles(
        &self,
        source: &SourceName,
        table: &Table,
        _: &TableHome,
        live: Option<&KnownTable>,
    ) -> Result<Vec<String>, StoreError> {
        self.find_obstacles(source, table, live).await
    }

    async fn begin_table(&self, source: SourceId, table: &Table) -> Result<TableId, StoreError> {
        self.begin_table_of(source, table).await
    }

    async fn fill_table(&self, table: TableId, at_most: u32) -> Result<Filled, StoreError> {
        self.fill_table_on(table, at_most).await
    }

    async fn open_table(&self, table: TableId, _: &TableHome) -> Result<(), StoreError> {
        self.open_table_to_apps(table).await
    }

    async fn drop_table(&self, table: TableId) -> Result<(), StoreError> {
        self.drop_table_with_views(table).await
    }

    async fn misfits(&self, source: SourceId) -> Result<Vec<Key>, StoreError> {
        self.read_misfits(source).await
    }

    async fn feed_end(&self) -> Result<Cursor, StoreError> {
        self.read_feed_end().await
    }

    async fn source(&self, name: &SourceName) -> Result<Option<SourceId>, StoreError> {
        self.find_source(name.as_str()).await
    }

    async fn upstream(&self, name: &str) -> Result<Option<UpstreamId>, StoreError> {
        self.find_upstream(name).await
    }

    async fn find(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Option<ResourceId>>, StoreError> {
        self.find_keys(source, keys).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        self.claim_due(request).await
    }

    async fn take_token(&self, upstream: UpstreamId) -> Result<Result<(), DateTime<Utc>>, StoreError> {
        self.take_one_token(upstream).await
    }

    async fn wait(&self, source: &SourceName) -> Result<Option<Wait>, StoreError> {
        self.wait_of(source).await
    }

    async fn apply(&self, batch: &[Settled]) -> Result<Applied, StoreError> {
        self.apply_batch(batch).await
    }

    async fn open_walk(&self, source: SourceId) -> Result<ResourceId, StoreError> {
        self.open_walk_of(source).await
    }

    async fn close_walks_except(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        self.close_other_walks(keep).await
    }

    async fn walk(&self, source: SourceId, asks: Fingerprint) -> Result<Known, StoreError> {
        self.read_walk(source, asks).await
    }

    async fn walk_page(&self, source: SourceId, place: u32) -> Result<Option<Remembered>, StoreError> {
        self.read_walk_page(source, place).await
    }

    async fn store_page(&self, page: &WalkPage) -> Result<PageFate, StoreError> {
        self.store_walk_page(page).await
    }

    async fn end_walk(&self, end: &WalkEnd) -> Result<Ended, StoreError> {
        self.end_one_walk(end).await
    }

    async fn renew(&self, token: LeaseToken, until: DateTime<Utc>) -> Result<bool, StoreError> {
        self.renew_lease(token, until).await
    }

    async fn release(&self, leased: &[(LeaseToken, ResourceId)]) -> Result<(), StoreError> {
        self.give_back(leased).await
    }

    async fn want(&self, which: &Selection, at: DateTime<Utc>) -> Result<u64, StoreError> {
        self.make_wanted(which, at).await
    }

    async fn hasten(&self, resource: ResourceId, wish: Wish) -> Result<Hastened, StoreError> {
        self.hasten_one(resource, wish).await
    }

    async fn backlog(&self, which: &Selection, due_by: DateTime<Utc>) -> Result<Backlog, StoreError> {
        self.count_backlog(which, due_by).await
    }

    async fn current(&self, source: &SourceName, key: &Key) -> Result<Option<Current>, StoreError> {
        self.read_current(source, key).await
    }

    async fn refusal(&self, source: &SourceName, key: &Key) -> Result<Option<Refusal>, StoreError> {
        self.read_refusal(source, key).await
    }

    async fn erase(&self, source: SourceId, keys: &[Key], unseen: bool) -> Result<Vec<Erased>, StoreError> {
        self.erase_keys(source, keys, unseen).await
    }

    async fn erased(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Key>, StoreError> {
        self.erased_keys(source, keys).await
    }

    async fn allow(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Allowed>, StoreError> {
        self.allow_keys(source, keys).await
    }

    async fn history(&self, source: &SourceName, key: &Key) -> Result<Vec<KeptVersion>, StoreError> {
        self.read_versions(source, key).await
    }

    async fn version(&self, source: &SourceName, key: &Key, version: u64) -> Result<Option<StoredContent>, StoreError> {
        self.read_version(source, key, version).await
    }

    async fn list(&self, source: &SourceName, request: &ListRequest) -> Result<Option<Listing>, StoreError> {
        self.read_list(source, request).await
    }

    async fn batch(&self, source: &SourceName, keys: &[Key], bodies: Bodies) -> Result<Option<Batch>, StoreError> {
        self.read_batch(source, keys, bodies).await
    }

    async fn table_rows(&self, source: &SourceName, request: &RowRequest) -> Result<Option<RowPage>, StoreError> {
        self.read_rows(source, request).await
    }

    async fn changes(&self, since: Option<Cursor>, limit: u32) -> Result<Changes, StoreError> {
        self.read_changes(since, limit).await
    }

    async fn applied_since(&self, number: i64) -> Result<AppliedSince, StoreError> {
        self.read_applied(number).await
    }

    async fn follow(&self) -> Result<Box<dyn Follower>, StoreError> {
        Ok(Box::new(follow::DataVersion::watch(&self.file).await?))
    }

    async fn is_ready(&self) -> Result<bool, StoreError> {
        self.latch_readiness().await
    }

    async fn status(&self, now: DateTime<Utc>) -> Result<Status, StoreError> {
        self.read_status(now).await
    }

    async fn prune(&self, rules: &PruneRules) -> Result<u64, StoreError> {
        self.delete_outlived(rules).await
    }

    async fn export(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<Exported>, StoreError> {
        self.read_export(source, after, at_most).await
    }

    async fn import(&self, source: SourceId, batch: &[Restored]) -> Result<Vec<Import>, StoreError> {
        self.store_import(source, batch).await
    }

    async fn backup(&self, file: &Path) -> Result<u64, StoreError> {
        self.copy_to(file).await
    }

    async fn register_webhooks(&self, names: &[String]) -> Result<(), StoreError> {
        let end = self.feed_end().await?;
        webhooks::register(self, names, end).await
    }

    async fn webhook_outbox(&self, name: &str, worker: &str, until: DateTime<Utc>) -> Result<ToSend, StoreError> {
        webhooks::lease(self, name, worker, until).await
    }

    async fn webhook_sent(&self, name: &str, worker: &str, sent: &Sent) -> Result<bool, StoreError> {
        webhooks::sent(self, name, worker, sent).await
    }

    async fn webhooks(&self) -> Result<Vec<WebhookState>, StoreError> {
        webhooks::states(self).await
    }

    async fn resume_webhook(&self, name: &str) -> Result<bool, StoreError> {
        webhooks::resume(self, name).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer().await.shut_down().await;
    }
}
