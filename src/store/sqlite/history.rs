//! Contents that were replaced and are kept for a while.

use sqlx::sqlite::SqliteConnection;

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::resource::{Key, SourceName};
use crate::domain::snapshot::encode_headers;
use crate::store::columns::micros;
use crate::store::history::{self, KeptVersion};
use crate::store::plan::Plan;
use crate::store::{SourceSpec, StoreError, StoredContent};

/// Before `resource` and `content` are rewritten: its version and whether it is gone are those of the content that is there.
pub(super) const KEEP: &str = "
    INSERT INTO headpond_history (resource_id, version, source_id, changed_at, until, gone, size, etag, headers, body)
    SELECT r.id, r.version, r.source_id, b.changed_at, coalesce(r.gone_since, max(j.value ->> 1, b.changed_at)),
        r.gone_since IS NOT NULL, length(b.body), b.etag, b.headers, b.body
    FROM jsonb_each(?1) AS j
    CROSS JOIN headpond_resource AS r ON r.id = j.value ->> 0
    CROSS JOIN headpond_source AS source ON source.id = r.source_id AND source.history_versions IS NOT NULL
    CROSS JOIN headpond_content AS b ON b.resource_id = r.id
    WHERE true ON CONFLICT (resource_id, version) DO NOTHING";

/// Of a resource that an archive has contents of, where its source keeps any.
pub(super) const PAST: &str = "
    INSERT INTO headpond_history (resource_id, version, source_id, changed_at, until, gone, size, etag, headers, body)
    SELECT r.id, ?2, r.source_id, ?3, ?4, ?5, length(?8), ?6, ?7, ?8
    FROM headpond_resource AS r
    CROSS JOIN headpond_source AS source ON source.id = r.source_id AND source.history_versions IS NOT NULL
    WHERE r.id = ?1 ON CONFLICT (resource_id, version) DO NOTHING";

/// All but the newest.
pub(super) const TRIM: &str = "
    DELETE FROM headpond_history WHERE id IN (
        SELECT kept.id
        FROM (
            SELECT h.id, h.source_id, row_number() OVER (PARTITION BY h.resource_id ORDER BY h.version DESC) AS place
            FROM json_each(?1) AS j CROSS JOIN headpond_history AS h ON h.resource_id = j.value) AS kept
        CROSS JOIN headpond_source AS source ON source.id = kept.source_id
        WHERE kept.place > source.history_versions)";

/// Keeps what a plan is about to replace, and what was replaced before.
pub(super) async fn write(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), StoreError> {
    let mut kept = 0;
    // First what is here: a version that an archive has too stays as it is.
    if !plan.replaced.is_empty() {
        let (ids, times) = history::replaced(plan);
        let rows: Vec<_> = ids.iter().zip(times).collect();
        let replaced = sqlx::query(KEEP).bind(json(&rows)?).execute(&mut *connection).await.map_err(failed)?;
        kept += replaced.rows_affected();
    }
    for (id, past) in &plan.past {
        let one = sqlx::query(PAST).bind(id.0).bind(i64::try_from(past.version).unwrap_or(i64::MAX));
        let one = one.bind(micros(past.changed_at)).bind(micros(past.until)).bind(past.is_gone);
        let one = one.bind(past.snapshot.etag.0.as_slice()).bind(encode_headers(&past.snapshot.headers));
        let one = one.bind(past.snapshot.body.as_ref()).execute(&mut *connection).await.map_err(failed)?;
        kept += one.rows_affected();
    }
    if kept > 0 {
        sqlx::query(TRIM).bind(json(&history::touched(plan))?).execute(connection).await.map_err(failed)?;
    }
    Ok(())
}

pub(super) const VERSIONS: &str = "
    SELECT h.id, h.version, h.changed_at, h.until, h.gone, h.size, h.etag, h.headers
    FROM headpond_source AS source
    JOIN headpond_resource AS r ON r.source_id = source.id AND r.key = ?2
    JOIN headpond_history AS h ON h.resource_id = r.id
    WHERE source.name = ?1 ORDER BY h.version DESC";

