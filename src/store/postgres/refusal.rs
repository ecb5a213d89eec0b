//! Bodies that were refused.

use sqlx::PgConnection;

use super::PostgresStore;
use super::error::Result;
use crate::domain::refused::Refused;
use crate::domain::resource::{Key, ResourceId, SourceId, SourceName};
use crate::store::Refusal;
use crate::store::columns::Record;
use crate::store::plan::Plan;

pub(super) const REFUSED: &str = "
    SELECT f.resource_id, f.at, f.status, f.content_type, f.size, f.body
      FROM headpond.source s
      JOIN headpond.resource r ON r.source_id = s.id
      JOIN headpond.refused f ON f.resource_id = r.id
     WHERE s.name = $1 AND r.key = $2";

/// Only for resources that are still there: one can be pruned while it is fetched.
pub(super) const REFUSE: &str = "
    INSERT INTO headpond.refused (resource_id, at, status, content_type, size, body)
    SELECT n.id, n.at, n.status, n.content_type, n.size, n.body
      FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bytea[], $5::bigint[], $6::bytea[])
           AS n (id, at, status, content_type, size, body)
      JOIN headpond.resource r ON r.id = n.id
        ON CONFLICT (resource_id) DO UPDATE
       SET at = excluded.at, status = excluded.status, content_type = excluded.content_type, size = excluded.size,
           body = excluded.body";

pub(super) const FORGET: &str = "DELETE FROM headpond.refused WHERE resource_id = ANY($1)";

/// All but the newest: $1 is how many those are.
pub(super) const TOO_MANY: &str = "
    DELETE FROM headpond.refused WHERE resource_id IN (
        SELECT resource_id FROM headpond.refused ORDER BY at DESC, resource_id LIMIT $2 OFFSET $1)";

/// There are at most a thousand refused bodies.
pub(super) const MISFITS: &str = "
    SELECT r.key FROM headpond.refused f JOIN headpond.resource r ON r.id = f.resource_id
     WHERE r.source_id = $1 AND r.failure_kind = 'misfit' AND r.retired_at IS NULL ORDER BY r.key";

/// How many rows go into one statement: their bodies are in one message to the server.
const AT_ONCE: usize = 64;

pub(super) async fn read(store: &PostgresStore, source: &SourceName, key: &Key) -> Result<Option<Refusal>> {
    let row = sqlx::query(REFUSED).bind(source.as_str()).bind(key.as_str()).fetch_optional(&store.readers).await?;
    Ok(row.map(|row| Refusal::of(&row)).transpose()?)
}

pub(super) async fn misfits(store: &PostgresStore, source: SourceId) -> Result<Vec<Key>> {
    let rows = sqlx::query(MISFITS).bind(source.0).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(|row| Record::of(row, "resource", 0).key("key")).collect::<Result<_, _>>()?)
}

/// Keeps what was refused, and forgets what was refused before something usable came.
pub(super) async fn write(tx: &mut PgConnection, plan: &Plan<'_>) -> Result<()> {
    let recovered: Vec<i64> = plan.recovered().map(|id| id.0).collect();
    if !recovered.is_empty() {
        sqlx::query(FORGET).bind(recovered).execute(&mut *tx).await?;
    }
    for chunk in plan.refused.chunks(AT_ONCE) {
        refuse(&mut *tx, chunk).await?;
    }
    Ok(())
}

async fn refuse(tx: &mut PgConnection, rows: &[(ResourceId, i64, &Refused)]) -> Result<()> {
    let each = || rows.iter().map(|(.., refused)| *refused);
    sqlx::query(REFUSE)
        .bind(rows.iter().map(|(id, ..)| id.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, at, _)| *at).collect::<Vec<_>>())
        .bind(each().map(|refused| i16::try_from(refused.status).unwrap_or(i16::MAX)).collect::<Vec<_>>())
        .bind(each().map(|refused| refused.content_type.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|refused| i64::try_from(refused.size).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(each().map(|refused| refused.body.as_deref()).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}
