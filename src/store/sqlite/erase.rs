//! Erasing; see [`crate::store::erase`].

use std::collections::{BTreeMap, HashMap};

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::archive::{LEASES, held};
use super::error::failed;
use super::keys::{DUE_NOW, count_keys};
use super::script::Argument::Text;
use super::write::{self, Upstreams};
use super::writer::Durability;
use super::{SqliteStore, json, refusal, typed, wish};
use crate::domain::resource::{Key, ResourceId, SourceId};
use crate::store::StoreError;
use crate::store::columns::micros;
use crate::store::erase::{Allowance, Allowed, Erased, Erasure, Found, GoneErased, erased, retired_at};
use crate::store::plan::{Leases, Plan};
use crate::store::tables::TableId;

pub(super) const FOUND: &str = "
    SELECT r.id, r.key, r.retired_at, r.erased_at,
        (SELECT count(*) FROM headpond_key_origin AS k WHERE k.resource_id = r.id) AS listed
    FROM json_each(?2) AS j CROSS JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value";

const UNSEEN: &str = "
    INSERT INTO headpond_resource (source_id, key, params, retired_at, erased_at)
    SELECT ?1, value, '{}', ?3, ?4 FROM json_each(?2)";

const UNSEEN_SCHEDULES: &str = "
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT r.id, source.upstream_id, source.id, NULL, 8
    FROM json_each(?2) AS j
    CROSS JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value
    CROSS JOIN headpond_source AS source ON source.id = ?1";

/// Of readers and collections it is no key any more. Others list it: that is to be known when it is allowed again, and not
/// with which parameters.
pub(super) const UNCOUNT: &str = "
    UPDATE headpond_origin AS o SET keys = keys - (
        SELECT count(*) FROM headpond_key_origin AS k
        WHERE k.origin_id = o.id AND k.resource_id IN (SELECT value FROM json_each(?1)))
    WHERE o.source_id = ?2 AND o.name IN ('walk', 'demand')";

pub(super) const UNLIST: &str = "
    DELETE FROM headpond_key_origin
    WHERE resource_id IN (SELECT value FROM json_each(?1))
        AND origin_id IN (SELECT id FROM headpond_origin WHERE source_id = ?2 AND name IN ('walk', 'demand'))";

pub(super) const NO_PARAMS: &str = "
    UPDATE headpond_key_origin SET params = '{}' WHERE resource_id IN (SELECT value FROM json_each(?1))";

pub(super) const SCHEDULE: &str = "
    UPDATE headpond_schedule SET
        due_at = NULL, because = 8, wanted_at = NULL, hastened_at = NULL, fetched_at = NULL, stale_after = NULL,
        kept_until = NULL, walk = NULL
    WHERE resource_id IN (SELECT value FROM json_each(?1))";

pub(super) const RESOURCE: &str = "
    UPDATE headpond_resource SET
        erased_at = ?2, retired_at = ?3, params = '{}', content_hash = NULL, etag = NULL, last_modified = NULL,
        max_age = NULL, terms = NULL, transformed = 0, moved_to = NULL, failures = 0, failing_since = NULL,
        failed_at = NULL, failure_kind = NULL, failure_status = NULL, failure_detail = NULL, absences = 0,
        absent_since = NULL, gone_since = NULL
    WHERE id IN (SELECT value FROM json_each(?1))";

/// Validators of pages that it was on would confirm it.
const PAGES: &str = "
    DELETE FROM headpond_walk_page AS p
    WHERE p.source_id = ?1 AND EXISTS (
        SELECT 1 FROM json_each(p.members) AS m WHERE m.value IN (SELECT value FROM json_each(?2)))";

/// Also those that are left and not yet dropped.
const TABLES: &str = "SELECT id FROM headpond_typed WHERE source_id IN (SELECT value FROM json_each(?1)) ORDER BY id";

