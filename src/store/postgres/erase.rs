//! Erasing; see [`crate::store::erase`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{AssertSqlSafe, PgConnection};

use super::apply::write_plan;
use super::error::Result;
use super::keys::{self, count, lock_source};
use super::{PostgresStore, lease, refusal, typed, wish};
use crate::domain::resource::{Key, ResourceId, SourceId};
use crate::domain::schedule::Because;
use crate::store::columns::micros;
use crate::store::erase::{Allowance, Allowed, Erased, Erasure, Found, GoneErased, erased as among, retired_at};
use crate::store::plan::Plan;
use crate::store::tables::TableId;
use crate::store::{LeaseToken, StoreError};

pub(super) const FOUND: &str = "
    SELECT r.id, r.key, r.retired_at, r.erased_at,
           (SELECT count(*) FROM headpond.key_origin k WHERE k.resource_id = r.id) AS listed
      FROM headpond.resource r WHERE r.source_id = $1 AND r.key = ANY($2)";

/// Claims take this lock too: none of them leases what is about to be erased.
const LOCK_UPSTREAM: &str = "
    SELECT u.id FROM headpond.upstream u JOIN headpond.source s ON s.upstream_id = u.id
     WHERE s.id = $1 FOR NO KEY UPDATE OF u";

/// There are no more of them than requests may be under way.
pub(super) const LEASES: &str = "SELECT token FROM headpond.lease WHERE resources && $1";

/// What an apply may have locked.
pub(super) const LOCK: &str = "
    SELECT resource_id FROM headpond.schedule WHERE resource_id = ANY($1) ORDER BY resource_id FOR UPDATE";

const UNSEEN: &str = "
      WITH added AS (
               INSERT INTO headpond.resource (source_id, key, params, retired_at, erased_at)
               SELECT $1, n.key, '{}', $3, $4 FROM unnest($2::text[]) AS n (key) ORDER BY n.key
            RETURNING id)
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT added.id, s.upstream_id, s.id, NULL, 8 FROM added, headpond.source s WHERE s.id = $1";

/// Of readers and collections it is no key any more. Others list it: that is to be known when it is allowed again, and not
/// with which parameters.
pub(super) const UNLIST: &str = "
      WITH unlisted AS (
               DELETE FROM headpond.key_origin k USING headpond.origin o
                WHERE o.id = k.origin_id AND o.name IN ('walk', 'demand') AND k.resource_id = ANY($1)
            RETURNING k.origin_id),
           counted AS (SELECT origin_id, count(*) AS many FROM unlisted GROUP BY origin_id)
    UPDATE headpond.origin o SET keys = o.keys - c.many FROM counted c WHERE o.id = c.origin_id";

pub(super) const NO_PARAMS: &str = "
    UPDATE headpond.key_origin SET params = '{}' WHERE resource_id = ANY($1) AND params <> '{}'";

pub(super) const SCHEDULE: &str = "
    UPDATE headpond.schedule
       SET due_at = NULL, because = 8, wanted_at = NULL, hastened_at = NULL, fetched_at = NULL, stale_after = NULL,
           kept_until = NULL, walk = NULL
     WHERE resource_id = ANY($1)";

pub(super) const RESOURCE: &str = "
    UPDATE headpond.resource
       SET erased_at = $2, retired_at = $3, params = '{}', content_hash = NULL, etag = NULL, last_modified = NULL,
           max_age = NULL, terms = NULL, transformed = 0, moved_to = NULL, failures = 0, failing_since = NULL,
           failed_at = NULL, failure_kind = NULL, failure_status = NULL, failure_detail = NULL, absences = 0,
           absent_since = NULL, gone_since = NULL
     WHERE id = ANY($1)";

/// Validators of pages that it was on would confirm it.
const PAGES: &str = "DELETE FROM headpond.walk_page WHERE source_id = $1 AND members && $2";

pub(super) async fn erase(store: &PostgresStore, source: SourceId, keys: &[Key], unseen: bool) -> Result<Vec<Erased>> {
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let erasure = Erasure::of(keys, &found(&mut tx, source, keys).await?, unseen);
    if erasure.is_none() {
        return Ok(erasure.fates);
    }
    let now = micros(store.clock.now());
    if !erasure.unseen.is_empty() {
        let block = sqlx::query(UNSEEN).bind(source.0).bind(&erasure.unseen).bind(retired_at()).bind(now);
        block.execute(&mut *tx).await?;
    }
    let ids = &erasure.ids;
    let tables = tables(&mut tx, &[source.0]).await?;
    sqlx::query(LOCK_UPSTREAM).bind(source.0).execute(&mut *tx).await?;
    let tokens: Vec<i64> = sqlx::query_scalar(LEASES).bind(ids).fetch_all(&mut *tx).await?;
    let leases = lease::lock(&mut tx, &tokens.into_iter().map(LeaseToken).collect::<BTreeSet<_>>()).await?;
    sqlx::query(LOCK).bind(ids).execute(&mut *tx).await?;
    sqlx::query(SCHEDULE).bind(ids).execute(&mut *tx).await?;
    sqlx::query(RESOURCE).bind(ids).bind(now).bind(retired_at()).execute(&mut *tx).await?;
    for statement in [UNLIST, NO_PARAMS] {
        sqlx::query(statement).bind(ids).execute(&mut *tx).await?;
    }
    count(&mut tx, source, -erasure.polled).await?;
    sqlx::query(PAGES).bind(source.0).bind(ids).execute(&mut *tx).await?;
    wipe(&mut tx, ids, &[(source.0, erasure.keys.clone())], &tables).await?;
    let plan = erasure.plan(&leases, store.clock.now());
    write_plan(store, &mut tx, &plan, &leases, false).await?;
    tx.commit().await?;
    Ok(erasure.fates)
}

