//! Readiness and retention.

use std::collections::BTreeMap;

use super::error::Result;
use super::refusal::TOO_MANY;
use super::{PostgresStore, bounded, history, keys, origins};
use crate::domain::resource::SourceId;
use crate::domain::time::earlier;
use crate::store::columns::micros;
use crate::store::{MOST_REFUSED, PruneRules};

/// Whether some source that has not been seen ready has a polled key that was never tried (1) or an origin that was
/// never read, and whether some has keys. Of a collection's members (walk) no more is asked than that the walk was tried.
const UNREADY: &str = "
    SELECT coalesce(bool_or(EXISTS (
               SELECT FROM headpond.schedule t WHERE t.source_id = s.id AND t.because = 1 AND t.due_at IS NOT NULL)
               OR EXISTS (SELECT FROM headpond.origin o WHERE o.source_id = s.id AND o.synced_at IS NULL AND o.name <> 'walk')), false),
           coalesce(bool_or(s.keys > 0), false)
      FROM headpond.source s WHERE NOT s.ready";

/// The condition once more: keys may have been added since it was read.
const LATCH: &str = "
    UPDATE headpond.source s SET ready = true
     WHERE NOT s.ready AND s.keys > 0 AND NOT EXISTS (
               SELECT FROM headpond.schedule t WHERE t.source_id = s.id AND t.because = 1 AND t.due_at IS NOT NULL)
       AND NOT EXISTS (SELECT FROM headpond.origin o WHERE o.source_id = s.id AND o.synced_at IS NULL AND o.name <> 'walk')";

/// A source without keys holds nobody up, but isn't latched before it has had some.
pub(super) async fn is_ready(store: &PostgresStore) -> Result<bool> {
    let (has_untried, has_keys): (bool, bool) = sqlx::query_as(UNREADY).fetch_one(&store.readers).await?;
    if !has_untried && has_keys {
        sqlx::query(LATCH).execute(&store.writers).await?;
    }
    Ok(!has_untried)
}

/// How many rows one transaction deletes, so that nobody waits long for it.
const CHUNK: i64 = 1_000;