pub(super) const CONTENT: &str = "
    DELETE FROM headpond_content WHERE resource_id IN (SELECT value FROM json_each(?1))";

pub(super) const HISTORY: &str = "
    DELETE FROM headpond_history WHERE resource_id IN (SELECT value FROM json_each(?1))";

/// What was wrong with a body may have parts of it.
const LAST_FAILURE: &str = "
    DELETE FROM headpond_last_failure WHERE source_id = ?1 AND key IN (SELECT value FROM json_each(?2))";

const MISFIT: &str = "
    UPDATE headpond_typed SET misfit = NULL
    WHERE source_id = ?1 AND EXISTS (
        SELECT 1 FROM json_each(?2) AS j WHERE substr(misfit, 1, length(j.value) + 2) = j.value || ': ')";

/// What is gone and of which its source keeps nothing then.
pub(super) const GONE: &str = "
    SELECT r.id, r.source_id, r.key
    FROM json_each(?1) AS j
    CROSS JOIN headpond_resource AS r ON r.id = j.value
    CROSS JOIN headpond_source AS source ON source.id = r.source_id AND source.erase_gone <> 0";

const NO_HASH: &str = "
    UPDATE headpond_resource SET content_hash = NULL WHERE id IN (SELECT value FROM json_each(?1))";

/// What had content counts as gone until it comes, so that it is announced as having returned.
pub(super) const ALLOW: &str = "
    UPDATE headpond_resource SET
        erased_at = NULL, retired_at = ?2, gone_since = iif(version > 0, ?3, NULL)
    WHERE id IN (SELECT value FROM json_each(?1))";

/// Whoever lists such keys is read again, for their parameters.
const READ_AGAIN: &str = "UPDATE headpond_origin SET mark = NULL WHERE source_id = ?1";

/// And so are the pages of a collection.
const ALL_PAGES: &str = "DELETE FROM headpond_walk_page WHERE source_id = ?1";

impl SqliteStore {
    pub(super) async fn erase_keys(
        &self,
        source: SourceId,
        keys: &[Key],
        unseen: bool,
    ) -> Result<Vec<Erased>, StoreError> {
        let mut work = self.work(Durability::Full).await?;
        let now = self.clock.now();
        work.add(FOUND, &[source.0.into(), Text(json(keys)?)])?.add(LEASES, &[])?;
        let mut answers = work.run().await?;
        let leases = answers.pop().unwrap_or_default();
        let found = answers.pop().unwrap_or_default();
        let found = found.iter().map(Found::read).collect::<Result<HashMap<_, _>, _>>()?;
        let erasure = Erasure::of(keys, &found, unseen);
        if erasure.is_none() {
            work.roll_back().await;
            return Ok(erasure.fates);
        }
        let ids = || Ok::<_, StoreError>(Text(json(&erasure.ids)?));
        let unseen = json(&erasure.unseen)?;
        work.add(UNSEEN, &[source.0.into(), Text(unseen.clone()), retired_at().into(), micros(now).into()])?
            .add(UNSEEN_SCHEDULES, &[source.0.into(), Text(unseen)])?
            .add(SCHEDULE, &[ids()?])?
            .add(RESOURCE, &[ids()?, micros(now).into(), retired_at().into()])?
            .add(UNCOUNT, &[ids()?, source.0.into()])?
            .add(UNLIST, &[ids()?, source.0.into()])?
            .add(NO_PARAMS, &[ids()?])?
            .add(PAGES, &[source.0.into(), ids()?])?
            .add(super::keys::COUNT_KEYS, &[source.0.into(), (-erasure.polled).into()])?;
        work.run().await?;
        let named = BTreeMap::from([(source.0, erasure.keys.clone())]);
        wipe(work.connection()?, &erasure.ids, &named).await?;
        let leases = leases.iter().map(held).collect::<Result<Leases, _>>()?;
        write::write(work, &erasure.plan(&leases, now), &leases, &Upstreams::new(), now).await?;
        Ok(erasure.fates)
    }

