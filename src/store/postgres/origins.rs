//! Where keys come from: origins made known, read in rounds, and what has left its last one.

use sqlx::{PgConnection, Row};

use super::error::Result;
use super::keys::{self, count, count_in_origin, current, lock_source, signed};
use super::{PostgresStore, bounded, wish};
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, ResourceId, SourceId};
use crate::store::StoreError;
use crate::store::columns::micros;
use crate::store::origins::{KnownOrigin, ListedKey, OriginId, OriginSpec, Removed, Round, as_described, outdated};
use crate::store::retry::retrying;

/// With another place, other parameters may hold: it is read again.
const ORIGIN: &str = "
    INSERT INTO headpond.origin AS o (source_id, name, place, about, synced_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (source_id, name) DO UPDATE
       SET about = excluded.about, place = excluded.place,
           mark = CASE WHEN o.place = excluded.place THEN o.mark END
    RETURNING id, mark, synced_at";

pub(super) async fn register(
    store: &PostgresStore,
    source: SourceId,
    origins: &[OriginSpec],
) -> Result<Vec<KnownOrigin>> {
    let stored = sqlx::query(STORED).bind(source.0).fetch_all(&store.writers).await?;
    if let Some(known) = as_described(&stored, origins)? {
        return Ok(known);
    }
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let mut known = Vec::with_capacity(origins.len());
    for origin in origins {
        let synced_at = origin.is_always_there().then(|| micros(store.clock.now()));
        let query = sqlx::query(ORIGIN).bind(source.0).bind(&origin.name).bind(origin.place);
        let row = query.bind(&origin.about).bind(synced_at).fetch_one(&mut *tx).await?;
        known.push(KnownOrigin::read(&row)?);
    }
    tx.commit().await?;
    Ok(known)
}

const STORED: &str = "
    SELECT id, name, place, about, mark, synced_at FROM headpond.origin WHERE source_id = $1";

const OTHERS: &str = "SELECT id FROM headpond.origin WHERE source_id = $1 AND name <> ALL($2) AND id <> ALL($3)";

pub(super) async fn others(store: &PostgresStore, source: SourceId, keep: &[OriginId]) -> Result<Vec<OriginId>> {
    let keep: Vec<i64> = keep.iter().map(|origin| origin.0).collect();
    let ids: Vec<i64> =
        sqlx::query_scalar(OTHERS).bind(source.0).bind(hands()).bind(keep).fetch_all(&store.readers).await?;
    Ok(ids.into_iter().map(OriginId).collect())
}

fn hands() -> Vec<&'static str> {
    Hand::ALL.map(Hand::as_str).to_vec()
}

const SOURCE_OF: &str = "SELECT source_id FROM headpond.origin WHERE id = $1";

const BEGIN: &str = "UPDATE headpond.origin SET round = round + 1, mark = NULL WHERE id = $1 RETURNING round";

pub(super) async fn begin(store: &PostgresStore, origin: OriginId) -> Result<Round> {
    let mut tx = store.begin().await?;
    let source: Option<i64> = sqlx::query_scalar(SOURCE_OF).bind(origin.0).fetch_optional(&mut *tx).await?;
    // Whoever writes keys of an earlier round has this lock: it is done first, or refused.
    lock_source(&mut tx, SourceId(source.ok_or_else(outdated)?)).await?;
    let number: Option<i64> = sqlx::query_scalar(BEGIN).bind(origin.0).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    Ok(Round { origin, number: number.ok_or_else(outdated)? })
}

const END: &str = "
    UPDATE headpond.origin SET mark = $2, synced_at = $3, problem = NULL, problem_at = NULL WHERE id = $1";