/// Leases of workers that are gone, of upstreams from which nobody claims any more.
pub(super) const LEASES: &str = "
    DELETE FROM headpond.lease WHERE token IN (
        SELECT token FROM headpond.lease WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// Schedule and content go with it. What is still leased waits for its outcome. The schedule's rows are locked first, as
/// everywhere; whoever had them before may have revived the resource, so its row is asked again.
pub(super) const RETIRED: &str = "
      WITH outlived AS MATERIALIZED (
               SELECT resource_id FROM headpond.schedule
                WHERE resource_id = ANY(ARRAY(
                          SELECT id FROM headpond.resource
                           WHERE retired_at <= $1 AND id NOT IN (SELECT unnest(resources) FROM headpond.lease)
                           ORDER BY retired_at LIMIT $2))
                ORDER BY resource_id FOR UPDATE)
    DELETE FROM headpond.resource
     WHERE id IN (SELECT resource_id FROM outlived) AND retired_at <= $1";

/// Members of collections that are gone since then, and who has them. Like each walk this looks at all members.
pub(super) const LONG_GONE: &str = "
    SELECT o.source_id, o.id, k.resource_id
      FROM headpond.origin o
      JOIN headpond.key_origin k ON k.origin_id = o.id
      JOIN headpond.resource r ON r.id = k.resource_id
     WHERE o.name = 'walk' AND r.gone_since <= $1 LIMIT $2";

/// Their schedule rows are locked first, as everywhere: whoever had them before may have brought some of them back.
const STILL_GONE: &str = "
      WITH locked AS MATERIALIZED (
               SELECT resource_id FROM headpond.schedule
                WHERE resource_id = ANY($1) ORDER BY resource_id FOR NO KEY UPDATE)
    SELECT id FROM headpond.resource WHERE id IN (SELECT resource_id FROM locked) AND gone_since <= $2
     ORDER BY id FOR NO KEY UPDATE";

const RETIRED_SINCE: &str = "
    UPDATE headpond.resource SET retired_at = gone_since WHERE id = ANY($1) AND retired_at IS NOT NULL";

/// The feed is cut at its beginning only, at the first entry that is young enough, and the newest stays: a reader that has
/// seen it goes on from there, however long nothing happens.
pub(super) const CHANGES: [&str; 2] = [
    "SELECT coalesce((SELECT min(number) FROM headpond.change), 0),
            coalesce((SELECT number FROM headpond.change WHERE at > $1 ORDER BY number LIMIT 1),
                     (SELECT max(number) FROM headpond.change), 0)",
    "DELETE FROM headpond.change WHERE number >= $1 AND number < $2",
];

pub(super) const APPLIED: [&str; 2] = [
    "SELECT coalesce((SELECT min(number) FROM headpond.applied), 0),
            coalesce((SELECT number FROM headpond.applied WHERE at > $1 ORDER BY number LIMIT 1),
                     (SELECT max(number) + 1 FROM headpond.applied), 0)",
    "DELETE FROM headpond.applied WHERE number >= $1 AND number < $2",
];

pub(super) async fn prune(store: &PostgresStore, rules: &PruneRules) -> Result<u64> {
    let until = |kept| micros(earlier(rules.now, kept));
    retire_long_gone(store, until(rules.retired)).await?;
    Ok(delete(store, LEASES, until(rules.applied)).await?
        + cut(store, APPLIED, until(rules.applied)).await?
        + cut(store, CHANGES, until(rules.changes)).await?
        + delete(store, RETIRED, until(rules.retired)).await?
        + delete(store, TOO_MANY, MOST_REFUSED.into()).await?
        + delete(store, history::OUTLIVED, micros(rules.now)).await?
        + history::trim(store, CHUNK).await?)
}

/// Retires members that are gone, as of when they went: nobody lists them any more. They are deleted with all that is retired.
async fn retire_long_gone(store: &PostgresStore, until: i64) -> Result<()> {
    loop {
        let found = sqlx::query_as(LONG_GONE).bind(until).bind(CHUNK).fetch_all(&store.readers);
        let found: Vec<(i64, i64, i64)> = bounded(async { Ok(found.await?) }).await?;
        let mut by_origin = BTreeMap::<_, Vec<i64>>::new();
        for (source, origin, id) in &found {
            by_origin.entry((SourceId(*source), *origin)).or_default().push(*id);
        }
        for ((source, origin), ids) in by_origin {
            let retired = async {
                let mut tx = store.begin().await?;
                keys::lock_source(&mut tx, source).await?;
                let gone: Vec<i64> = sqlx::query_scalar(STILL_GONE).bind(ids).bind(until).fetch_all(&mut *tx).await?;
                origins::detach(store, &mut tx, source, origin, &gone).await?;
                sqlx::query(RETIRED_SINCE).bind(gone).execute(&mut *tx).await?;
                Ok(tx.commit().await?)
            };
            bounded(retired).await?;
        }
        if found.len() < usize::try_from(CHUNK).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
}

/// Runs a statement, whose first argument this is, as long as it finds rows.
async fn delete(store: &PostgresStore, sql: &'static str, argument: i64) -> Result<u64> {
    let mut deleted = 0;
    loop {
        let done = sqlx::query(sql).bind(argument).bind(CHUNK).execute(&store.writers);
        let done = bounded(async { Ok(done.await?.rows_affected()) }).await?;
        deleted += done;
        if done < CHUNK.unsigned_abs() {
            return Ok(deleted);
        }
    }
}

/// Cuts off the beginning of a numbered table. Where to is looked for once: the old rows are read on the way there.
async fn cut(store: &PostgresStore, [find, delete]: [&'static str; 2], until: i64) -> Result<u64> {
    let found = sqlx::query_as(find).bind(until).fetch_one(&store.readers);
    let (mut from, end): (i64, i64) = bounded(async { Ok(found.await?) }).await?;
    let mut deleted = 0;
    while from < end {
        let to = end.min(from.saturating_add(CHUNK));
        let done = sqlx::query(delete).bind(from).bind(to).execute(&store.writers);
        deleted += bounded(async { Ok(done.await?.rows_affected()) }).await?;
        from = to;
    }
    Ok(deleted)
}
