//! Deletes what has outlived its retention.

use chrono::{DateTime, Utc};

use super::SqliteStore;
use super::error::failed;
use super::writer::Durability;
use crate::domain::time::earlier;
use crate::store::columns::micros;
use crate::store::{PruneRules, StoreError};

/// How many rows go in one transaction, so that nobody waits long for the write lock.
const CHUNK: i64 = 1000;

/// The feed is cut at its beginning only, at the first entry that is young enough, and the newest stays: a follower that
/// has read it can go on from there.
const CHANGES: &str = "
    DELETE FROM headpond_change WHERE number IN (
        SELECT number FROM headpond_change
        WHERE number < coalesce(
            (SELECT number FROM headpond_change WHERE at > ?1 ORDER BY number LIMIT 1),
            (SELECT max(number) FROM headpond_change))
        ORDER BY number LIMIT ?2)";

const APPLIED: &str = "
    DELETE FROM headpond_applied WHERE number IN (
        SELECT number FROM headpond_applied
        WHERE number < coalesce(
            (SELECT number FROM headpond_applied WHERE at > ?1 ORDER BY number LIMIT 1), 9223372036854775807)
        ORDER BY number LIMIT ?2)";

/// Leases of workers that are gone, of upstreams from which nobody claims any more.
const LEASES: &str = "
    DELETE FROM headpond_lease WHERE token IN (SELECT token FROM headpond_lease WHERE expires_at <= ?1 LIMIT ?2)";

/// Schedule and content go with it. What is still leased waits for its outcome.
const RETIRED: &str = "
    DELETE FROM headpond_resource WHERE id IN (
        SELECT id FROM headpond_resource
        WHERE retired_at <= ?1
            AND id NOT IN (SELECT held.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS held)
        LIMIT ?2)";

impl SqliteStore {
    pub(super) async fn delete_outlived(&self, rules: &PruneRules) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for (statement, kept_for) in
            [(LEASES, rules.applied), (APPLIED, rules.applied), (CHANGES, rules.changes), (RETIRED, rules.retired)]
        {
            deleted += self.delete(statement, earlier(rules.now, kept_for)).await?;
        }
        Ok(deleted)
    }

    async fn delete(&self, statement: &'static str, until: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let mut writer = self.writer().await;
            let mut transaction = writer.begin(Durability::Full).await?;
            let rows = sqlx::query(statement).bind(micros(until)).bind(CHUNK).execute(&mut *transaction).await;
            let rows = rows.map_err(failed)?.rows_affected();
            transaction.commit().await.map_err(failed)?;
            deleted += rows;
            if rows < CHUNK.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }
}