    pub(super) async fn erased_keys(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Key>, StoreError> {
        let rows = sqlx::query(FOUND).bind(source.0).bind(json(keys)?).fetch_all(&self.readers).await;
        let found = rows.map_err(failed)?.iter().map(Found::read).collect::<Result<_, _>>()?;
        Ok(erased(keys, &found))
    }

    pub(super) async fn allow_keys(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Allowed>, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let rows = sqlx::query(FOUND).bind(source.0).bind(json(keys)?).fetch_all(&mut *transaction).await;
        let found = rows.map_err(failed)?.iter().map(Found::read).collect::<Result<HashMap<_, _>, _>>()?;
        let allowance = Allowance::of(keys, &found);
        if allowance.polled.is_empty() && allowance.unlisted.is_empty() {
            transaction.rollback().await.map_err(failed)?;
            return Ok(allowance.fates);
        }
        let now = micros(self.clock.now());
        let due = sqlx::query(DUE_NOW).bind(json(&allowance.polled)?).bind(now);
        due.execute(&mut *transaction).await.map_err(failed)?;
        for (ids, retired_at) in [(&allowance.polled, None), (&allowance.unlisted, Some(now))] {
            let allow = sqlx::query(ALLOW).bind(json(ids)?).bind(retired_at).bind(now);
            allow.execute(&mut *transaction).await.map_err(failed)?;
        }
        let polled = i64::try_from(allowance.polled.len()).unwrap_or(i64::MAX);
        count_keys(&mut transaction, source, polled).await?;
        for statement in [READ_AGAIN, ALL_PAGES] {
            sqlx::query(statement).bind(source.0).execute(&mut *transaction).await.map_err(failed)?;
        }
        wish(&mut transaction).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(allowance.fates)
    }
}

/// Deletes the data of resources; `named` are their keys by source.
async fn wipe(
    connection: &mut SqliteConnection,
    ids: &[i64],
    named: &BTreeMap<i64, Vec<String>>,
) -> Result<(), StoreError> {
    for statement in [CONTENT, HISTORY, refusal::FORGET] {
        sqlx::query(statement).bind(json(ids)?).execute(&mut *connection).await.map_err(failed)?;
    }
    let sources: Vec<i64> = named.keys().copied().collect();
    let tables = sqlx::query_scalar(TABLES).bind(json(&sources)?).fetch_all(&mut *connection).await;
    let tables: Vec<i64> = tables.map_err(failed)?;
    for table in tables {
        let clear = sqlx::query(AssertSqlSafe(typed::clear_sql(TableId(table)))).bind(json(ids)?);
        clear.execute(&mut *connection).await.map_err(failed)?;
    }
    for (source, keys) in named {
        for statement in [LAST_FAILURE, MISFIT] {
            let forget = sqlx::query(statement).bind(source).bind(json(keys)?);
            forget.execute(&mut *connection).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Erases what a plan makes gone, where sources say so; it may return.
pub(super) async fn gone(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<GoneErased, StoreError> {
    if plan.gone.is_empty() {
        return Ok(GoneErased::new());
    }
    let ids: Vec<i64> = plan.gone.iter().map(|(id, _)| id.0).collect();
    let rows = sqlx::query_as(GONE).bind(json(&ids)?).fetch_all(&mut *connection).await;
    let rows: Vec<(i64, i64, String)> = rows.map_err(failed)?;
    if rows.is_empty() {
        return Ok(GoneErased::new());
    }
    let mut named = BTreeMap::<i64, Vec<String>>::new();
    for (_, source, key) in &rows {
        named.entry(*source).or_default().push(key.clone());
    }
    let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
    wipe(&mut *connection, &ids, &named).await?;
    sqlx::query(NO_HASH).bind(json(&ids)?).execute(connection).await.map_err(failed)?;
    Ok(ids.into_iter().map(ResourceId).collect())
}
