//! The keys of a source: added, revived, updated, found. Each part is tried again by itself when it had to give way to
//! another transaction.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};

use super::error::Result;
use super::{PostgresStore, bounded, wish};
use crate::domain::resource::{Key, Params, ResourceId, SourceId};
use crate::domain::schedule::Because;
use crate::store::columns::micros;
use crate::store::origins::{Changes, KnownKey, Put, Round, Seen, no_source, outdated};
use crate::store::retry::retrying;
use crate::store::{Authority, KeysChanged, StoreError};

/// How many keys go into one transaction: enough to make statements cheap, few enough to keep no one waiting.
pub(super) const CHUNK: usize = 5_000;

/// The origin that keys are put into.
#[derive(Clone, Copy)]
pub(super) struct Target {
    source: i64,
    pub(super) origin: i64,
    place: i64,
}

/// Adds to an origin that is always there, and makes it if this is the first time.
pub(super) async fn add(
    store: &PostgresStore,
    source: SourceId,
    named: (&'static str, i64),
    keys: &[(Key, Params)],
    authority: Authority,
) -> Result<KeysChanged, StoreError> {
    let mut total = KeysChanged::default();
    for chunk in keys.chunks(CHUNK) {
        let changed = retrying(|| bounded(add_chunk(store, source, named, chunk, authority))).await?;
        total.added += changed.added;
        total.revived += changed.revived;
        total.updated += changed.updated;
    }
    Ok(total)
}

/// What is always there is never waited for.
const MAKE_ORIGIN: &str = "
    INSERT INTO headpond.origin (source_id, name, place, synced_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (source_id, name) DO UPDATE SET mark = NULL
    RETURNING id";

async fn add_chunk(
    store: &PostgresStore,
    source: SourceId,
    named: (&'static str, i64),
    keys: &[(Key, Params)],
    authority: Authority,
) -> Result<KeysChanged> {
    let mut tx = store.begin().await?;
    let target = named_origin(store, &mut tx, source, named).await?;
    let (put, has_written) = put_into(store, &mut tx, target, &Seen::default(), keys, authority).await?;
    // What says the same again writes nothing.
    if has_written {
        tx.commit().await?;
    }
    Ok(put.changed)
}

/// An origin that is always there, made if this is the first time. Its source is locked.
pub(super) async fn named_origin(
    store: &PostgresStore,
    tx: &mut PgConnection,
    source: SourceId,
    (name, place): (&'static str, i64),
) -> Result<Target> {
    lock_source(tx, source).await?;
    let made = sqlx::query_scalar(MAKE_ORIGIN).bind(source.0).bind(name).bind(place).bind(micros(store.clock.now()));
    Ok(Target { source: source.0, origin: made.fetch_one(tx).await?, place })
}

pub(super) async fn put(store: &PostgresStore, round: Round, seen: &Seen, keys: &[(Key, Params)]) -> Result<Put> {
    let mut tx = store.begin().await?;
    let (source, place) = current(&mut tx, round).await?;
    let target = Target { source: source.0, origin: round.origin.0, place };
    let (put, has_written) = put_into(store, &mut tx, target, seen, keys, Authority::Owns).await?;
    if has_written {
        tx.commit().await?;
    }
    Ok(put)
}

/// Whoever changes the keys of a source has its row, so that two never add the same key.
const LOCK_SOURCE: &str = "SELECT id FROM headpond.source WHERE id = $1 FOR NO KEY UPDATE";

pub(super) async fn lock_source(tx: &mut PgConnection, source: SourceId) -> Result<()> {
    match sqlx::query(LOCK_SOURCE).bind(source.0).fetch_optional(tx).await? {
        Some(_) => Ok(()),
        None => Err(no_source(source.0).into()),
    }
}

const SOURCE_OF: &str = "SELECT source_id FROM headpond.origin WHERE id = $1";

const ORIGIN: &str = "SELECT place, round FROM headpond.origin WHERE id = $1";

/// Locks the source of an origin of which this is the latest round.
pub(super) async fn current(tx: &mut PgConnection, round: Round) -> Result<(SourceId, i64)> {
    let source: Option<i64> = sqlx::query_scalar(SOURCE_OF).bind(round.origin.0).fetch_optional(&mut *tx).await?;
    let source = SourceId(source.ok_or_else(outdated)?);
    lock_source(tx, source).await?;
    // Read with the lock: what is begun later waits for it.
    let found: Option<(i64, i64)> = sqlx::query_as(ORIGIN).bind(round.origin.0).fetch_optional(tx).await?;
    match found {
        Some((place, number)) if number == round.number => Ok((source, place)),
        _ => Err(outdated().into()),
    }
}

/// Claims take this lock too: one that was made before is from before what is written here, and any other sees it.
const LOCK_UPSTREAM: &str = "
    SELECT u.id FROM headpond.upstream u JOIN headpond.source s ON s.upstream_id = u.id
     WHERE s.id = $1 FOR NO KEY UPDATE OF u";

/// `own` is what the origin $3 says, `other` the place of the first other one.
pub(super) const KNOWN: &str = "
    SELECT r.id, r.key, r.params, r.retired_at, r.erased_at, k.params AS own,
           (SELECT min(o.place) FROM headpond.key_origin x JOIN headpond.origin o ON o.id = x.origin_id
             WHERE x.resource_id = r.id AND x.origin_id <> $3) AS other
      FROM headpond.resource r LEFT JOIN headpond.key_origin k ON k.origin_id = $3 AND k.resource_id = r.id
     WHERE r.source_id = $1 AND r.key = ANY($2)";

/// Ids are given in the order of the keys, so that neighbours in the config are neighbours on disk.
const ADD: &str = "
      WITH added AS (
               INSERT INTO headpond.resource (source_id, key, params)
               SELECT $1, n.key, n.params
                 FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS n (key, params, place)
                ORDER BY n.place
            RETURNING id, params),
           attached AS (
               INSERT INTO headpond.key_origin (origin_id, resource_id, params) SELECT $6, id, params FROM added)
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT added.id, s.upstream_id, s.id, $4, $5
      FROM added, headpond.source s WHERE s.id = $1
     ORDER BY added.id
 RETURNING resource_id";

/// `wanted_at` leaves a resource due that is being fetched right now, with the parameters that it had.
pub(super) const DUE: &str = "
    UPDATE headpond.schedule SET due_at = $2, because = CASE because WHEN 1 THEN 1 ELSE $3 END, wanted_at = $2
     WHERE resource_id = ANY($1)";

pub(super) const REVIVE: &str = "UPDATE headpond.resource SET retired_at = NULL WHERE id = ANY($1)";

/// Other parameters make another URL: validators of the old one must not confirm what the new one has.
const CHANGE: &str = "
    UPDATE headpond.resource r SET params = n.params, etag = NULL, last_modified = NULL
      FROM unnest($1::bigint[], $2::text[]) AS n (id, params)
     WHERE r.id = n.id";

pub(super) const ATTACH: &str = "
    INSERT INTO headpond.key_origin (origin_id, resource_id, params)
    SELECT $1, n.id, n.params FROM unnest($2::bigint[], $3::text[]) AS n (id, params)
        ON CONFLICT (origin_id, resource_id) DO UPDATE SET params = excluded.params";

const COUNT: &str = "UPDATE headpond.source SET keys = keys + $2 WHERE id = $1";

const COUNT_IN_ORIGIN: &str = "UPDATE headpond.origin SET keys = keys + $2 WHERE id = $1";

/// Puts keys into an origin whose source is locked, and says whether anything was written.
pub(super) async fn put_into(
    store: &PostgresStore,
    tx: &mut PgConnection,
    target: Target,
    seen: &Seen,
    keys: &[(Key, Params)],
    authority: Authority,
) -> Result<(Put, bool)> {
    let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
    let known = sqlx::query(KNOWN).bind(target.source).bind(names).bind(target.origin).fetch_all(&mut *tx).await?;
    let known = known.iter().map(KnownKey::read).collect::<Result<HashMap<_, _>, StoreError>>()?;
    let changes = Changes::of(keys, known, (target.place, seen), authority);
    let mut put = Put { changed: changes.counts(), resources: changes.known.clone(), duplicates: changes.duplicates };
    if changes.are_none() {
        return Ok((put, false));
    }
    put.resources.extend(write(store, tx, target, &changes).await?);
    Ok((put, true))
}

/// Writes the changes, and returns the ids of what is new.
async fn write(
    store: &PostgresStore,
    tx: &mut PgConnection,
    target: Target,
    changes: &Changes,
) -> Result<Vec<ResourceId>> {
    let source = SourceId(target.source);
    let due = changes.due();
    if !due.is_empty() {
        sqlx::query(LOCK_UPSTREAM).bind(source.0).execute(&mut *tx).await?;
    }
    let mut new: Vec<i64> = Vec::new();
    if !changes.new.is_empty() {
        let (keys, params): (Vec<_>, Vec<_>) = changes.new.iter().map(|(key, params)| (key, params)).unzip();
        let add = sqlx::query_scalar(ADD).bind(source.0).bind(keys).bind(params).bind(micros(store.clock.now()));
        new = add.bind(Because::New.code()).bind(target.origin).fetch_all(&mut *tx).await?;
    }
    make_due(store, tx, &changes.updated, &due).await?;
    if !changes.revived.is_empty() {
        sqlx::query(REVIVE).bind(&changes.revived).execute(&mut *tx).await?;
    }
    if !changes.attached.is_empty() {
        let (ids, params): (Vec<_>, Vec<_>) = changes.attached.iter().map(|(id, params)| (*id, params)).unzip();
        sqlx::query(ATTACH).bind(target.origin).bind(ids).bind(params).execute(&mut *tx).await?;
    }
    let polled = signed(changes.new.len() as u64 + changes.revived.len() as u64);
    count(tx, source, polled).await?;
    count_in_origin(tx, target.origin, signed(changes.joined + changes.new.len() as u64)).await?;
    if polled > 0 || !changes.updated.is_empty() {
        wish(tx).await?;
    }
    Ok(new.into_iter().map(ResourceId).collect())
}

/// Gives resources other parameters, and makes some due at once; their upstream is locked.
async fn make_due(store: &PostgresStore, tx: &mut PgConnection, updated: &[(i64, String)], due: &[i64]) -> Result<()> {
    if !due.is_empty() {
        let now = micros(store.clock.now());
        sqlx::query(DUE).bind(due).bind(now).bind(Because::Manual.code()).execute(&mut *tx).await?;
    }
    if !updated.is_empty() {
        let mut updated: Vec<_> = updated.iter().map(|(id, params)| (*id, params)).collect();
        updated.sort_unstable();
        let (ids, params): (Vec<_>, Vec<_>) = updated.into_iter().unzip();
        sqlx::query(CHANGE).bind(ids).bind(params).execute(tx).await?;
    }
    Ok(())
}

/// Gives resources of a source other parameters, which are due at once then.
pub(super) async fn change(
    store: &PostgresStore,
    tx: &mut PgConnection,
    source: SourceId,
    updated: &[(i64, String)],
) -> Result<()> {
    sqlx::query(LOCK_UPSTREAM).bind(source.0).execute(&mut *tx).await?;
    let mut due: Vec<i64> = updated.iter().map(|(id, _)| *id).collect();
    due.sort_unstable();
    make_due(store, tx, updated, &due).await
}

pub(super) async fn count(tx: &mut PgConnection, source: SourceId, more: i64) -> Result<()> {
    sqlx::query(COUNT).bind(source.0).bind(more).execute(tx).await?;
    Ok(())
}

pub(super) async fn count_in_origin(tx: &mut PgConnection, origin: i64, more: i64) -> Result<()> {
    sqlx::query(COUNT_IN_ORIGIN).bind(origin).bind(more).execute(tx).await?;
    Ok(())
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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

const SOURCE: &str = "SELECT id FROM headpond.source WHERE name = $1";

pub(super) async fn source(store: &PostgresStore, name: &str) -> Result<Option<SourceId>> {
    let id: Option<i64> = sqlx::query_scalar(SOURCE).bind(name).fetch_optional(&store.readers).await?;
    Ok(id.map(SourceId))
}
