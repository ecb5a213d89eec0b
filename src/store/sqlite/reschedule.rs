//! What a source's regular schedule decided, when the schedule becomes another.

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, json, wish};
use crate::domain::resource::{ResourceId, SourceId};
use crate::domain::schedule::{Cadence, FIRST_ASIDE, Slot, aside_until};
use crate::store::StoreError;
use crate::store::columns::{Record, micros};

/// How many rows are moved in one transaction, so that nobody waits long for the write lock.
const CHUNK: i64 = 5000;

const KNOWN: &str = "SELECT cadence, keys FROM headpond_source WHERE id = ?1";

/// What the interval (2) decided, what waits after a failure (4, 5), and what nobody polled (from ?5 on), but for members of
/// collections (11).
pub(super) const LATER: &str = "
    SELECT resource_id, due_at FROM headpond_schedule
    WHERE resource_id > ?2 AND source_id = ?1 AND due_at > ?3 AND (because IN (2, 4, 5) OR (due_at >= ?5 AND because <> 11))
    ORDER BY resource_id LIMIT ?4";

/// The conditions once more: it may have been refreshed since it was read.
pub(super) const EARLIER: &str = "
    UPDATE headpond_schedule AS s SET due_at = j.value ->> 1
    FROM jsonb_each(?1) AS j
    WHERE s.resource_id = j.value ->> 0 AND s.due_at > j.value ->> 1 AND (s.because IN (2, 4, 5) OR (s.due_at >= ?2 AND s.because <> 11))";

/// Said last, so that a call that was broken off is repeated as a whole.
const REMEMBER: &str = "UPDATE headpond_source SET cadence = ?2 WHERE id = ?1";

impl SqliteStore {
    pub(super) async fn reschedule_source(&self, source: SourceId, cadence: &Cadence) -> Result<u64, StoreError> {
        let known = sqlx::query(KNOWN).bind(source.0).fetch_optional(&self.readers).await.map_err(failed)?;
        let known = known.ok_or_else(|| StoreError::Rejected(format!("there is no source {}", source.0)))?;
        let (record, name) = (Record::of(&known, "source", source.0), cadence.to_string());
        let before = record.maybe_text("cadence")?;
        if before.as_ref() == Some(&name) {
            return Ok(0);
        }
        let keys = record.count("keys")?;
        let moved =
            if before.is_some() && cadence.is_polled() { self.move_all(source, cadence, keys).await? } else { 0 };
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let remember = sqlx::query(REMEMBER).bind(source.0).bind(name);
        remember.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(moved)
    }

    async fn move_all(&self, source: SourceId, cadence: &Cadence, keys: u64) -> Result<u64, StoreError> {
        let (mut moved, mut after) = (0, i64::MIN);
        loop {
            let now = self.clock.now();
            let rows =
                sqlx::query(LATER).bind(source.0).bind(after).bind(micros(now)).bind(CHUNK).bind(micros(FIRST_ASIDE));
            let rows = rows.fetch_all(&self.readers).await.map_err(failed)?;
            let mut earlier = Vec::new();
            for row in &rows {
                let record = Record::identified_by(row, "schedule", "resource_id")?;
                after = record.id();
                let due_at = record.time("due_at")?;
                let at = cadence.next(now, Slot::of(ResourceId(after), keys, self.seed));
                // What spares the upstream holds on.
                let at = aside_until(due_at).map_or(at, |until| at.max(until));
                if at < due_at {
                    earlier.push((after, micros(at)));
                }
            }
            moved += self.make_due_earlier(&earlier).await?;
            if rows.len() < usize::try_from(CHUNK).unwrap_or(usize::MAX) {
                return Ok(moved);
            }
        }
    }

    async fn make_due_earlier(&self, rows: &[(i64, i64)]) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let earlier = sqlx::query(EARLIER).bind(json(rows)?).bind(micros(FIRST_ASIDE)).execute(&mut *transaction);
        let moved = earlier.await.map_err(failed)?.rows_affected();
        wish(&mut transaction).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(moved)
    }
}
