//! The keys of a source: added, revived, updated, retired, found. Each part is tried again by itself when it had to give
//! way to another transaction.

use std::collections::{BTreeSet, HashMap};

use sqlx::{PgConnection, Row};

use super::error::Result;
use super::{PostgresStore, bounded, wish};
use crate::domain::resource::{Key, Params, ResourceId, SourceId};
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros, params_json};
use crate::store::retry::retrying;
use crate::store::{Authority, KeysChanged, StoreError};

/// How many keys go into one transaction: enough to make statements cheap, few enough to keep no one waiting.
const CHUNK: usize = 5_000;

pub(super) async fn add(
    store: &PostgresStore,
    source: SourceId,
    keys: &[(Key, Params)],
    authority: Authority,
) -> Result<KeysChanged> {
    let mut total = KeysChanged::default();
    for chunk in keys.chunks(CHUNK) {
        let changed = retrying(|| bounded(add_chunk(store, source, chunk, authority))).await?;
        total.added += changed.added;
        total.revived += changed.revived;
        total.updated += changed.updated;
    }
    Ok(total)
}

/// Whoever changes the keys of a source has its row, so that two never add the same key.
const LOCK_SOURCE: &str = "SELECT id FROM headpond.source WHERE id = $1 FOR NO KEY UPDATE";

async fn lock_source(tx: &mut PgConnection, source: SourceId) -> Result<()> {
    match sqlx::query(LOCK_SOURCE).bind(source.0).fetch_optional(tx).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::Rejected(format!("there is no source {}", source.0)).into()),
    }
}

/// Claims take this lock too: one that was made before is from before what is written here, and any other sees it.
const LOCK_UPSTREAM: &str = "
    SELECT u.id FROM headpond.upstream u JOIN headpond.source s ON s.upstream_id = u.id
     WHERE s.id = $1 FOR NO KEY UPDATE OF u";

pub(super) const KNOWN: &str = "
    SELECT id, key, params, retired_at FROM headpond.resource WHERE source_id = $1 AND key = ANY($2)";

/// Ids are given in the order of the keys, so that neighbours in the config are neighbours on disk.
const ADD: &str = "
      WITH added AS (
               INSERT INTO headpond.resource (source_id, key, params)
               SELECT $1, n.key, n.params
                 FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS n (key, params, place)
                ORDER BY n.place
            RETURNING id)
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT added.id, s.upstream_id, s.id, $4, $5
      FROM added, headpond.source s WHERE s.id = $1
     ORDER BY added.id";

/// `wanted_at` leaves a resource due that is being fetched right now, with the parameters that it had.
const DUE: &str = "
    UPDATE headpond.schedule SET due_at = $2, because = CASE because WHEN 1 THEN 1 ELSE $3 END, wanted_at = $2
     WHERE resource_id = ANY($1)";

/// Other parameters make another URL: validators of the old one must not confirm what the new one has.
const CHANGE: &str = "
    UPDATE headpond.resource r
       SET params = n.params, retired_at = NULL,
           etag = CASE WHEN r.params = n.params THEN r.etag END,
           last_modified = CASE WHEN r.params = n.params THEN r.last_modified END
      FROM unnest($1::bigint[], $2::text[]) AS n (id, params)
     WHERE r.id = n.id";

const COUNT: &str = "UPDATE headpond.source SET keys = keys + $2 WHERE id = $1";

async fn add_chunk(
    store: &PostgresStore,
    source: SourceId,
    keys: &[(Key, Params)],
    authority: Authority,
) -> Result<KeysChanged> {
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let (new, mut changed, counts) = compare(&mut tx, source, keys, authority).await?;
    if !changed.is_empty() {
        sqlx::query(LOCK_UPSTREAM).bind(source.0).execute(&mut *tx).await?;
    }
    let now = micros(store.clock.now());
    if !new.is_empty() {
        let (keys, params): (Vec<_>, Vec<_>) = new.into_iter().unzip();
        sqlx::query(ADD)
            .bind(source.0)
            .bind(keys)
            .bind(params)
            .bind(now)
            .bind(Because::New.code())
            .execute(&mut *tx)
            .await?;
    }
    if !changed.is_empty() {
        changed.sort_unstable();
        let (ids, params): (Vec<_>, Vec<_>) = changed.into_iter().unzip();
        sqlx::query(DUE).bind(&ids).bind(now).bind(Because::Manual.code()).execute(&mut *tx).await?;
        sqlx::query(CHANGE).bind(&ids).bind(params).execute(&mut *tx).await?;
    }
    if counts == KeysChanged::default() {
        return Ok(counts);
    }
    let polled = i64::try_from(counts.added + counts.revived).unwrap_or(i64::MAX);
    sqlx::query(COUNT).bind(source.0).bind(polled).execute(&mut *tx).await?;
    wish(&mut tx).await?;
    tx.commit().await?;
    Ok(counts)
}

