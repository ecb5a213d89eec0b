//! A reader's wish for one resource.

use super::error::Result;
use super::{PostgresStore, wish};
use crate::domain::resource::ResourceId;
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::hasten::Place;
use crate::store::{AT_ONCE, Hastened, Wish, heed};

/// Keeps claims out: what is not leased now isn't until the commit. That does not wait for the disk: if the server's end
/// takes the wish back, so it did the readers.
pub(super) const LOCK_UPSTREAM: &str = "
    SELECT u.id, u.standing, s.source_id, set_config('synchronous_commit', 'off', true)
      FROM headpond.schedule s JOIN headpond.upstream u ON u.id = s.upstream_id
     WHERE s.resource_id = $1 FOR NO KEY UPDATE OF u";

/// Waits for an apply that is about to settle it.
pub(super) const PLACE: &str = "
    SELECT due_at, because, fetched_at, hastened_at, kept_until FROM headpond.schedule
     WHERE resource_id = $1 FOR NO KEY UPDATE";

/// A statement of its own, so that it sees what that apply did.
pub(super) const IS_LEASED: &str = "
    SELECT EXISTS (SELECT FROM headpond.lease WHERE expires_at > $2 AND $1 = ANY(resources))";

/// A wish keeps the mark of what was never fetched (because 1): readiness counts those.
pub(super) const HASTEN: &str = "
    UPDATE headpond.schedule
       SET due_at = $2, because = CASE because WHEN 1 THEN 1 ELSE $3 END, wanted_at = greatest(wanted_at, $4),
           hastened_at = $4
     WHERE resource_id = $1";

/// What is coming anyway is fetched for readers now.
pub(super) const NOTE: &str = "UPDATE headpond.schedule SET hastened_at = $2 WHERE resource_id = $1";

pub(super) async fn hasten(store: &PostgresStore, resource: ResourceId, reader: Wish) -> Result<Hastened> {
    let mut tx = store.begin().await?;
    let upstream = sqlx::query(LOCK_UPSTREAM).bind(resource.0).fetch_optional(&mut *tx).await?;
    let Some(row) = sqlx::query(PLACE).bind(resource.0).fetch_optional(&mut *tx).await? else {
        return Ok(Hastened::Never);
    };
    let now = store.clock.now();
    let is_leased = sqlx::query_scalar(IS_LEASED).bind(resource.0).bind(micros(now)).fetch_one(&mut *tx).await?;
    let wait = upstream.map_or(Ok(None), |row| heed::pause(&row, now))?;
    let hastened = Place::of(&Record::of(&row, "schedule", resource.0), is_leased, wait)?.hastened(reader, now);
    let at = micros(reader.at);
    let statement = match hastened {
        Hastened::Due => sqlx::query(HASTEN).bind(resource.0).bind(AT_ONCE).bind(Because::Manual.code()).bind(at),
        Hastened::Coming => sqlx::query(NOTE).bind(resource.0).bind(at),
        _ => return Ok(hastened),
    };
    statement.execute(&mut *tx).await?;
    if hastened == Hastened::Due {
        wish(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(hastened)
}
