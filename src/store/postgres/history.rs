//! Contents that were replaced and are kept for a while.

use sqlx::{PgConnection, Row};

use super::PostgresStore;
use super::error::Result;
use super::write::{column, fitting};
use crate::domain::resource::{Key, SourceId, SourceName};
use crate::domain::snapshot::encode_headers;
use crate::store::columns::micros;
use crate::store::history::{self, KeptVersion};
use crate::store::plan::Plan;
use crate::store::{SourceSpec, StoreError, StoredContent};

/// Before `resource` is rewritten: its version and whether it is gone are those of the content that is there.
pub(super) const KEEP: &str = "
    INSERT INTO headpond.history
           (resource_id, version, source_id, changed_at, until, gone, size, etag, headers, body)
    SELECT r.id, r.version, r.source_id, c.changed_at, coalesce(r.gone_since, greatest(n.at, c.changed_at)),
           (r.gone_since IS NOT NULL)::integer, octet_length(c.body), c.etag, c.headers, c.body
      FROM unnest($1::bigint[], $2::bigint[]) AS n (id, at)
      JOIN headpond.resource r ON r.id = n.id
      JOIN headpond.source s ON s.id = r.source_id AND s.history_versions IS NOT NULL
      JOIN headpond.content c ON c.resource_id = r.id
        ON CONFLICT (resource_id, version) DO NOTHING";

/// Of resources that an archive has contents of, where their sources keep any.
pub(super) const PAST: &str = "
    INSERT INTO headpond.history
           (resource_id, version, source_id, changed_at, until, gone, size, etag, headers, body)
    SELECT r.id, n.version, r.source_id, n.changed_at, n.until, n.gone, octet_length(n.body), n.etag, n.headers, n.body
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::bytea[], $7::bytea[],
                  $8::bytea[])
           AS n (id, version, changed_at, until, gone, etag, headers, body)
      JOIN headpond.resource r ON r.id = n.id
      JOIN headpond.source s ON s.id = r.source_id AND s.history_versions IS NOT NULL
        ON CONFLICT (resource_id, version) DO NOTHING";

/// All but the newest.
pub(super) const TRIM: &str = "
    DELETE FROM headpond.history WHERE id = ANY(ARRAY(
        SELECT h.id
          FROM (SELECT h.id, h.source_id, row_number() OVER (PARTITION BY h.resource_id ORDER BY h.version DESC) AS place
                  FROM headpond.history h WHERE h.resource_id = ANY($1)) AS h
          JOIN headpond.source s ON s.id = h.source_id
         WHERE h.place > s.history_versions))";

/// Keeps what a plan is about to replace, and what was replaced before.
pub(super) async fn write(tx: &mut PgConnection, plan: &Plan<'_>) -> Result<()> {
    let mut kept = 0;
    // First what is here: a version that an archive has too stays as it is.
    if !plan.replaced.is_empty() {
        let (ids, times) = history::replaced(plan);
        kept += sqlx::query(KEEP).bind(ids).bind(times).execute(&mut *tx).await?.rows_affected();
    }
    let mut rest = &plan.past[..];
    while !rest.is_empty() {
        let (part, more) = rest.split_at(fitting(rest, |(_, past)| past.snapshot.body.len()));
        let written = sqlx::query(PAST)
            .bind(column(part, |(id, _)| id.0))
            .bind(column(part, |(_, past)| i64::try_from(past.version).unwrap_or(i64::MAX)))
            .bind(column(part, |(_, past)| micros(past.changed_at)))
            .bind(column(part, |(_, past)| micros(past.until)))
            .bind(column(part, |(_, past)| i32::from(past.is_gone)))
            .bind(column(part, |(_, past)| past.snapshot.etag.0.as_slice()))
            .bind(column(part, |(_, past)| encode_headers(&past.snapshot.headers)))
            .bind(column(part, |(_, past)| past.snapshot.body.as_ref()));
        kept += written.execute(&mut *tx).await?.rows_affected();
        rest = more;
    }
    if kept > 0 {
        sqlx::query(TRIM).bind(history::touched(plan)).execute(tx).await?;
    }
    Ok(())
}

