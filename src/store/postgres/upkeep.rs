//! Readiness and retention.

use super::PostgresStore;
use super::error::Result;
use crate::domain::time::earlier;
use crate::store::PruneRules;
use crate::store::columns::micros;

/// Whether some source that has not been seen ready has a polled key that was never tried (1), and whether some has keys.
const UNREADY: &str = "
    SELECT coalesce(bool_or(EXISTS (
               SELECT FROM headpond.schedule t WHERE t.source_id = s.id AND t.because = 1 AND t.due_at IS NOT NULL)), false),
           coalesce(bool_or(s.keys > 0), false)
      FROM headpond.source s WHERE NOT s.ready";

/// The condition once more: keys may have been added since it was read.
const LATCH: &str = "
    UPDATE headpond.source s SET ready = true
     WHERE NOT s.ready AND s.keys > 0 AND NOT EXISTS (
               SELECT FROM headpond.schedule t WHERE t.source_id = s.id AND t.because = 1 AND t.due_at IS NOT NULL)";

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
const LEASES: &str = "
    DELETE FROM headpond.lease WHERE token IN (
        SELECT token FROM headpond.lease WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// Schedule and content go with it. What is still leased waits for its outcome.
const RETIRED: &str = "
    DELETE FROM headpond.resource WHERE id IN (
        SELECT id FROM headpond.resource
         WHERE retired_at <= $1 AND id NOT IN (SELECT unnest(resources) FROM headpond.lease)
         ORDER BY retired_at LIMIT $2)";

/// The feed is cut at its beginning only, at the first entry that is young enough, and the newest stays: a reader that has
/// seen it goes on from there, however long nothing happens.
const CHANGES: &str = "
    DELETE FROM headpond.change WHERE number IN (
        SELECT number FROM headpond.change
         WHERE number < coalesce((SELECT number FROM headpond.change WHERE at > $1 ORDER BY number LIMIT 1),
                                 (SELECT max(number) FROM headpond.change))
         ORDER BY number LIMIT $2)";

const APPLIED: &str = "
    DELETE FROM headpond.applied WHERE number IN (
        SELECT number FROM headpond.applied
         WHERE number < coalesce((SELECT number FROM headpond.applied WHERE at > $1 ORDER BY number LIMIT 1),
                                 9223372036854775807)
         ORDER BY number LIMIT $2)";

pub(super) async fn prune(store: &PostgresStore, rules: &PruneRules) -> Result<u64> {
    let mut deleted = 0;
    for (sql, kept) in
        [(LEASES, rules.applied), (APPLIED, rules.applied), (CHANGES, rules.changes), (RETIRED, rules.retired)]
    {
        let until = micros(earlier(rules.now, kept));
        loop {
            let done = sqlx::query(sql).bind(until).bind(CHUNK).execute(&store.writers).await?.rows_affected();
            deleted += done;
            if done < CHUNK.unsigned_abs() {
                break;
            }
        }
    }
    Ok(deleted)
}
