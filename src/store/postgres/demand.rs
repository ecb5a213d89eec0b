//! Keys that exist because someone reads them.

use super::error::Result;
use super::keys::{self, CHUNK, lock_source};
use super::origins::detach;
use super::{PostgresStore, bounded};
use crate::domain::origin::DEMAND;
use crate::domain::resource::{Key, Params, ResourceId, SourceId};
use crate::domain::schedule::Because;
use crate::store::columns::micros;
use crate::store::origins::{MOST_EVICTED, Seen, excess};
use crate::store::retry::retrying;
use crate::store::{AT_ONCE, Authority, StoreError};

/// That commit does not wait for the disk: if the server's end takes it back, so it does the reader.
const RELAXED: &str = "SELECT set_config('synchronous_commit', 'off', true)";

/// Before all others, and not as never fetched: that would count against readiness.
pub(super) const FIRST_IN_LINE: &str = "
    UPDATE headpond.schedule SET due_at = $2, because = $3, wanted_at = $4, hastened_at = $4 WHERE resource_id = $1";

pub(super) const READ_NOW: &str = "
    UPDATE headpond.key_origin SET read_at = $3 WHERE origin_id = $1 AND resource_id = $2";

/// Those of readers alone have a time there. Rows are locked in one order, since other processes write theirs.
pub(super) const READ: &str = "
    UPDATE headpond.key_origin k SET read_at = $2
      FROM (SELECT origin_id, resource_id FROM headpond.key_origin
             WHERE resource_id = ANY($1) AND read_at < $2
             ORDER BY resource_id FOR NO KEY UPDATE) AS r
     WHERE k.origin_id = r.origin_id AND k.resource_id = r.resource_id";

const COUNTED: &str = "SELECT keys FROM headpond.origin WHERE id = $1";

const ORIGIN: &str = "SELECT id FROM headpond.origin WHERE source_id = $1 AND name = $2";

/// What was not read for the longest time, if not since $2.
pub(super) const UNREAD: &str = "
    SELECT resource_id FROM headpond.key_origin
     WHERE origin_id = $1 AND read_at < $2 ORDER BY read_at LIMIT $3";

/// What was evicted has no retention: the next prune deletes it.
pub(super) const EVICTED: &str = "
    UPDATE headpond.resource SET retired_at = 0 WHERE id = ANY($1) AND retired_at IS NOT NULL";

pub(super) async fn demand(
    store: &PostgresStore,
    source: SourceId,
    key: &Key,
    most: u32,
) -> std::result::Result<bool, StoreError> {
    let Some(origin) = retrying(|| bounded(add(store, source, key))).await? else { return Ok(false) };
    retrying(|| bounded(evict(store, source, origin, most))).await?;
    Ok(true)
}

/// Adds the key, unless it is polled; returns the origin that it is in then.
async fn add(store: &PostgresStore, source: SourceId, key: &Key) -> Result<Option<i64>> {
    let mut tx = store.begin().await?;
    sqlx::query(RELAXED).execute(&mut *tx).await?;
    let target = keys::named_origin(store, &mut tx, source, DEMAND).await?;
    let now = micros(store.clock.now());
    let keys = [(key.clone(), Params::new())];
    let nothing = Seen::default();
    let (put, has_written) = keys::put_into(store, &mut tx, target, &nothing, &keys, Authority::Adds).await?;
    let Some(ResourceId(resource)) = put.resources.first().copied().filter(|_| has_written) else { return Ok(None) };
    let first = sqlx::query(FIRST_IN_LINE).bind(resource).bind(AT_ONCE).bind(Because::Manual.code()).bind(now);
    first.execute(&mut *tx).await?;
    sqlx::query(READ_NOW).bind(target.origin).bind(resource).bind(now).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(Some(target.origin))
}

/// Takes out what is too much: in a transaction of its own, so that rows are locked in their order.
async fn evict(store: &PostgresStore, source: SourceId, origin: i64, most: u32) -> Result<()> {
    let keys = sqlx::query_scalar(COUNTED).bind(origin).fetch_optional(&store.writers).await?;
    if excess(keys.unwrap_or_default(), most) == 0 {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    // Another process may have done so meanwhile.
    let keys = sqlx::query_scalar(COUNTED).bind(origin).fetch_optional(&mut *tx).await?;
    let excess = excess(keys.unwrap_or_default(), most).min(MOST_EVICTED);
    let longest = sqlx::query_scalar(UNREAD).bind(origin).bind(i64::MAX).bind(excess);
    let longest: Vec<i64> = longest.fetch_all(&mut *tx).await?;
    detach(store, &mut tx, source, origin, &longest).await?;
    sqlx::query(EVICTED).bind(&longest).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

pub(super) async fn note_reads(
    store: &PostgresStore,
    resources: &[ResourceId],
    at: i64,
) -> std::result::Result<(), StoreError> {
    for chunk in resources.chunks(CHUNK) {
        let ids: Vec<i64> = chunk.iter().map(|id| id.0).collect();
        retrying(|| bounded(async { Ok(sqlx::query(READ).bind(&ids).bind(at).execute(&store.writers).await?) }))
            .await?;
    }
    Ok(())
}

pub(super) async fn retire_unread(
    store: &PostgresStore,
    source: SourceId,
    since: i64,
) -> std::result::Result<u64, StoreError> {
    let origin = sqlx::query_scalar(ORIGIN).bind(source.0).bind(DEMAND.0).fetch_optional(&store.readers);
    let origin: Option<i64> = bounded(async { Ok(origin.await?) }).await?;
    let Some(origin) = origin else { return Ok(0) };
    let mut retired = 0;
    loop {
        let Some(some) = retrying(|| bounded(retire_some(store, source, origin, since))).await? else {
            return Ok(retired);
        };
        retired += some;
    }
}

/// How many are retired now; `None` when there were none left.
async fn retire_some(store: &PostgresStore, source: SourceId, origin: i64, since: i64) -> Result<Option<u64>> {
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let at_most = i64::try_from(CHUNK).unwrap_or(i64::MAX);
    let unread = sqlx::query_scalar(UNREAD).bind(origin).bind(since).bind(at_most);
    let unread: Vec<i64> = unread.fetch_all(&mut *tx).await?;
    if unread.is_empty() {
        return Ok(None);
    }
    let retired = detach(store, &mut tx, source, origin, &unread).await?;
    tx.commit().await?;
    Ok(Some(retired))
}
