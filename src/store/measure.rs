//! How long the store's calls take, and how many fail.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Allowed, Applied, AppliedSince, Authority, Backlog, Batch, Bodies, Changes, ClaimRequest, Claimed, Current, Ended,
    Erased, Exported, Filled, Follower, Hastened, Import, KeptVersion, KeyQuery, KeysChanged, KnownOrigin, KnownTable,
    LeaseToken, ListRequest, ListedKey, Listing, OriginId, OriginSpec, PageFate, PruneRules, Put, Refusal, Registered,
    Removed, Round, RowPage, RowRequest, Rows, Seen, Selection, Sent, Settled, SourceSpec, Status, Store, StoreError,
    StoredContent, TableId, ToSend, WalkEnd, WalkPage, WebhookState, Wish,
};
use crate::clock::monotonic;
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
use crate::telemetry::metrics;

/// A store whose calls are measured.
#[derive(Debug)]
pub(super) struct Measured(pub(super) Arc<dyn Store>);

/// Does the work, and reports it under this name.
async fn measured<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let began = monotonic();
    let result = work.await;
    metrics::stored(operation, monotonic() - began, result.is_ok());
    result
}

#[async_trait]
impl Store for Measured {
    fn describe(&self) -> String {
        self.0.describe()
    }

    async fn database_time(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        measured("database_time", self.0.database_time()).await
    }

    async fn register(&self, sources: &[SourceSpec], authority: Authority) -> Result<Vec<Registered>, StoreError> {
        measured("register", self.0.register(sources, authority)).await
    }

