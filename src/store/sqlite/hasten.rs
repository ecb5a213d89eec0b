//! A reader's wish for one resource.

use chrono::{DateTime, Utc};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, wish};
use crate::domain::resource::ResourceId;
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::hasten::Place;
use crate::store::{AT_ONCE, Hastened, StoreError};

/// There are no more leases than requests may be under way.
pub(super) const PLACE: &str = "
    SELECT s.due_at, s.because, s.fetched_at, EXISTS (
        SELECT 1 FROM headpond_lease AS l, json_each(l.resources) AS held
        WHERE l.expires_at > ?2 AND held.value = s.resource_id
    ) AS is_leased
    FROM headpond_schedule AS s WHERE s.resource_id = ?1";

/// A wish keeps the mark of what was never fetched (because 1): readiness counts those.
pub(super) const HASTEN: &str = "
    UPDATE headpond_schedule SET due_at = ?2, because = CASE because WHEN 1 THEN 1 ELSE ?3 END,
        wanted_at = max(coalesce(wanted_at, 0), ?4)
    WHERE resource_id = ?1";

impl SqliteStore {
    /// Looked at and done under the write lock, so that no claim and no outcome comes between. If a power failure takes it
    /// back, so it did the readers.
    pub(super) async fn hasten_one(
        &self,
        resource: ResourceId,
        seen: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) -> Result<Hastened, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Relaxed).await?;
        let now = self.clock.now();
        let place = sqlx::query(PLACE).bind(resource.0).bind(micros(now)).fetch_optional(&mut *transaction);
        let hastened = match place.await.map_err(failed)? {
            Some(row) => {
                let schedule = Record::of(&row, "schedule", resource.0);
                Place::of(&schedule, schedule.integer("is_leased")? != 0)?.hastened(seen, now)
            }
            None => Hastened::Never,
        };
        if hastened != Hastened::Due {
            transaction.rollback().await.map_err(failed)?;
            return Ok(hastened);
        }
        let hasten = sqlx::query(HASTEN).bind(resource.0).bind(AT_ONCE).bind(Because::Manual.code()).bind(micros(at));
        hasten.execute(&mut *transaction).await.map_err(failed)?;
        wish(&mut transaction).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(hastened)
    }
}