async fn found(tx: &mut PgConnection, source: SourceId, keys: &[Key]) -> Result<HashMap<String, Found>> {
    let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
    let rows = sqlx::query(FOUND).bind(source.0).bind(names).fetch_all(tx).await?;
    Ok(rows.iter().map(Found::read).collect::<std::result::Result<_, StoreError>>()?)
}

/// Also those that are left and not yet dropped.
const TABLES: &str = "SELECT id FROM headpond.typed WHERE source_id = ANY($1) ORDER BY id FOR KEY SHARE";

async fn tables(tx: &mut PgConnection, sources: &[i64]) -> Result<Vec<TableId>> {
    let ids: Vec<i64> = sqlx::query_scalar(TABLES).bind(sources).fetch_all(tx).await?;
    Ok(ids.into_iter().map(TableId).collect())
}

pub(super) const CONTENT: &str = "DELETE FROM headpond.content WHERE resource_id = ANY($1)";

pub(super) const HISTORY: &str = "DELETE FROM headpond.history WHERE resource_id = ANY($1)";

/// What was wrong with a body may have parts of it.
const LAST_FAILURE: &str = "DELETE FROM headpond.last_failure WHERE source_id = $1 AND key = ANY($2)";

const MISFIT: &str = "
    UPDATE headpond.typed SET misfit = NULL
     WHERE source_id = $1 AND EXISTS (SELECT FROM unnest($2::text[]) AS n (key) WHERE starts_with(misfit, n.key || ': '))";

/// Deletes the data of resources: `named` are their keys by source, `tables` all that their sources have.
async fn wipe(tx: &mut PgConnection, ids: &[i64], named: &[(i64, Vec<String>)], tables: &[TableId]) -> Result<()> {
    for statement in [CONTENT, HISTORY, refusal::FORGET] {
        sqlx::query(statement).bind(ids).execute(&mut *tx).await?;
    }
    for table in tables {
        sqlx::query(AssertSqlSafe(typed::clear_sql(*table))).bind(ids).execute(&mut *tx).await?;
    }
    for (source, keys) in named {
        for statement in [LAST_FAILURE, MISFIT] {
            sqlx::query(statement).bind(source).bind(keys).execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// What is gone and of which its source keeps nothing then.
pub(super) const GONE: &str = "
    SELECT r.id, r.source_id, r.key
      FROM headpond.resource r JOIN headpond.source s ON s.id = r.source_id AND s.erase_gone <> 0
     WHERE r.id = ANY($1)";

const NO_HASH: &str = "UPDATE headpond.resource SET content_hash = NULL WHERE id = ANY($1)";

/// Erases what a plan makes gone, where sources say so; it may return.
pub(super) async fn gone(tx: &mut PgConnection, plan: &Plan<'_>) -> Result<GoneErased> {
    if plan.gone.is_empty() {
        return Ok(GoneErased::new());
    }
    let mut ids: Vec<i64> = plan.gone.iter().map(|(id, _)| id.0).collect();
    ids.sort_unstable();
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(GONE).bind(ids).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        return Ok(GoneErased::new());
    }
    let mut named = BTreeMap::<i64, Vec<String>>::new();
    for (_, source, key) in &rows {
        named.entry(*source).or_default().push(key.clone());
    }
    let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
    let tables = tables(&mut *tx, &named.keys().copied().collect::<Vec<_>>()).await?;
    wipe(&mut *tx, &ids, &named.into_iter().collect::<Vec<_>>(), &tables).await?;
    sqlx::query(NO_HASH).bind(&ids).execute(tx).await?;
    Ok(ids.into_iter().map(ResourceId).collect())
}

pub(super) async fn erased(store: &PostgresStore, source: SourceId, keys: &[Key]) -> Result<Vec<Key>> {
    let mut reader = store.readers.acquire().await?;
    Ok(among(keys, &found(&mut reader, source, keys).await?))
}

/// What had content counts as gone until it comes, so that it is announced as having returned.
pub(super) const ALLOW: &str = "
    UPDATE headpond.resource
       SET erased_at = NULL, retired_at = $2, gone_since = CASE WHEN version > 0 THEN $3::bigint END
     WHERE id = ANY($1)";

/// Whoever lists such keys is read again, for their parameters.
const READ_AGAIN: &str = "UPDATE headpond.origin SET mark = NULL WHERE source_id = $1";

/// And so are the pages of a collection.
const ALL_PAGES: &str = "DELETE FROM headpond.walk_page WHERE source_id = $1";

pub(super) async fn allow(store: &PostgresStore, source: SourceId, keys: &[Key]) -> Result<Vec<Allowed>> {
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let allowance = Allowance::of(keys, &found(&mut tx, source, keys).await?);
    if allowance.polled.is_empty() && allowance.unlisted.is_empty() {
        return Ok(allowance.fates);
    }
    let now = micros(store.clock.now());
    sqlx::query(LOCK_UPSTREAM).bind(source.0).execute(&mut *tx).await?;
    let due = sqlx::query(keys::DUE).bind(&allowance.polled).bind(now).bind(Because::Manual.code());
    due.execute(&mut *tx).await?;
    for (ids, retired_at) in [(&allowance.polled, None), (&allowance.unlisted, Some(now))] {
        sqlx::query(ALLOW).bind(ids).bind(retired_at).bind(now).execute(&mut *tx).await?;
    }
    count(&mut tx, source, i64::try_from(allowance.polled.len()).unwrap_or(i64::MAX)).await?;
    for statement in [READ_AGAIN, ALL_PAGES] {
        sqlx::query(statement).bind(source.0).execute(&mut *tx).await?;
    }
    wish(&mut tx).await?;
    tx.commit().await?;
    Ok(allowance.fates)
}