pub(super) const VERSIONS: &str = "
    SELECT h.id, h.version, h.changed_at, h.until, h.gone, h.size, h.etag, h.headers
      FROM headpond.source s
      JOIN headpond.resource r ON r.source_id = s.id
      JOIN headpond.history h ON h.resource_id = r.id
     WHERE s.name = $1 AND r.key = $2 ORDER BY h.version DESC";

pub(super) async fn versions(store: &PostgresStore, source: &SourceName, key: &Key) -> Result<Vec<KeptVersion>> {
    let rows = sqlx::query(VERSIONS).bind(source.as_str()).bind(key.as_str()).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(KeptVersion::of).collect::<std::result::Result<_, StoreError>>()?)
}

pub(super) const VERSION: &str = "
    SELECT h.id, h.changed_at, h.etag, h.headers, h.body
      FROM headpond.source s
      JOIN headpond.resource r ON r.source_id = s.id
      JOIN headpond.history h ON h.resource_id = r.id
     WHERE s.name = $1 AND r.key = $2 AND h.version = $3";

pub(super) async fn version(
    store: &PostgresStore,
    source: &SourceName,
    key: &Key,
    version: u64,
) -> Result<Option<StoredContent>> {
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    let row = sqlx::query(VERSION).bind(source.as_str()).bind(key.as_str()).bind(version);
    let row = row.fetch_optional(&store.readers).await?;
    Ok(row.map(|row| history::body(&row)).transpose()?)
}

const RULE: &str = "
    UPDATE headpond.source SET history_versions = $2, history_keep = $3, erase_gone = $4
     WHERE id = $1 AND (history_versions, history_keep, erase_gone) IS DISTINCT FROM ($2, $3, $4)";

/// Says what a source keeps from now on.
pub(super) async fn rule(tx: &mut PgConnection, SourceId(source): SourceId, spec: &SourceSpec) -> Result<()> {
    let (versions, keep) = history::stored(spec.history);
    let rule = sqlx::query(RULE).bind(source).bind(versions).bind(keep).bind(i16::from(spec.erase_gone));
    rule.execute(tx).await?;
    Ok(())
}

/// Of sources that keep none ($1 is now, then), and of those that keep them for a while.
pub(super) const OUTLIVED: &str = "
    DELETE FROM headpond.history WHERE id = ANY(ARRAY(
        SELECT h.id
          FROM headpond.source s, LATERAL (
                   SELECT h.id FROM headpond.history h
                    WHERE h.source_id = s.id AND h.until <= $1 - coalesce(s.history_keep, 0) LIMIT $2) AS h
         LIMIT $2))";

/// Sources that keep another number than before: what is too many of theirs is to be looked for.
const UNTRIMMED: &str = "
    SELECT id, history_versions FROM headpond.source
     WHERE history_versions IS NOT NULL AND history_trimmed IS DISTINCT FROM history_versions";

/// Of the source $1, what has $2 newer ones beside it.
pub(super) const TOO_MANY: &str = "
    DELETE FROM headpond.history WHERE id = ANY(ARRAY(
        SELECT h.id FROM headpond.history h
         WHERE h.source_id = $1
           AND (SELECT count(*) FROM headpond.history n
                 WHERE n.resource_id = h.resource_id AND n.version > h.version) >= $2
         LIMIT $3))";

const TRIMMED: &str = "UPDATE headpond.source SET history_trimmed = $2 WHERE id = $1";

/// Deletes what is too many since sources keep less, in parts of so many; returns how many.
pub(super) async fn trim(store: &PostgresStore, chunk: i64) -> Result<u64> {
    let mut deleted = 0;
    for source in sqlx::query(UNTRIMMED).fetch_all(&store.readers).await? {
        let (id, versions): (i64, i64) = (source.try_get("id")?, source.try_get("history_versions")?);
        loop {
            let done = sqlx::query(TOO_MANY).bind(id).bind(versions).bind(chunk).execute(&store.writers).await?;
            deleted += done.rows_affected();
            if done.rows_affected() < chunk.unsigned_abs() {
                break;
            }
        }
        sqlx::query(TRIMMED).bind(id).bind(versions).execute(&store.writers).await?;
    }
    Ok(deleted)
}