pub(super) async fn end(store: &PostgresStore, round: Round, mark: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    current(&mut tx, round).await?;
    let now = micros(store.clock.now());
    sqlx::query(END).bind(round.origin.0).bind(mark).bind(now).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

const PROBLEM: &str = "
    UPDATE headpond.origin SET problem = $2, problem_at = CASE WHEN $2 IS NOT NULL THEN $3::bigint END
     WHERE id = $1 AND ($2 IS NOT NULL OR problem IS NOT NULL)";

pub(super) async fn note_problem(store: &PostgresStore, origin: OriginId, problem: Option<&str>) -> Result<()> {
    // NUL is the one character that no text can hold.
    let problem = problem.map(|problem| problem.replace('\0', " "));
    let note = sqlx::query(PROBLEM).bind(origin.0).bind(problem).bind(micros(store.clock.now()));
    note.execute(&store.writers).await?;
    Ok(())
}

const FORGET: &str = "DELETE FROM headpond.origin WHERE id = $1 AND keys = 0";

pub(super) async fn forget(store: &PostgresStore, round: Round) -> Result<()> {
    let mut tx = store.begin().await?;
    current(&mut tx, round).await?;
    sqlx::query(FORGET).bind(round.origin.0).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

pub(super) const LISTED: &str = "
    SELECT resource_id FROM headpond.key_origin
     WHERE origin_id = $1 AND resource_id > $2 ORDER BY resource_id LIMIT $3";

pub(super) async fn listed(
    store: &PostgresStore,
    origin: OriginId,
    after: Option<ResourceId>,
    at_most: u32,
) -> Result<Vec<ResourceId>> {
    let after = after.map_or(0, |id| id.0);
    let ids: Vec<i64> = sqlx::query_scalar(LISTED)
        .bind(origin.0)
        .bind(after)
        .bind(i64::from(at_most))
        .fetch_all(&store.readers)
        .await?;
    Ok(ids.into_iter().map(ResourceId).collect())
}

pub(super) async fn drop_keys(store: &PostgresStore, round: Round, resources: &[ResourceId]) -> Result<u64> {
    let mut tx = store.begin().await?;
    let (source, _) = current(&mut tx, round).await?;
    let ids: Vec<i64> = resources.iter().map(|id| id.0).collect();
    let retired = detach(store, &mut tx, source, round.origin.0, &ids).await?;
    tx.commit().await?;
    Ok(retired)
}

pub(super) const DETACH: &str = "DELETE FROM headpond.key_origin WHERE origin_id = $1 AND resource_id = ANY($2)";

/// What no origin has any more.
pub(super) const ORPHANS: &str = "
    SELECT r.id FROM headpond.resource r
     WHERE r.id = ANY($1) AND r.retired_at IS NULL
       AND NOT EXISTS (SELECT FROM headpond.key_origin k WHERE k.resource_id = r.id)
     ORDER BY r.id";

pub(super) const NEVER_DUE: &str = "
    UPDATE headpond.schedule SET due_at = NULL, wanted_at = NULL WHERE resource_id = ANY($1)";

pub(super) const RETIRE: &str = "
    UPDATE headpond.resource SET retired_at = $2 WHERE id = ANY($1) AND retired_at IS NULL";

/// What other origins have, with other parameters than hold now.
pub(super) const OTHERWISE: &str = "
    SELECT id, params
      FROM (SELECT r.id, r.params AS had,
                   (SELECT k.params FROM headpond.key_origin k JOIN headpond.origin o ON o.id = k.origin_id
                     WHERE k.resource_id = r.id ORDER BY o.place LIMIT 1) AS params
              FROM headpond.resource r WHERE r.id = ANY($1)) AS now
     WHERE params <> had";

/// Takes resources out of an origin, and retires those that are in no other. Their source is locked.
pub(super) async fn detach(
    store: &PostgresStore,
    tx: &mut PgConnection,
    source: SourceId,
    origin: i64,
    ids: &[i64],
) -> Result<u64> {
    let detached = sqlx::query(DETACH).bind(origin).bind(ids).execute(&mut *tx).await?.rows_affected();
    count_in_origin(tx, origin, -signed(detached)).await?;
    let updated: Vec<(i64, String)> = sqlx::query_as(OTHERWISE).bind(ids).fetch_all(&mut *tx).await?;
    if !updated.is_empty() {
        keys::change(store, tx, source, &updated).await?;
    }
    let orphans: Vec<i64> = sqlx::query_scalar(ORPHANS).bind(ids).fetch_all(&mut *tx).await?;
    if !orphans.is_empty() {
        sqlx::query(NEVER_DUE).bind(&orphans).execute(&mut *tx).await?;
        sqlx::query(RETIRE).bind(&orphans).bind(micros(store.clock.now())).execute(&mut *tx).await?;
        count(tx, source, -signed(orphans.len() as u64)).await?;
    }
    if !updated.is_empty() {
        wish(tx).await?;
    }
    Ok(orphans.len() as u64)
}

const OTHER_SOURCES: &str = "
    SELECT id FROM headpond.source s
     WHERE id <> ALL($1) AND (keys > 0 OR EXISTS (SELECT FROM headpond.origin o WHERE o.source_id = s.id))
     ORDER BY id";

const ORIGINS_OF: &str = "SELECT id FROM headpond.origin WHERE source_id = $1 ORDER BY id";

pub(super) async fn retire_sources_except(store: &PostgresStore, keep: &[SourceId]) -> Result<u64, StoreError> {
    let keep: Vec<i64> = keep.iter().map(|source| source.0).collect();
    let sources = sqlx::query_scalar(OTHER_SOURCES).bind(keep).fetch_all(&store.writers);
    let sources: Vec<i64> = bounded(async { Ok(sources.await?) }).await?;
    let mut retired = 0;
    for source in sources {
        let origins = sqlx::query_scalar(ORIGINS_OF).bind(source).fetch_all(&store.writers);
        let origins: Vec<i64> = bounded(async { Ok(origins.await?) }).await?;
        for origin in origins {
            retired += empty(store, OriginId(origin)).await?;
        }
    }
    Ok(retired)
}

/// Takes all keys out of an origin, in parts, so that no apply waits long for rows that are being retired; and forgets it.
async fn empty(store: &PostgresStore, origin: OriginId) -> Result<u64, StoreError> {
    let round = retrying(|| bounded(begin(store, origin))).await?;
    let at_most = u32::try_from(keys::CHUNK).unwrap_or(u32::MAX);
    let mut retired = 0;
    loop {
        let some = bounded(listed(store, origin, None, at_most)).await?;
        if some.is_empty() {
            retrying(|| bounded(forget(store, round))).await?;
            return Ok(retired);
        }
        retired += retrying(|| bounded(drop_keys(store, round, &some))).await?;
    }
}

const HANDS: &str = "SELECT id FROM headpond.origin WHERE source_id = $1 AND name = ANY($2) ORDER BY id";

pub(super) async fn remove(store: &PostgresStore, source: SourceId, names: &[Key]) -> Result<Vec<Removed>> {
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let hands: Vec<i64> = sqlx::query_scalar(HANDS).bind(source.0).bind(hands()).fetch_all(&mut *tx).await?;
    let before = named(&mut tx, source, names).await?;
    let ids: Vec<i64> = before.iter().map(|(id, _)| *id).collect();
    for hand in hands {
        detach(store, &mut tx, source, hand, &ids).await?;
    }
    let after = named(&mut tx, source, names).await?;
    tx.commit().await?;
    let removed = |key: &Key| {
        let Some((id, before)) = before.iter().find(|(_, listed)| listed.key == *key) else { return Removed::Unknown };
        let left = after.iter().find(|(left, _)| left == id).map(|(_, left)| left.origins.clone());
        Removed::of(&before.origins, left)
    };
    Ok(names.iter().map(removed).collect())
}

const NAMED: &str = "
    SELECT r.id, r.key, r.params,
           (SELECT string_agg(o.name, ',' ORDER BY o.place)
              FROM headpond.key_origin k JOIN headpond.origin o ON o.id = k.origin_id
             WHERE k.resource_id = r.id) AS origins
      FROM headpond.resource r
     WHERE r.source_id = $1 AND r.key = ANY($2) AND r.retired_at IS NULL
     ORDER BY r.id";

/// The polled ones of these keys, with their ids.
async fn named(tx: &mut PgConnection, source: SourceId, names: &[Key]) -> Result<Vec<(i64, ListedKey)>> {
    let names: Vec<&str> = names.iter().map(Key::as_str).collect();
    let rows = sqlx::query(NAMED).bind(source.0).bind(names).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.try_get("id")?, ListedKey::read(row)?))).collect()
}

/// What is in some origin, with their names in the order of their places.
pub(super) const KEYS: &str = "
    SELECT r.id, r.key, r.params,
           (SELECT string_agg(o.name, ',' ORDER BY o.place)
              FROM headpond.key_origin k JOIN headpond.origin o ON o.id = k.origin_id
             WHERE k.resource_id = r.id) AS origins
      FROM headpond.resource r
     WHERE r.source_id = $1 AND r.key > $2 AND r.retired_at IS NULL
     ORDER BY r.key LIMIT $3";

pub(super) async fn keys(
    store: &PostgresStore,
    source: SourceId,
    after: Option<&Key>,
    at_most: u32,
) -> Result<Vec<ListedKey>> {
    let after = after.map_or("", Key::as_str);
    let rows = sqlx::query(KEYS).bind(source.0).bind(after).bind(i64::from(at_most)).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(ListedKey::read).collect::<Result<_, StoreError>>()?)
}
