//! Where keys come from: origins made known, read in rounds, and what has left its last one.

use futures_util::TryStreamExt;
use sqlx::{Row, Sqlite, Transaction};

use super::error::failed;
use super::keys::{count_in_origin, count_keys, current, signed};
use super::writer::Durability;
use super::{SqliteStore, json, wish};
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, ResourceId, SourceId};
use crate::store::StoreError;
use crate::store::columns::micros;
use crate::store::origins::{KnownOrigin, ListedKey, OriginId, OriginSpec, Removed, Round, as_described};

/// How many keys are taken away in one transaction, so that nobody waits long for the write lock.
const CHUNK: i64 = 5000;

/// With another place, other parameters may hold: it is read again.
const ORIGIN: &str = "
    INSERT INTO headpond_origin AS o (source_id, name, place, about, synced_at) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (source_id, name) DO UPDATE
    SET about = excluded.about, place = excluded.place, mark = iif(o.place = excluded.place, o.mark, NULL)
    RETURNING id, mark, synced_at";

const STORED: &str = "
    SELECT id, name, place, about, mark, synced_at FROM headpond_origin WHERE source_id = ?1";

const OTHERS: &str = "
    SELECT id FROM headpond_origin
    WHERE source_id = ?1 AND name NOT IN (SELECT value FROM json_each(?2)) AND id NOT IN (SELECT value FROM json_each(?3))";

const BEGIN: &str = "UPDATE headpond_origin SET round = round + 1, mark = NULL WHERE id = ?1 RETURNING round";

const END: &str = "
    UPDATE headpond_origin SET mark = ?3, synced_at = ?4, problem = NULL, problem_at = NULL
    WHERE id = ?1 AND round = ?2";

const PROBLEM: &str = "
    UPDATE headpond_origin SET problem = ?2, problem_at = iif(?2 IS NULL, NULL, ?3)
    WHERE id = ?1 AND (?2 IS NOT NULL OR problem IS NOT NULL)";

const FORGET: &str = "DELETE FROM headpond_origin WHERE id = ?1 AND keys = 0";

pub(super) const LISTED: &str = "
    SELECT resource_id FROM headpond_key_origin
    WHERE origin_id = ?1 AND resource_id > ?2 ORDER BY resource_id LIMIT ?3";

pub(super) const DETACH: &str = "
    DELETE FROM headpond_key_origin WHERE origin_id = ?1 AND resource_id IN (SELECT value FROM json_each(?2))";

/// What no origin has any more.
pub(super) const ORPHANS: &str = "
    SELECT r.id FROM json_each(?1) AS j CROSS JOIN headpond_resource AS r ON r.id = j.value
    WHERE r.retired_at IS NULL AND NOT EXISTS (SELECT 1 FROM headpond_key_origin AS k WHERE k.resource_id = r.id)";

/// What other origins have, with other parameters than hold now.
pub(super) const OTHERWISE: &str = "
    SELECT id, params FROM (
        SELECT r.id, r.params AS had, (
            SELECT k.params FROM headpond_key_origin AS k JOIN headpond_origin AS o ON o.id = k.origin_id
            WHERE k.resource_id = r.id ORDER BY o.place LIMIT 1) AS params
        FROM json_each(?1) AS j CROSS JOIN headpond_resource AS r ON r.id = j.value)
    WHERE params <> had";

pub(super) const RETIRE: &str = "
    UPDATE headpond_resource SET retired_at = ?2
    WHERE id IN (SELECT value FROM json_each(?1)) AND retired_at IS NULL";

pub(super) const NEVER_DUE: &str = "
    UPDATE headpond_schedule SET due_at = NULL, wanted_at = NULL
    WHERE resource_id IN (SELECT value FROM json_each(?1))";

const OTHER_SOURCES: &str = "
    SELECT id FROM headpond_source AS s
    WHERE id NOT IN (SELECT value FROM json_each(?1))
        AND (keys > 0 OR EXISTS (SELECT 1 FROM headpond_origin AS o WHERE o.source_id = s.id))";

const ORIGINS_OF: &str = "SELECT id FROM headpond_origin WHERE source_id = ?1";

const HANDS: &str = "
    SELECT id FROM headpond_origin WHERE source_id = ?1 AND name IN (SELECT value FROM json_each(?2)) ORDER BY id";

