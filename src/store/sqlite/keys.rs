//! The keys of a source: added, revived, updated, found.

use std::collections::HashMap;

use sqlx::{Row, Sqlite, Transaction};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, json, wish};
use crate::domain::origin::CONFIG;
use crate::domain::resource::{Key, Params, ResourceId, SourceId};
use crate::store::columns::micros;
use crate::store::origins::{Changes, KnownKey, OriginId, Put, Round, Seen, no_source, outdated};
use crate::store::{Authority, KeysChanged, StoreError};

/// What is known of some keys. `own` is what the origin ?3 says, `other` the place of the first other one.
pub(super) const KNOWN: &str = "
    SELECT r.id, r.key, r.params, r.retired_at, r.erased_at, k.params AS own, (
        SELECT min(o.place) FROM headpond_key_origin AS x JOIN headpond_origin AS o ON o.id = x.origin_id
        WHERE x.resource_id = r.id AND x.origin_id <> ?3) AS other
    FROM json_each(?2) AS j
    CROSS JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value
    LEFT JOIN headpond_key_origin AS k ON k.origin_id = ?3 AND k.resource_id = r.id";

/// Ids are given in the array's order, so neighbours stay neighbours.
const INSERT_RESOURCES: &str = "
    INSERT INTO headpond_resource (source_id, key, params)
    SELECT ?1, value ->> 0, value ->> 1 FROM jsonb_each(?2) ORDER BY key";

pub(super) const LAST_RESOURCE: &str = "SELECT coalesce(max(id), 0) FROM headpond_resource";

/// Everything inserted after the id ?1 in this transaction is new. Because 1: never fetched.
const INSERT_SCHEDULES: &str = "
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT r.id, s.upstream_id, s.id, ?2, 1
    FROM headpond_resource AS r JOIN headpond_source AS s ON s.id = r.source_id
    WHERE r.id > ?1";

const ATTACH_NEW: &str = "
    INSERT INTO headpond_key_origin (origin_id, resource_id, params)
    SELECT ?2, id, params FROM headpond_resource WHERE id > ?1 RETURNING resource_id";

pub(super) const ATTACH: &str = "
    INSERT INTO headpond_key_origin (origin_id, resource_id, params)
    SELECT ?1, value ->> 0, value ->> 1 FROM jsonb_each(?2) WHERE true
    ON CONFLICT (origin_id, resource_id) DO UPDATE SET params = excluded.params";

pub(super) const REVIVE: &str = "
    UPDATE headpond_resource SET retired_at = NULL WHERE id IN (SELECT value FROM json_each(?1))";

/// Other parameters make another URL, to whose answers the old one's validators say nothing.
pub(super) const UPDATE_PARAMS: &str = "
    UPDATE headpond_resource AS r SET params = j.value ->> 1, etag = NULL, last_modified = NULL
    FROM jsonb_each(?1) AS j WHERE r.id = j.value ->> 0";

/// Due now, and again after a fetch that is under way. What was never fetched stays marked as that (1), else someone
/// asked for it (8).
pub(super) const DUE_NOW: &str = "
    UPDATE headpond_schedule
    SET due_at = ?2, wanted_at = ?2, because = CASE because WHEN 1 THEN 1 ELSE 8 END
    WHERE resource_id IN (SELECT value FROM json_each(?1))";

pub(super) const COUNT_KEYS: &str = "UPDATE headpond_source SET keys = keys + ?2 WHERE id = ?1";

const COUNT_IN_ORIGIN: &str = "UPDATE headpond_origin SET keys = keys + ?2 WHERE id = ?1";

/// What is always there is never waited for.
const MAKE_ORIGIN: &str = "
    INSERT INTO headpond_origin (source_id, name, place, synced_at)
    SELECT id, ?2, ?3, ?4 FROM headpond_source WHERE id = ?1
    ON CONFLICT (source_id, name) DO UPDATE SET mark = NULL
    RETURNING id";

const ORIGIN: &str = "SELECT source_id, place, round FROM headpond_origin WHERE id = ?1";

const FIND: &str = "
    SELECT r.id
    FROM json_each(?2) AS j
    LEFT JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value AND r.retired_at IS NULL
    ORDER BY j.key";

const SOURCE: &str = "SELECT id FROM headpond_source WHERE name = ?1";

/// The origin that keys are put into.
#[derive(Clone, Copy)]
pub(super) struct Target {
    source: i64,
    pub(super) origin: i64,
    place: i64,
}

