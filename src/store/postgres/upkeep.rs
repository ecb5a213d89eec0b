//! Readiness and retention.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::PostgresStore;
use super::error::Result;
use crate::store::PruneRules;
use crate::store::columns::micros;

const UNREADY: &str = "SELECT EXISTS (SELECT FROM headpond.source WHERE NOT ready)";

/// A key has been tried when it is due for another reason than that it is new.
const LATCH: &str = "
    UPDATE headpond.source s SET ready = true
     WHERE NOT ready AND NOT EXISTS (
               SELECT FROM headpond.schedule t WHERE t.source_id = s.id AND t.because = 1 AND t.due_at IS NOT NULL)";

pub(super) async fn is_ready(store: &PostgresStore) -> Result<bool> {
    let is_unready: bool = sqlx::query_scalar(UNREADY).fetch_one(&store.readers).await?;
    if !is_unready {
        return Ok(true);
    }
    if sqlx::query(LATCH).execute(&store.writers).await?.rows_affected() == 0 {
        return Ok(false);
    }
    Ok(!sqlx::query_scalar::<_, bool>(UNREADY).fetch_one(&store.writers).await?)
}

/// How many rows one transaction deletes, so that nobody waits long for it.
const CHUNK: i64 = 1_000;

const RESOURCES: &str = "
    DELETE FROM headpond.resource WHERE id IN (
        SELECT id FROM headpond.resource WHERE retired_at <= $1 ORDER BY retired_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// The newest entry stays for ever: a reader that has seen it goes on from it, however long nothing happens.
const CHANGES: &str = "
    DELETE FROM headpond.change WHERE number IN (
        SELECT number FROM headpond.change
         WHERE at <= $1 AND number < (SELECT max(number) FROM headpond.change)
         ORDER BY number LIMIT $2)";

const APPLIED: &str = "
    DELETE FROM headpond.applied WHERE number IN (
        SELECT number FROM headpond.applied WHERE at <= $1 ORDER BY number LIMIT $2)";

pub(super) async fn prune(store: &PostgresStore, rules: &PruneRules) -> Result<u64> {
    let mut deleted = 0;
    for (sql, kept) in [(RESOURCES, rules.retired), (CHANGES, rules.changes), (APPLIED, rules.applied)] {
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

fn earlier(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by).ok().and_then(|by| at.checked_sub_signed(by)).unwrap_or(DateTime::UNIX_EPOCH)
}