/// What is in some origin, with their names in the order of their places.
pub(super) const KEYS: &str = "
    SELECT r.id, r.key, r.params, (
        SELECT group_concat(o.name, ',' ORDER BY o.place)
        FROM headpond_key_origin AS k JOIN headpond_origin AS o ON o.id = k.origin_id
        WHERE k.resource_id = r.id) AS origins
    FROM headpond_resource AS r
    WHERE r.source_id = ?1 AND r.key > ?2 AND r.retired_at IS NULL
    ORDER BY r.key LIMIT ?3";

const NAMED: &str = "
    SELECT r.id, r.key, r.params, (
        SELECT group_concat(o.name, ',' ORDER BY o.place)
        FROM headpond_key_origin AS k JOIN headpond_origin AS o ON o.id = k.origin_id
        WHERE k.resource_id = r.id) AS origins
    FROM headpond_resource AS r
    WHERE r.source_id = ?1 AND r.key = ?2 AND r.retired_at IS NULL";

/// The names of the hands' origins.
fn hands() -> Result<String, StoreError> {
    json(&Hand::ALL.map(Hand::as_str))
}

impl SqliteStore {
    pub(super) async fn register_origins(
        &self,
        source: SourceId,
        origins: &[OriginSpec],
    ) -> Result<Vec<KnownOrigin>, StoreError> {
        let stored = sqlx::query(STORED).bind(source.0).fetch_all(&self.readers).await.map_err(failed)?;
        if let Some(known) = as_described(&stored, origins)? {
            return Ok(known);
        }
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let mut known = Vec::with_capacity(origins.len());
        for origin in origins {
            let synced_at = origin.is_always_there().then(|| micros(self.clock.now()));
            let query = sqlx::query(ORIGIN).bind(source.0).bind(&origin.name).bind(origin.place);
            let row = query.bind(&origin.about).bind(synced_at).fetch_one(&mut *transaction).await.map_err(failed)?;
            known.push(KnownOrigin::read(&row)?);
        }
        transaction.commit().await.map_err(failed)?;
        Ok(known)
    }

    pub(super) async fn find_other_origins(
        &self,
        source: SourceId,
        keep: &[OriginId],
    ) -> Result<Vec<OriginId>, StoreError> {
        let keep = json(&keep.iter().map(|origin| origin.0).collect::<Vec<_>>())?;
        let others = sqlx::query_scalar(OTHERS).bind(source.0).bind(hands()?).bind(keep).fetch_all(&self.readers);
        Ok(others.await.map_err(failed)?.into_iter().map(OriginId).collect())
    }