pub(super) const VERSION: &str = "
    SELECT h.id, h.changed_at, h.etag, h.headers, h.body
    FROM headpond_source AS source
    JOIN headpond_resource AS r ON r.source_id = source.id AND r.key = ?2
    JOIN headpond_history AS h ON h.resource_id = r.id
    WHERE source.name = ?1 AND h.version = ?3";

const RULE: &str = "
    UPDATE headpond_source SET history_versions = ?2, history_keep = ?3, erase_gone = ?4
    WHERE id = ?1 AND (history_versions IS NOT ?2 OR history_keep IS NOT ?3 OR erase_gone <> ?4)";

/// Says what a source keeps from now on.
pub(super) async fn rule(connection: &mut SqliteConnection, source: i64, spec: &SourceSpec) -> Result<(), StoreError> {
    let (versions, keep) = history::stored(spec.history);
    let rule = sqlx::query(RULE).bind(source).bind(versions).bind(keep).bind(spec.erase_gone);
    rule.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// Of sources that keep none (?1 is now, then), and of those that keep them for a while.
pub(super) const OUTLIVED: &str = "
    DELETE FROM headpond_history WHERE id IN (
        SELECT h.id FROM headpond_source AS source
        CROSS JOIN headpond_history AS h ON h.source_id = source.id AND h.until <= ?1 - coalesce(source.history_keep, 0)
        LIMIT ?2)";

/// Sources that keep another number than before: what is too many of theirs is to be looked for.
const UNTRIMMED: &str = "
    SELECT id, history_versions FROM headpond_source
    WHERE history_versions IS NOT NULL AND history_trimmed IS NOT history_versions";

/// Of the source ?1, what has ?2 newer ones beside it.
pub(super) const TOO_MANY: &str = "
    DELETE FROM headpond_history WHERE id IN (
        SELECT h.id FROM headpond_history AS h
        WHERE h.source_id = ?1 AND (
            SELECT count(*) FROM headpond_history AS n WHERE n.resource_id = h.resource_id AND n.version > h.version) >= ?2
        LIMIT ?3)";

const TRIMMED: &str = "UPDATE headpond_source SET history_trimmed = ?2 WHERE id = ?1";

impl SqliteStore {
    pub(super) async fn read_versions(&self, source: &SourceName, key: &Key) -> Result<Vec<KeptVersion>, StoreError> {
        let rows = sqlx::query(VERSIONS).bind(source.as_str()).bind(key.as_str()).fetch_all(&self.readers).await;
        rows.map_err(failed)?.iter().map(KeptVersion::of).collect()
    }

    pub(super) async fn read_version(
        &self,
        source: &SourceName,
        key: &Key,
        version: u64,
    ) -> Result<Option<StoredContent>, StoreError> {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let row = sqlx::query(VERSION).bind(source.as_str()).bind(key.as_str()).bind(version);
        let row = row.fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| history::body(&row)).transpose()
    }

    /// Deletes what is too many since sources keep less, in parts of so many; returns how many.
    pub(super) async fn trim_history(&self, chunk: i64) -> Result<u64, StoreError> {
        let untrimmed: Vec<(i64, i64)> = sqlx::query_as(UNTRIMMED).fetch_all(&self.readers).await.map_err(failed)?;
        let mut deleted = 0;
        for (id, versions) in untrimmed {
            let mut is_all = false;
            while !is_all {
                let mut writer = self.writer().await;
                let mut transaction = writer.begin(Durability::Full).await?;
                let part = sqlx::query(TOO_MANY).bind(id).bind(versions).bind(chunk).execute(&mut *transaction).await;
                let part = part.map_err(failed)?.rows_affected();
                is_all = part < chunk.unsigned_abs();
                if is_all {
                    let trimmed = sqlx::query(TRIMMED).bind(id).bind(versions).execute(&mut *transaction).await;
                    trimmed.map_err(failed)?;
                }
                transaction.commit().await.map_err(failed)?;
                deleted += part;
            }
        }
        Ok(deleted)
    }
}
