//! The keys of a source: added, revived, updated, retired, found.

use std::collections::{BTreeSet, HashSet};

use futures_util::TryStreamExt;
use sqlx::{Row, Sqlite, Transaction};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, json, wish};
use crate::domain::resource::{Key, Params, ResourceId, SourceId};
use crate::store::columns::{micros, params_json};
use crate::store::{Authority, KeysChanged, StoreError};

/// How many keys are retired in one transaction, so that nobody waits long for the write lock.
const CHUNK: usize = 5000;

/// What is known of some keys, in their order.
const KNOWN: &str = "
    SELECT r.id, r.params, r.retired_at IS NOT NULL AS is_retired
    FROM json_each(?2) AS j LEFT JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value
    ORDER BY j.key";

/// Ids are given in the array's order, so neighbours stay neighbours.
const INSERT_RESOURCES: &str = "
    INSERT INTO headpond_resource (source_id, key, params)
    SELECT ?1, value ->> 0, value ->> 1 FROM jsonb_each(?2) ORDER BY key";

const LAST_RESOURCE: &str = "SELECT coalesce(max(id), 0) FROM headpond_resource";

/// Everything inserted after the id ?1 in this transaction is new. Because 1: never fetched.
const INSERT_SCHEDULES: &str = "
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT r.id, s.upstream_id, s.id, ?2, 1
    FROM headpond_resource AS r JOIN headpond_source AS s ON s.id = r.source_id
    WHERE r.id > ?1";

const REVIVE: &str = "
    UPDATE headpond_resource SET retired_at = NULL WHERE id IN (SELECT value FROM json_each(?1))";

/// Other parameters make another URL, to whose answers the old one's validators say nothing.
const UPDATE_PARAMS: &str = "
    UPDATE headpond_resource AS r SET params = j.value ->> 1, etag = NULL, last_modified = NULL
    FROM jsonb_each(?1) AS j WHERE r.id = j.value ->> 0";

/// Due now, and again after a fetch that is under way. What was never fetched stays marked as that (1), else someone
/// asked for it (8).
const DUE_NOW: &str = "
    UPDATE headpond_schedule
    SET due_at = ?2, wanted_at = ?2, because = CASE because WHEN 1 THEN 1 ELSE 8 END
    WHERE resource_id IN (SELECT value FROM json_each(?1))";

const COUNT_KEYS: &str = "UPDATE headpond_source SET keys = keys + ?2 WHERE id = ?1";

const POLLED_KEYS: &str = "SELECT id, key FROM headpond_resource WHERE source_id = ?1 AND retired_at IS NULL";

const RETIRE: &str = "
    UPDATE headpond_resource SET retired_at = ?2
    WHERE id IN (SELECT value FROM json_each(?1)) AND retired_at IS NULL";

const NEVER_DUE: &str = "
    UPDATE headpond_schedule SET due_at = NULL, wanted_at = NULL
    WHERE resource_id IN (SELECT value FROM json_each(?1))";

const OTHER_SOURCES: &str = "
    SELECT id FROM headpond_source WHERE keys > 0 AND id NOT IN (SELECT value FROM json_each(?1))";

const FIND: &str = "
    SELECT r.id
    FROM json_each(?2) AS j
    LEFT JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value AND r.retired_at IS NULL
    ORDER BY j.key";

/// How the keys of a call compare with what is stored.
#[derive(Default)]
struct Compared {
    new: Vec<(String, String)>,
    revived: Vec<i64>,
    updated: Vec<(i64, String)>,
}

impl SqliteStore {
    pub(super) async fn add_keys_to(
        &self,
        source: SourceId,
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<KeysChanged, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let compared = compare(&mut transaction, source, keys, authority).await?;
        let changed = KeysChanged {
            added: compared.new.len() as u64,
            revived: compared.revived.len() as u64,
            updated: compared.updated.len() as u64,
        };
        if changed == KeysChanged::default() {
            // A config that says the same again writes nothing.
            transaction.rollback().await.map_err(failed)?;
            return Ok(changed);
        }
        self.store_keys(&mut transaction, source, &compared).await?;
        count_keys(&mut transaction, source, signed(changed.added + changed.revived)).await?;
        wish(&mut transaction).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(changed)
    }