impl SqliteStore {
    /// Adds to the configuration's own list.
    pub(super) async fn add_keys_to(
        &self,
        source: SourceId,
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<KeysChanged, StoreError> {
        self.add_to_named(source, (CONFIG, 0), keys, authority).await
    }

    /// Adds to an origin that is always there, and makes it if this is the first time.
    pub(super) async fn add_to_named(
        &self,
        source: SourceId,
        named: (&'static str, i64),
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<KeysChanged, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let into = self.named_origin(&mut transaction, source, named).await?;
        let put = self.put(&mut transaction, into, &Seen::default(), keys, authority).await?;
        if put.1 {
            transaction.commit().await.map_err(failed)?;
        } else {
            // A config that says the same again writes nothing.
            transaction.rollback().await.map_err(failed)?;
        }
        Ok(put.0.changed)
    }

    /// An origin that is always there, made if this is the first time.
    pub(super) async fn named_origin(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        source: SourceId,
        (name, place): (&'static str, i64),
    ) -> Result<Target, StoreError> {
        let made = sqlx::query_scalar(MAKE_ORIGIN).bind(source.0).bind(name).bind(place).bind(micros(self.clock.now()));
        let made: Option<i64> = made.fetch_optional(&mut **transaction).await.map_err(failed)?;
        Ok(Target { source: source.0, origin: made.ok_or_else(|| no_source(source.0))?, place })
    }

    pub(super) async fn put_keys_of(
        &self,
        round: Round,
        seen: &Seen,
        keys: &[(Key, Params)],
    ) -> Result<Put, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let (source, place) = current(&mut transaction, round).await?;
        let into = Target { source: source.0, origin: round.origin.0, place };
        let (put, has_written) = self.put(&mut transaction, into, seen, keys, Authority::Owns).await?;
        if has_written {
            transaction.commit().await.map_err(failed)?;
        } else {
            transaction.rollback().await.map_err(failed)?;
        }
        Ok(put)
    }

    /// Puts keys into an origin, and says whether anything was written.
    pub(super) async fn put(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        into: Target,
        seen: &Seen,
        keys: &[(Key, Params)],
        authority: Authority,
    ) -> Result<(Put, bool), StoreError> {
        let names = json(&keys.iter().map(|(key, _)| key).collect::<Vec<_>>())?;
        let known = sqlx::query(KNOWN).bind(into.source).bind(names).bind(into.origin);
        let known = known.fetch_all(&mut **transaction).await.map_err(failed)?;
        let known = known.iter().map(KnownKey::read).collect::<Result<HashMap<_, _>, _>>()?;
        let changes = Changes::of(keys, known, (into.place, seen), authority);
        let mut put =
            Put { changed: changes.counts(), resources: changes.known.clone(), duplicates: changes.duplicates };
        if changes.are_none() {
            return Ok((put, false));
        }
        put.resources.extend(self.write_keys(transaction, into, &changes).await?);
        Ok((put, true))
    }

    /// Writes the changes, and returns the ids of what is new.
    async fn write_keys(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        into: Target,
        changes: &Changes,
    ) -> Result<Vec<ResourceId>, StoreError> {
        let now = micros(self.clock.now());
        let mut new = Vec::new();
        if !changes.new.is_empty() {
            let last: i64 = sqlx::query_scalar(LAST_RESOURCE).fetch_one(&mut **transaction).await.map_err(failed)?;
            let insert = sqlx::query(INSERT_RESOURCES).bind(into.source).bind(json(&changes.new)?);
            insert.execute(&mut **transaction).await.map_err(failed)?;
            let schedule = sqlx::query(INSERT_SCHEDULES).bind(last).bind(now);
            schedule.execute(&mut **transaction).await.map_err(failed)?;
            let attach = sqlx::query_scalar(ATTACH_NEW).bind(last).bind(into.origin);
            new = attach.fetch_all(&mut **transaction).await.map_err(failed)?;
        }
        if !changes.attached.is_empty() {
            let attach = sqlx::query(ATTACH).bind(into.origin).bind(json(&changes.attached)?);
            attach.execute(&mut **transaction).await.map_err(failed)?;
        }
        if !changes.revived.is_empty() {
            let revive = sqlx::query(REVIVE).bind(json(&changes.revived)?);
            revive.execute(&mut **transaction).await.map_err(failed)?;
        }
        self.make_due(transaction, &changes.updated, &changes.due()).await?;
        count_in_origin(transaction, OriginId(into.origin), signed(changes.joined + changes.new.len() as u64)).await?;
        let polled = signed(changes.new.len() as u64 + changes.revived.len() as u64);
        count_keys(transaction, SourceId(into.source), polled).await?;
        if polled > 0 || !changes.updated.is_empty() {
            wish(transaction).await?;
        }
        Ok(new.into_iter().map(ResourceId).collect())
    }

    /// Gives resources other parameters, and makes some due at once.
    pub(super) async fn make_due(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        updated: &[(i64, String)],
        due: &[i64],
    ) -> Result<(), StoreError> {
        if !updated.is_empty() {
            let update = sqlx::query(UPDATE_PARAMS).bind(json(updated)?);
            update.execute(&mut **transaction).await.map_err(failed)?;
        }
        if !due.is_empty() {
            let due_now = sqlx::query(DUE_NOW).bind(json(due)?).bind(micros(self.clock.now()));
            due_now.execute(&mut **transaction).await.map_err(failed)?;
        }
        Ok(())
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

    pub(super) async fn find_source(&self, name: &str) -> Result<Option<SourceId>, StoreError> {
        let id: Option<i64> =
            sqlx::query_scalar(SOURCE).bind(name).fetch_optional(&self.readers).await.map_err(failed)?;
        Ok(id.map(SourceId))
    }
}

/// The source and place of an origin of which this is the latest round.
pub(super) async fn current(
    transaction: &mut Transaction<'_, Sqlite>,
    round: Round,
) -> Result<(SourceId, i64), StoreError> {
    let row = sqlx::query(ORIGIN).bind(round.origin.0).fetch_optional(&mut **transaction).await.map_err(failed)?;
    let row = row.ok_or_else(outdated)?;
    let number: i64 = row.try_get("round").map_err(failed)?;
    if number != round.number {
        return Err(outdated());
    }
    Ok((SourceId(row.try_get("source_id").map_err(failed)?), row.try_get("place").map_err(failed)?))
}

pub(super) async fn count_keys(
    transaction: &mut Transaction<'_, Sqlite>,
    source: SourceId,
    more: i64,
) -> Result<(), StoreError> {
    sqlx::query(COUNT_KEYS).bind(source.0).bind(more).execute(&mut **transaction).await.map_err(failed)?;
    Ok(())
}

pub(super) async fn count_in_origin(
    transaction: &mut Transaction<'_, Sqlite>,
    origin: OriginId,
    more: i64,
) -> Result<(), StoreError> {
    sqlx::query(COUNT_IN_ORIGIN).bind(origin.0).bind(more).execute(&mut **transaction).await.map_err(failed)?;
    Ok(())
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
