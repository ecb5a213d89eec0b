//! Bodies that were refused.

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::failed;
use crate::domain::refused::Refused;
use crate::domain::resource::{Key, ResourceId, SourceId, SourceName};
use crate::store::columns::Record;
use crate::store::{Refusal, StoreError};

pub(super) const REFUSED: &str = "
    SELECT f.resource_id, f.at, f.status, f.content_type, f.size, f.body
    FROM headpond_source AS source
    JOIN headpond_resource AS r ON r.source_id = source.id AND r.key = ?2
    JOIN headpond_refused AS f ON f.resource_id = r.id
    WHERE source.name = ?1";

const REFUSE_HEAD: &str = "INSERT INTO headpond_refused (resource_id, at, status, content_type, size, body) VALUES ";

const REFUSE_TAIL: &str = " ON CONFLICT (resource_id) DO UPDATE SET at = excluded.at, status = excluded.status,
    content_type = excluded.content_type, size = excluded.size, body = excluded.body";

pub(super) const FORGET: &str = "DELETE FROM headpond_refused WHERE resource_id IN (SELECT value FROM json_each(?1))";

/// All but the newest: ?1 is how many those are.
pub(super) const TOO_MANY: &str = "
    DELETE FROM headpond_refused WHERE resource_id IN (
        SELECT resource_id FROM headpond_refused ORDER BY at DESC, resource_id LIMIT ?2 OFFSET ?1)";

/// There are at most a thousand refused bodies.
pub(super) const MISFITS: &str = "
    SELECT r.key FROM headpond_refused AS f CROSS JOIN headpond_resource AS r ON r.id = f.resource_id
    WHERE r.source_id = ?1 AND r.failure_kind = 'misfit' AND r.retired_at IS NULL ORDER BY r.key";

/// How many rows are bound to one statement.
const AT_ONCE: usize = 64;

impl SqliteStore {
    pub(super) async fn read_refusal(&self, source: &SourceName, key: &Key) -> Result<Option<Refusal>, StoreError> {
        let row = sqlx::query(REFUSED).bind(source.as_str()).bind(key.as_str()).fetch_optional(&self.readers).await;
        row.map_err(failed)?.map(|row| Refusal::of(&row)).transpose()
    }

    pub(super) async fn read_misfits(&self, source: SourceId) -> Result<Vec<Key>, StoreError> {
        let rows = sqlx::query(MISFITS).bind(source.0).fetch_all(&self.readers).await.map_err(failed)?;
        rows.iter().map(|row| Record::of(row, "resource", 0).key("key")).collect()
    }
}

/// Keeps what was refused.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    refused: &[(ResourceId, i64, &Refused)],
) -> Result<(), StoreError> {
    for chunk in refused.chunks(AT_ONCE) {
        let rows = vec!["(?, ?, ?, ?, ?, ?)"; chunk.len()].join(", ");
        let mut query = sqlx::query(AssertSqlSafe(format!("{REFUSE_HEAD}{rows}{REFUSE_TAIL}")));
        for (id, at, refused) in chunk {
            query = query
                .bind(id.0)
                .bind(*at)
                .bind(refused.status)
                .bind(refused.content_type.as_deref())
                .bind(i64::try_from(refused.size).unwrap_or(i64::MAX))
                .bind(refused.body.as_deref());
        }
        query.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}