type New<'a> = Vec<(&'a str, String)>;
type Changed = Vec<(i64, String)>;

/// Tells keys that aren't there from those that are there but otherwise.
async fn compare<'a>(
    tx: &mut PgConnection,
    source: SourceId,
    keys: &'a [(Key, Params)],
    authority: Authority,
) -> Result<(New<'a>, Changed, KeysChanged)> {
    let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
    let rows = sqlx::query(KNOWN).bind(source.0).bind(names).fetch_all(tx).await?;
    let mut known = HashMap::new();
    for row in &rows {
        let record = Record::identified_by(row, "resource", "id")?;
        let is_retired = record.maybe_integer("retired_at")?.is_some();
        known.insert(record.text("key")?, (record.id(), record.params("params")?, is_retired));
    }
    let (mut new, mut changed, mut counts) = (New::new(), Changed::new(), KeysChanged::default());
    let mut seen = BTreeSet::new();
    for (key, params) in keys.iter().filter(|(key, _)| seen.insert(key)) {
        match known.get(key.as_str()) {
            None => {
                new.push((key.as_str(), params_json(params)));
                counts.added += 1;
            }
            Some((.., false)) if authority == Authority::Adds => {}
            Some((id, had, is_retired)) => {
                let differs = had != params;
                counts.revived += u64::from(*is_retired);
                counts.updated += u64::from(differs);
                if differs || *is_retired {
                    changed.push((*id, params_json(params)));
                }
            }
        }
    }
    Ok((new, changed, counts))
}

const NEVER_DUE: &str = "
    UPDATE headpond.schedule SET due_at = NULL, wanted_at = NULL WHERE resource_id = ANY($1)";

const RETIRE: &str = "
    UPDATE headpond.resource SET retired_at = $2 WHERE id = ANY($1) AND retired_at IS NULL";

const POLLED: &str = "
    SELECT r.id FROM headpond.resource r
     WHERE r.source_id = $1 AND r.retired_at IS NULL
       AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS keep (key) WHERE keep.key = r.key)
     ORDER BY r.id";

/// In parts, so that no apply waits long for rows that are being retired. Keys that are added meanwhile are not meant.
pub(super) async fn retire_except(store: &PostgresStore, source: SourceId, keep: &BTreeSet<Key>) -> Result<u64> {
    let keep: Vec<&str> = keep.iter().map(Key::as_str).collect();
    // Planned anew each time, for as many keys as there are: a plan for a few would compare each with each.
    let polled = sqlx::query_scalar(POLLED).bind(source.0).bind(keep).persistent(false);
    let ids: Vec<i64> = bounded(async { Ok(polled.fetch_all(&store.writers).await?) }).await?;
    let mut retired = 0;
    for part in ids.chunks(CHUNK) {
        retired += retrying(|| bounded(retire(store, source, part))).await?;
    }
    Ok(retired)
}

async fn retire(store: &PostgresStore, source: SourceId, ids: &[i64]) -> Result<u64> {
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let now = micros(store.clock.now());
    sqlx::query(NEVER_DUE).bind(ids).execute(&mut *tx).await?;
    let retired = sqlx::query(RETIRE).bind(ids).bind(now).execute(&mut *tx).await?.rows_affected();
    let fewer = -i64::try_from(retired).unwrap_or_default();
    sqlx::query(COUNT).bind(source.0).bind(fewer).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(retired)
}

const SOURCES_EXCEPT: &str = "SELECT id FROM headpond.source WHERE id <> ALL($1) AND keys > 0 ORDER BY id";

pub(super) async fn retire_sources_except(store: &PostgresStore, keep: &[SourceId]) -> Result<u64> {
    let keep: Vec<i64> = keep.iter().map(|source| source.0).collect();
    let others = sqlx::query_scalar(SOURCES_EXCEPT).bind(keep).fetch_all(&store.writers);
    let others: Vec<i64> = bounded(async { Ok(others.await?) }).await?;
    let mut retired = 0;
    for source in others {
        retired += retire_except(store, SourceId(source), &BTreeSet::new()).await?;
    }
    Ok(retired)
}

const FIND: &str = "
    SELECT key, id FROM headpond.resource WHERE source_id = $1 AND key = ANY($2) AND retired_at IS NULL";

pub(super) async fn find(store: &PostgresStore, source: SourceId, keys: &[Key]) -> Result<Vec<Option<ResourceId>>> {
    let mut found = HashMap::new();
    for chunk in keys.chunks(CHUNK) {
        let names: Vec<&str> = chunk.iter().map(Key::as_str).collect();
        for row in sqlx::query(FIND).bind(source.0).bind(names).fetch_all(&store.readers).await? {
            found.insert(row.try_get::<String, _>("key")?, ResourceId(row.try_get("id")?));
        }
    }
    Ok(keys.iter().map(|key| found.get(key.as_str()).copied()).collect())
}
