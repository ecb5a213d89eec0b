//! What a source's regular schedule decided, when the schedule becomes another.

use super::error::Result;
use super::{PostgresStore, bounded, wish};
use crate::domain::resource::{ResourceId, SourceId};
use crate::domain::schedule::{Cadence, FIRST_ASIDE, Slot, aside_until};
use crate::store::StoreError;
use crate::store::columns::{Record, micros};
use crate::store::retry::retrying;

/// How many rows are moved in one transaction, so that no apply waits long for them.
const CHUNK: i64 = 5_000;

const KNOWN: &str = "SELECT cadence, keys FROM headpond.source WHERE id = $1";

/// What the interval (2) decided, what waits after a failure (4, 5), and what nobody polled (from $5 on), but for members of
/// collections (11).
pub(super) const LATER: &str = "
    SELECT resource_id, due_at
      FROM headpond.schedule
     WHERE resource_id > $2 AND source_id = $1 AND due_at > $3
       AND (because IN (2, 4, 5) OR (due_at >= $5 AND because <> 11))
     ORDER BY resource_id LIMIT $4";

/// The conditions once more: it may have been refreshed since it was read.
pub(super) const EARLIER: &str = "
    UPDATE headpond.schedule s SET due_at = n.due_at
      FROM (SELECT s.resource_id, n.due_at
              FROM unnest($1::bigint[], $2::bigint[]) AS n (id, due_at)
              JOIN headpond.schedule s ON s.resource_id = n.id
             WHERE s.due_at > n.due_at AND (s.because IN (2, 4, 5) OR (s.due_at >= $3 AND s.because <> 11))
             ORDER BY s.resource_id FOR NO KEY UPDATE OF s) AS n
     WHERE s.resource_id = n.resource_id";

/// Said last, so that a call that was broken off is repeated as a whole.
const REMEMBER: &str = "UPDATE headpond.source SET cadence = $2 WHERE id = $1";

pub(super) async fn reschedule(
    store: &PostgresStore,
    source: SourceId,
    cadence: &Cadence,
) -> std::result::Result<u64, StoreError> {
    let known = async { Ok(sqlx::query(KNOWN).bind(source.0).fetch_optional(&store.writers).await?) };
    let Some(known) = bounded(known).await? else {
        return Err(StoreError::Rejected(format!("there is no source {}", source.0)));
    };
    let (record, name) = (Record::of(&known, "source", source.0), cadence.to_string());
    let before = record.maybe_text("cadence")?;
    if before.as_ref() == Some(&name) {
        return Ok(0);
    }
    let keys = record.count("keys")?;
    let moved = if before.is_some() && cadence.is_polled() { move_all(store, source, cadence, keys).await? } else { 0 };
    bounded(async { Ok(sqlx::query(REMEMBER).bind(source.0).bind(name).execute(&store.writers).await?) }).await?;
    Ok(moved)
}

async fn move_all(
    store: &PostgresStore,
    source: SourceId,
    cadence: &Cadence,
    keys: u64,
) -> std::result::Result<u64, StoreError> {
    let (mut moved, mut after) = (0, i64::MIN);
    loop {
        let now = store.clock.now();
        let rows =
            sqlx::query(LATER).bind(source.0).bind(after).bind(micros(now)).bind(CHUNK).bind(micros(FIRST_ASIDE));
        let rows = bounded(async { Ok(rows.fetch_all(&store.writers).await?) }).await?;
        let (mut ids, mut times) = (Vec::new(), Vec::new());
        for row in &rows {
            let record = Record::identified_by(row, "schedule", "resource_id")?;
            after = record.id();
            let due_at = record.time("due_at")?;
            let at = cadence.next(now, Slot::of(ResourceId(after), keys, store.seed));
            // What spares the upstream holds on.
            let at = aside_until(due_at).map_or(at, |until| at.max(until));
            if at < due_at {
                ids.push(after);
                times.push(micros(at));
            }
        }
        if !ids.is_empty() {
            moved += retrying(|| bounded(earlier(store, &ids, &times))).await?;
        }
        if rows.len() < usize::try_from(CHUNK).unwrap_or(usize::MAX) {
            return Ok(moved);
        }
    }
}

async fn earlier(store: &PostgresStore, ids: &[i64], times: &[i64]) -> Result<u64> {
    let mut tx = store.begin().await?;
    let moved =
        sqlx::query(EARLIER).bind(ids).bind(times).bind(micros(FIRST_ASIDE)).execute(&mut *tx).await?.rows_affected();
    if moved > 0 {
        wish(&mut tx).await?;
        tx.commit().await?;
    }
    Ok(moved)
}
