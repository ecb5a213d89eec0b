//! Deletes what has outlived its retention.

use std::collections::BTreeMap;

use super::error::failed;
use super::history::OUTLIVED;
use super::refusal::TOO_MANY;
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::resource::SourceId;
use crate::domain::time::earlier;
use crate::store::columns::micros;
use crate::store::{MOST_REFUSED, OriginId, PruneRules, StoreError};

/// How many rows go in one transaction, so that nobody waits long for the write lock.
const CHUNK: i64 = 1000;

/// The feed is cut at its beginning only, at the first entry that is young enough, and the newest stays: a follower that
/// has read it can go on from there.
pub(super) const CHANGES: [&str; 2] = [
    "SELECT coalesce((SELECT min(number) FROM headpond_change), 0), coalesce(
        (SELECT number FROM headpond_change WHERE at > ?1 ORDER BY number LIMIT 1),
        (SELECT max(number) FROM headpond_change), 0)",
    "DELETE FROM headpond_change WHERE number >= ?1 AND number < ?2",
];

pub(super) const APPLIED: [&str; 2] = [
    "SELECT coalesce((SELECT min(number) FROM headpond_applied), 0), coalesce(
        (SELECT number FROM headpond_applied WHERE at > ?1 ORDER BY number LIMIT 1),
        (SELECT max(number) + 1 FROM headpond_applied), 0)",
    "DELETE FROM headpond_applied WHERE number >= ?1 AND number < ?2",
];

/// Leases of workers that are gone, of upstreams from which nobody claims any more.
pub(super) const LEASES: &str = "
    DELETE FROM headpond_lease WHERE token IN (SELECT token FROM headpond_lease WHERE expires_at <= ?1 LIMIT ?2)";

/// Schedule and content go with it. What is still leased waits for its outcome.
pub(super) const RETIRED: &str = "
    DELETE FROM headpond_resource WHERE id IN (
        SELECT id FROM headpond_resource
        WHERE retired_at <= ?1
            AND id NOT IN (SELECT held.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS held)
        LIMIT ?2)";

/// Members of collections that are gone since then, and who has them. Like each walk this looks at all members.
pub(super) const LONG_GONE: &str = "
    SELECT o.source_id, o.id, k.resource_id
    FROM headpond_origin AS o
    CROSS JOIN headpond_key_origin AS k ON k.origin_id = o.id
    CROSS JOIN headpond_resource AS r ON r.id = k.resource_id
    WHERE o.name = 'walk' AND r.gone_since <= ?1 LIMIT ?2";

const STILL_GONE: &str = "
    SELECT id FROM headpond_resource WHERE id IN (SELECT value FROM json_each(?1)) AND gone_since <= ?2";

const RETIRED_SINCE: &str = "
    UPDATE headpond_resource SET retired_at = gone_since
    WHERE id IN (SELECT value FROM json_each(?1)) AND retired_at IS NOT NULL";

impl SqliteStore {
    pub(super) async fn delete_outlived(&self, rules: &PruneRules) -> Result<u64, StoreError> {
        let until = |kept_for| micros(earlier(rules.now, kept_for));
        self.retire_long_gone(until(rules.retired)).await?;
        Ok(self.delete(LEASES, until(rules.applied)).await?
            + self.cut(APPLIED, until(rules.applied)).await?
            + self.cut(CHANGES, until(rules.changes)).await?
            + self.delete(RETIRED, until(rules.retired)).await?
            + self.delete(TOO_MANY, MOST_REFUSED.into()).await?
            + self.delete(OUTLIVED, micros(rules.now)).await?
            + self.trim_history(CHUNK).await?)
    }

    /// Retires members that are gone, as of when they went: nobody lists them any more. They are deleted with all that is retired.
    async fn retire_long_gone(&self, until: i64) -> Result<(), StoreError> {
        loop {
            let found = sqlx::query_as(LONG_GONE).bind(until).bind(CHUNK).fetch_all(&self.readers).await;
            let found: Vec<(i64, i64, i64)> = found.map_err(failed)?;
            let mut by_origin = BTreeMap::<_, Vec<i64>>::new();
            for (source, origin, id) in &found {
                by_origin.entry((SourceId(*source), OriginId(*origin))).or_default().push(*id);
            }
            for ((source, origin), ids) in by_origin {
                let mut writer = self.writer().await;
                let mut transaction = writer.begin(Durability::Full).await?;
                // They may have returned since.
                let gone = sqlx::query_scalar(STILL_GONE).bind(json(&ids)?).bind(until).fetch_all(&mut *transaction);
                let gone: Vec<i64> = gone.await.map_err(failed)?;
                self.detach(&mut transaction, source, origin, &gone).await?;
                sqlx::query(RETIRED_SINCE).bind(json(&gone)?).execute(&mut *transaction).await.map_err(failed)?;
                transaction.commit().await.map_err(failed)?;
            }
            if found.len() < usize::try_from(CHUNK).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }

    /// Cuts off the beginning of a numbered table. Where to is looked for once: the old rows are read on the way there.
    async fn cut(&self, [find, delete]: [&'static str; 2], until: i64) -> Result<u64, StoreError> {
        let found = sqlx::query_as(find).bind(until).fetch_one(&self.readers).await;
        let (mut from, end): (i64, i64) = found.map_err(failed)?;
        let mut deleted = 0;
        while from < end {
            let to = end.min(from.saturating_add(CHUNK));
            let mut writer = self.writer().await;
            let mut transaction = writer.begin(Durability::Full).await?;
            let rows = sqlx::query(delete).bind(from).bind(to).execute(&mut *transaction).await;
            deleted += rows.map_err(failed)?.rows_affected();
            transaction.commit().await.map_err(failed)?;
            from = to;
        }
        Ok(deleted)
    }

    /// Runs a statement, whose first argument this is, as long as it finds rows.
    async fn delete(&self, statement: &'static str, argument: i64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let mut writer = self.writer().await;
            let mut transaction = writer.begin(Durability::Full).await?;
            let rows = sqlx::query(statement).bind(argument).bind(CHUNK).execute(&mut *transaction).await;
            let rows = rows.map_err(failed)?.rows_affected();
            transaction.commit().await.map_err(failed)?;
            deleted += rows;
            if rows < CHUNK.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }
}
