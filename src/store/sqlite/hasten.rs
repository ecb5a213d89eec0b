//! A reader's wish for one resource.

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, wish};
use crate::domain::resource::ResourceId;
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::hasten::Place;
use crate::store::heed::pause;
use crate::store::{AT_ONCE, Hastened, StoreError, Wish};

/// There are no more leases than requests may be under way.
pub(super) const PLACE: &str = "
    SELECT s.due_at, s.because, s.fetched_at, s.hastened_at, s.kept_until, s.source_id, u.id, u.standing, EXISTS (
        SELECT 1 FROM headpond_lease AS l, json_each(l.resources) AS held
        WHERE l.expires_at > ?2 AND held.value = s.resource_id
    ) AS is_leased
    FROM headpond_schedule AS s JOIN headpond_upstream AS u ON u.id = s.upstream_id WHERE s.resource_id = ?1";

/// A wish keeps the mark of what was never fetched (because 1): readiness counts those.
pub(super) const HASTEN: &str = "
    UPDATE headpond_schedule SET due_at = ?2, because = CASE because WHEN 1 THEN 1 ELSE ?3 END,
        wanted_at = max(coalesce(wanted_at, 0), ?4), hastened_at = ?4
    WHERE resource_id = ?1";

/// What is coming anyway is fetched for readers now.
pub(super) const NOTE: &str = "UPDATE headpond_schedule SET hastened_at = ?2 WHERE resource_id = ?1";

impl SqliteStore {
    /// Looked at and done under the write lock, so that no claim and no outcome comes between. If a power failure takes it
    /// back, so it did the readers.
    pub(super) async fn hasten_one(&self, resource: ResourceId, reader: Wish) -> Result<Hastened, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Relaxed).await?;
        let now = self.clock.now();
        let place = sqlx::query(PLACE).bind(resource.0).bind(micros(now)).fetch_optional(&mut *transaction);
        let hastened = match place.await.map_err(failed)? {
            Some(row) => {
                let schedule = Record::of(&row, "schedule", resource.0);
                Place::of(&schedule, schedule.integer("is_leased")? != 0, pause(&row, now)?)?.hastened(reader, now)
            }
            None => Hastened::Never,
        };
        let at = micros(reader.at);
        let statement = match hastened {
            Hastened::Due => sqlx::query(HASTEN).bind(resource.0).bind(AT_ONCE).bind(Because::Manual.code()).bind(at),
            Hastened::Coming => sqlx::query(NOTE).bind(resource.0).bind(at),
            _ => {
                transaction.rollback().await.map_err(failed)?;
                return Ok(hastened);
            }
        };
        statement.execute(&mut *transaction).await.map_err(failed)?;
        if hastened == Hastened::Due {
            wish(&mut transaction).await?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(hastened)
    }
}