    pub(super) async fn begin_round_of(&self, origin: OriginId) -> Result<Round, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let number = sqlx::query_scalar(BEGIN).bind(origin.0).fetch_optional(&mut *transaction).await;
        let number: Option<i64> = number.map_err(failed)?;
        let number = number.ok_or_else(crate::store::origins::outdated)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Round { origin, number })
    }

    pub(super) async fn end_round_of(&self, round: Round, mark: &str) -> Result<(), StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        current(&mut transaction, round).await?;
        let end = sqlx::query(END).bind(round.origin.0).bind(round.number).bind(mark).bind(micros(self.clock.now()));
        end.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn note_problem_of(&self, origin: OriginId, problem: Option<&str>) -> Result<(), StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Relaxed).await?;
        let note = sqlx::query(PROBLEM).bind(origin.0).bind(problem).bind(micros(self.clock.now()));
        note.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn forget_empty_origin(&self, round: Round) -> Result<(), StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        current(&mut transaction, round).await?;
        sqlx::query(FORGET).bind(round.origin.0).execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn list_origin(
        &self,
        origin: OriginId,
        after: Option<ResourceId>,
        at_most: u32,
    ) -> Result<Vec<ResourceId>, StoreError> {
        let after = after.map_or(0, |id| id.0);
        let ids = sqlx::query_scalar(LISTED).bind(origin.0).bind(after).bind(at_most).fetch_all(&self.readers);
        Ok(ids.await.map_err(failed)?.into_iter().map(ResourceId).collect())
    }

    pub(super) async fn drop_keys_of(&self, round: Round, resources: &[ResourceId]) -> Result<u64, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let (source, _) = current(&mut transaction, round).await?;
        let ids: Vec<i64> = resources.iter().map(|id| id.0).collect();
        let retired = self.detach(&mut transaction, source, round.origin, &ids).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(retired)
    }

    /// Takes resources out of an origin, and retires those that are in no other.
    pub(super) async fn detach(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        source: SourceId,
        origin: OriginId,
        ids: &[i64],
    ) -> Result<u64, StoreError> {
        let ids = json(ids)?;
        let detached = sqlx::query(DETACH).bind(origin.0).bind(&ids).execute(&mut **transaction).await;
        count_in_origin(transaction, origin, -signed(detached.map_err(failed)?.rows_affected())).await?;
        let orphans: Vec<i64> =
            sqlx::query_scalar(ORPHANS).bind(&ids).fetch_all(&mut **transaction).await.map_err(failed)?;
        if !orphans.is_empty() {
            let orphans = json(&orphans)?;
            let retire = sqlx::query(RETIRE).bind(&orphans).bind(micros(self.clock.now()));
            retire.execute(&mut **transaction).await.map_err(failed)?;
            sqlx::query(NEVER_DUE).bind(&orphans).execute(&mut **transaction).await.map_err(failed)?;
        }
        count_keys(transaction, source, -signed(orphans.len() as u64)).await?;
        let updated: Vec<(i64, String)> =
            sqlx::query_as(OTHERWISE).bind(&ids).fetch_all(&mut **transaction).await.map_err(failed)?;
        if !updated.is_empty() {
            let due: Vec<i64> = updated.iter().map(|(id, _)| *id).collect();
            self.make_due(transaction, &updated, &due).await?;
            wish(transaction).await?;
        }
        Ok(orphans.len() as u64)
    }

    pub(super) async fn retire_other_sources(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        let keep = json(&keep.iter().map(|id| id.0).collect::<Vec<_>>())?;
        let others: Vec<i64> =
            sqlx::query_scalar(OTHER_SOURCES).bind(keep).fetch_all(&self.readers).await.map_err(failed)?;
        let mut retired = 0;
        for source in others {
            let origins: Vec<i64> =
                sqlx::query_scalar(ORIGINS_OF).bind(source).fetch_all(&self.readers).await.map_err(failed)?;
            for origin in origins {
                retired += self.empty(OriginId(origin)).await?;
            }
        }
        Ok(retired)
    }

    /// Takes all keys out of an origin, and forgets it.
    async fn empty(&self, origin: OriginId) -> Result<u64, StoreError> {
        let round = self.begin_round_of(origin).await?;
        let mut retired = 0;
        loop {
            let some = self.list_origin(origin, None, CHUNK.unsigned_abs().try_into().unwrap_or(u32::MAX)).await?;
            if some.is_empty() {
                self.forget_empty_origin(round).await?;
                return Ok(retired);
            }
            retired += self.drop_keys_of(round, &some).await?;
        }
    }

    pub(super) async fn remove_by_hand(&self, source: SourceId, keys: &[Key]) -> Result<Vec<Removed>, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let hands: Vec<i64> = sqlx::query_scalar(HANDS)
            .bind(source.0)
            .bind(hands()?)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            let Some((id, before)) = named(&mut transaction, source, key).await? else {
                removed.push(Removed::Unknown);
                continue;
            };
            for hand in &hands {
                self.detach(&mut transaction, source, OriginId(*hand), &[id]).await?;
            }
            let left = named(&mut transaction, source, key).await?.map(|(_, left)| left.origins);
            removed.push(Removed::of(&before.origins, left));
        }
        transaction.commit().await.map_err(failed)?;
        Ok(removed)
    }

    pub(super) async fn list_keys(
        &self,
        source: SourceId,
        after: Option<&Key>,
        at_most: u32,
    ) -> Result<Vec<ListedKey>, StoreError> {
        let after = after.map_or("", Key::as_str);
        let mut rows = sqlx::query(KEYS).bind(source.0).bind(after).bind(at_most).fetch(&self.readers);
        let mut keys = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            keys.push(ListedKey::read(&row)?);
        }
        Ok(keys)
    }
}

/// A polled key, with its id.
async fn named(
    transaction: &mut Transaction<'_, Sqlite>,
    source: SourceId,
    key: &Key,
) -> Result<Option<(i64, ListedKey)>, StoreError> {
    let row = sqlx::query(NAMED).bind(source.0).bind(key.as_str()).fetch_optional(&mut **transaction).await;
    let Some(row) = row.map_err(failed)? else { return Ok(None) };
    Ok(Some((row.try_get("id").map_err(failed)?, ListedKey::read(&row)?)))
}