    async fn store_keys(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        source: SourceId,
        compared: &Compared,
    ) -> Result<(), StoreError> {
        let now = micros(self.clock.now());
        if !compared.new.is_empty() {
            let last: i64 = sqlx::query_scalar(LAST_RESOURCE).fetch_one(&mut **transaction).await.map_err(failed)?;
            let insert = sqlx::query(INSERT_RESOURCES).bind(source.0).bind(json(&compared.new)?);
            insert.execute(&mut **transaction).await.map_err(failed)?;
            let schedule = sqlx::query(INSERT_SCHEDULES).bind(last).bind(now);
            schedule.execute(&mut **transaction).await.map_err(failed)?;
        }
        if !compared.revived.is_empty() {
            let revive = sqlx::query(REVIVE).bind(json(&compared.revived)?);
            revive.execute(&mut **transaction).await.map_err(failed)?;
        }
        if !compared.updated.is_empty() {
            let update = sqlx::query(UPDATE_PARAMS).bind(json(&compared.updated)?);
            update.execute(&mut **transaction).await.map_err(failed)?;
        }
        let updated = compared.updated.iter().map(|(id, _)| *id);
        let due: BTreeSet<i64> = compared.revived.iter().copied().chain(updated).collect();
        if !due.is_empty() {
            let due_now = sqlx::query(DUE_NOW).bind(json(&due)?).bind(now);
            due_now.execute(&mut **transaction).await.map_err(failed)?;
        }
        Ok(())
    }

    pub(super) async fn retire_others(&self, source: SourceId, keep: &BTreeSet<Key>) -> Result<u64, StoreError> {
        // Read before the lock is taken: a million keys take a moment, and those that are added meanwhile are not ours
        // to retire.
        let others = self.polled_except(source, keep).await?;
        let mut retired = 0;
        for ids in others.chunks(CHUNK) {
            retired += self.retire(source, ids).await?;
        }
        Ok(retired)
    }

    async fn polled_except(&self, source: SourceId, keep: &BTreeSet<Key>) -> Result<Vec<i64>, StoreError> {
        let kept: HashSet<&str> = keep.iter().map(Key::as_str).collect();
        let mut others = Vec::new();
        let mut polled = sqlx::query(POLLED_KEYS).bind(source.0).fetch(&self.readers);
        while let Some(row) = polled.try_next().await.map_err(failed)? {
            if !kept.contains(row.try_get::<&str, _>("key").map_err(failed)?) {
                others.push(row.try_get("id").map_err(failed)?);
            }
        }
        Ok(others)
    }

    async fn retire(&self, source: SourceId, ids: &[i64]) -> Result<u64, StoreError> {
        let ids = json(ids)?;
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let retire = sqlx::query(RETIRE).bind(&ids).bind(micros(self.clock.now()));
        let retired = retire.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
        sqlx::query(NEVER_DUE).bind(&ids).execute(&mut *transaction).await.map_err(failed)?;
        count_keys(&mut transaction, source, -signed(retired)).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(retired)
    }

    pub(super) async fn retire_other_sources(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        let keep = json(&keep.iter().map(|id| id.0).collect::<Vec<_>>())?;
        let others: Vec<i64> =
            sqlx::query_scalar(OTHER_SOURCES).bind(keep).fetch_all(&self.readers).await.map_err(failed)?;
        let mut retired = 0;
        for source in others {
            retired += self.retire_others(SourceId(source), &BTreeSet::new()).await?;
        }
        Ok(retired)
    }

    pub(super) async fn find_keys(
        &self,
        source: SourceId,
        keys: &[Key],
    ) -> Result<Vec<Option<ResourceId>>, StoreError> {
        let ids: Vec<Option<i64>> =
            sqlx::query_scalar(FIND).bind(source.0).bind(json(keys)?).fetch_all(&self.readers).await.map_err(failed)?;
        Ok(ids.into_iter().map(|id| id.map(ResourceId)).collect())
    }
}

/// Sorts keys by what has to be done. Of a key given twice the first counts.
async fn compare(
    transaction: &mut Transaction<'_, Sqlite>,
    source: SourceId,
    keys: &[(Key, Params)],
    authority: Authority,
) -> Result<Compared, StoreError> {
    let mut seen = HashSet::new();
    let keys: Vec<_> = keys.iter().filter(|(key, _)| seen.insert(key)).collect();
    let names = json(&keys.iter().map(|(key, _)| key).collect::<Vec<_>>())?;
    let known = sqlx::query(KNOWN).bind(source.0).bind(names).fetch_all(&mut **transaction).await.map_err(failed)?;
    let mut compared = Compared::default();
    for ((key, params), known) in keys.into_iter().zip(known) {
        let params = params_json(params);
        let Some(id) = known.try_get::<Option<i64>, _>("id").map_err(failed)? else {
            compared.new.push((key.as_str().to_owned(), params));
            continue;
        };
        if known.try_get("is_retired").map_err(failed)? {
            compared.revived.push(id);
        } else if authority == Authority::Adds {
            continue;
        }
        if known.try_get::<&str, _>("params").map_err(failed)? != params {
            compared.updated.push((id, params));
        }
    }
    Ok(compared)
}

async fn count_keys(transaction: &mut Transaction<'_, Sqlite>, source: SourceId, more: i64) -> Result<(), StoreError> {
    sqlx::query(COUNT_KEYS).bind(source.0).bind(more).execute(&mut **transaction).await.map_err(failed)?;
    Ok(())
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