    async fn add_keys(
        &self,
        source: SourceId,
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<KeysChanged, StoreError> {
        measured("add_keys", self.0.add_keys(source, keys, authority)).await
    }

    async fn reschedule(&self, source: SourceId, cadence: &Cadence) -> Result<u64, StoreError> {
        measured("reschedule", self.0.reschedule(source, cadence)).await
    }

    async fn own_config(&self, worker: &str, until: DateTime<Utc>) -> Result<(), StoreError> {
        measured("own_config", self.0.own_config(worker, until)).await
    }

    async fn renew_config(&self, worker: &str, until: DateTime<Utc>) -> Result<bool, StoreError> {
        measured("renew_config", self.0.renew_config(worker, until)).await
    }

    async fn disown_config(&self, worker: &str) -> Result<(), StoreError> {
        measured("disown_config", self.0.disown_config(worker)).await
    }

    async fn config_owner(&self, now: DateTime<Utc>) -> Result<Option<String>, StoreError> {
        measured("config_owner", self.0.config_owner(now)).await
    }

    async fn retire_sources_except(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        measured("retire_sources_except", self.0.retire_sources_except(keep)).await
    }

    async fn add_by_hand(
        &self,
        source: SourceId,
        hand: Hand,
        keys: &[(Key, Params)],
    ) -> Result<KeysChanged, StoreError> {
        measured("add_by_hand", self.0.add_by_hand(source, hand, keys)).await
    }

    async fn remove_keys(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Removed>, StoreError> {
        measured("remove_keys", self.0.remove_keys(source, keys)).await
    }

    async fn demand(&self, source: SourceId, key: &Key, most: u32) -> Result<bool, StoreError> {
        measured("demand", self.0.demand(source, key, most)).await
    }

    async fn note_reads(&self, resources: &[ResourceId], at: DateTime<Utc>) -> Result<(), StoreError> {
        measured("note_reads", self.0.note_reads(resources, at)).await
    }

    async fn retire_unread(&self, source: SourceId, since: DateTime<Utc>) -> Result<u64, StoreError> {
        measured("retire_unread", self.0.retire_unread(source, since)).await
    }

    async fn origins(&self, source: SourceId, origins: &[OriginSpec]) -> Result<Vec<KnownOrigin>, StoreError> {
        measured("origins", self.0.origins(source, origins)).await
    }

    async fn other_origins(&self, source: SourceId, keep: &[OriginId]) -> Result<Vec<OriginId>, StoreError> {
        measured("other_origins", self.0.other_origins(source, keep)).await
    }

    async fn begin_round(&self, origin: OriginId) -> Result<Round, StoreError> {
        measured("begin_round", self.0.begin_round(origin)).await
    }

    async fn put_keys(&self, round: Round, seen: &Seen, keys: &[(Key, Params)]) -> Result<Put, StoreError> {
        measured("put_keys", self.0.put_keys(round, seen, keys)).await
    }

    async fn listed(
        &self,
        origin: OriginId,
        after: Option<ResourceId>,
        at_most: u32,
    ) -> Result<Vec<ResourceId>, StoreError> {
        measured("listed", self.0.listed(origin, after, at_most)).await
    }

    async fn drop_keys(&self, round: Round, resources: &[ResourceId]) -> Result<u64, StoreError> {
        measured("drop_keys", self.0.drop_keys(round, resources)).await
    }

    async fn end_round(&self, round: Round, mark: &str) -> Result<(), StoreError> {
        measured("end_round", self.0.end_round(round, mark)).await
    }

    async fn note_problem(&self, origin: OriginId, problem: Option<&str>) -> Result<(), StoreError> {
        measured("note_problem", self.0.note_problem(origin, problem)).await
    }

    async fn forget_origin(&self, round: Round) -> Result<(), StoreError> {
        measured("forget_origin", self.0.forget_origin(round)).await
    }

    async fn keys(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<ListedKey>, StoreError> {
        measured("keys", self.0.keys(source, after, at_most)).await
    }

    async fn select_keys(&self, query: &KeyQuery, rows: Rows) -> Result<(), StoreError> {
        measured("select_keys", self.0.select_keys(query, rows)).await
    }

    async fn tables(&self) -> Result<Vec<KnownTable>, StoreError> {
        measured("tables", self.0.tables()).await
    }

    async fn table_obstacles(
        &self,
        source: &SourceName,
        table: &Table,
        home: &TableHome,
        live: Option<&KnownTable>,
    ) -> Result<Vec<String>, StoreError> {
        measured("table_obstacles", self.0.table_obstacles(source, table, home, live)).await
    }

    async fn begin_table(&self, source: SourceId, table: &Table) -> Result<TableId, StoreError> {
        measured("begin_table", self.0.begin_table(source, table)).await
    }

    async fn fill_table(&self, table: TableId, at_most: u32) -> Result<Filled, StoreError> {
        measured("fill_table", self.0.fill_table(table, at_most)).await
    }

    async fn open_table(&self, table: TableId, home: &TableHome) -> Result<(), StoreError> {
        measured("open_table", self.0.open_table(table, home)).await
    }

    async fn drop_table(&self, table: TableId) -> Result<(), StoreError> {
        measured("drop_table", self.0.drop_table(table)).await
    }

    async fn misfits(&self, source: SourceId) -> Result<Vec<Key>, StoreError> {
        measured("misfits", self.0.misfits(source)).await
    }

    async fn feed_end(&self) -> Result<Cursor, StoreError> {
        measured("feed_end", self.0.feed_end()).await
    }

    async fn source(&self, name: &SourceName) -> Result<Option<SourceId>, StoreError> {
        measured("source", self.0.source(name)).await
    }

    async fn upstream(&self, name: &str) -> Result<Option<UpstreamId>, StoreError> {
        measured("upstream", self.0.upstream(name)).await
    }

    async fn find(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Option<ResourceId>>, StoreError> {
        measured("find", self.0.find(source, keys)).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        measured("claim", self.0.claim(request)).await
    }

    async fn take_token(&self, upstream: UpstreamId) -> Result<Result<(), DateTime<Utc>>, StoreError> {
        measured("take_token", self.0.take_token(upstream)).await
    }

    async fn wait(&self, source: &SourceName) -> Result<Option<Wait>, StoreError> {
        measured("wait", self.0.wait(source)).await
    }

    async fn apply(&self, batch: &[Settled]) -> Result<Applied, StoreError> {
        measured("apply", self.0.apply(batch)).await
    }

    async fn open_walk(&self, source: SourceId) -> Result<ResourceId, StoreError> {
        measured("open_walk", self.0.open_walk(source)).await
    }

    async fn close_walks_except(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        measured("close_walks_except", self.0.close_walks_except(keep)).await
    }

    async fn walk(&self, source: SourceId, asks: Fingerprint) -> Result<Known, StoreError> {
        measured("walk", self.0.walk(source, asks)).await
    }

    async fn walk_page(&self, source: SourceId, place: u32) -> Result<Option<Remembered>, StoreError> {
        measured("walk_page", self.0.walk_page(source, place)).await
    }

    async fn store_page(&self, page: &WalkPage) -> Result<PageFate, StoreError> {
        measured("store_page", self.0.store_page(page)).await
    }

    async fn end_walk(&self, end: &WalkEnd) -> Result<Ended, StoreError> {
        measured("end_walk", self.0.end_walk(end)).await
    }

    async fn renew(&self, token: LeaseToken, until: DateTime<Utc>) -> Result<bool, StoreError> {
        measured("renew", self.0.renew(token, until)).await
    }

    async fn release(&self, leased: &[(LeaseToken, ResourceId)]) -> Result<(), StoreError> {
        measured("release", self.0.release(leased)).await
    }

    async fn want(&self, which: &Selection, at: DateTime<Utc>) -> Result<u64, StoreError> {
        measured("want", self.0.want(which, at)).await
    }

    async fn hasten(&self, resource: ResourceId, wish: Wish) -> Result<Hastened, StoreError> {
        measured("hasten", self.0.hasten(resource, wish)).await
    }

    async fn backlog(&self, which: &Selection, due_by: DateTime<Utc>) -> Result<Backlog, StoreError> {
        measured("backlog", self.0.backlog(which, due_by)).await
    }

    async fn current(&self, source: &SourceName, key: &Key) -> Result<Option<Current>, StoreError> {
        measured("current", self.0.current(source, key)).await
    }

    async fn refusal(&self, source: &SourceName, key: &Key) -> Result<Option<Refusal>, StoreError> {
        measured("refusal", self.0.refusal(source, key)).await
    }

    async fn erase(&self, source: SourceId, keys: &[Key], unseen: bool) -> Result<Vec<Erased>, StoreError> {
        measured("erase", self.0.erase(source, keys, unseen)).await
    }

    async fn erased(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Key>, StoreError> {
        measured("erased", self.0.erased(source, keys)).await
    }

    async fn allow(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Allowed>, StoreError> {
        measured("allow", self.0.allow(source, keys)).await
    }

    async fn history(&self, source: &SourceName, key: &Key) -> Result<Vec<KeptVersion>, StoreError> {
        measured("history", self.0.history(source, key)).await
    }

    async fn version(&self, source: &SourceName, key: &Key, version: u64) -> Result<Option<StoredContent>, StoreError> {
        measured("version", self.0.version(source, key, version)).await
    }

    async fn list(&self, source: &SourceName, request: &ListRequest) -> Result<Option<Listing>, StoreError> {
        measured("list", self.0.list(source, request)).await
    }

    async fn batch(&self, source: &SourceName, keys: &[Key], bodies: Bodies) -> Result<Option<Batch>, StoreError> {
        measured("batch", self.0.batch(source, keys, bodies)).await
    }

    async fn table_rows(&self, source: &SourceName, request: &RowRequest) -> Result<Option<RowPage>, StoreError> {
        measured("table_rows", self.0.table_rows(source, request)).await
    }

    async fn changes(&self, since: Option<Cursor>, limit: u32) -> Result<Changes, StoreError> {
        measured("changes", self.0.changes(since, limit)).await
    }

    async fn applied_since(&self, number: i64) -> Result<AppliedSince, StoreError> {
        measured("applied_since", self.0.applied_since(number)).await
    }

    async fn follow(&self) -> Result<Box<dyn Follower>, StoreError> {
        measured("follow", self.0.follow()).await
    }

    async fn is_ready(&self) -> Result<bool, StoreError> {
        measured("is_ready", self.0.is_ready()).await
    }

    async fn status(&self, now: DateTime<Utc>) -> Result<Status, StoreError> {
        measured("status", self.0.status(now)).await
    }

    async fn prune(&self, rules: &PruneRules) -> Result<u64, StoreError> {
        measured("prune", self.0.prune(rules)).await
    }

    async fn export(&self, source: SourceId, after: Option<&Key>, at_most: u32) -> Result<Vec<Exported>, StoreError> {
        measured("export", self.0.export(source, after, at_most)).await
    }

    async fn import(&self, source: SourceId, batch: &[Restored]) -> Result<Vec<Import>, StoreError> {
        measured("import", self.0.import(source, batch)).await
    }

    async fn backup(&self, file: &Path) -> Result<u64, StoreError> {
        measured("backup", self.0.backup(file)).await
    }

    async fn register_webhooks(&self, names: &[String]) -> Result<(), StoreError> {
        measured("register_webhooks", self.0.register_webhooks(names)).await
    }

    async fn webhook_outbox(&self, name: &str, worker: &str, until: DateTime<Utc>) -> Result<ToSend, StoreError> {
        measured("webhook_outbox", self.0.webhook_outbox(name, worker, until)).await
    }

    async fn webhook_sent(&self, name: &str, worker: &str, sent: &Sent) -> Result<bool, StoreError> {
        measured("webhook_sent", self.0.webhook_sent(name, worker, sent)).await
    }

    async fn webhooks(&self) -> Result<Vec<WebhookState>, StoreError> {
        measured("webhooks", self.0.webhooks()).await
    }

    async fn resume_webhook(&self, name: &str) -> Result<bool, StoreError> {
        measured("resume_webhook", self.0.resume_webhook(name)).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
