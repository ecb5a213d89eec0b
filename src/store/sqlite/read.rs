//! What readers see of a resource, and whether the sources are ready.

use super::SqliteStore;
use super::error::failed;
use super::writer::Durability;
use crate::domain::governor::Wait;
use crate::domain::resource::{Key, SourceName};
use crate::store::columns::{self, Record, micros};
use crate::store::heed::wait;
use crate::store::{Current, StoreError};

/// One statement, so that all parts are of one moment. There are no more leases than requests may be under way. `w` is the
/// walk of which the resource is a member (11); what asks for it is the walk then (`f` and `d`), else the resource itself.
pub(super) const CURRENT: &str = "
    SELECT r.id, r.version, r.etag, r.last_modified, r.gone_since, r.erased_at, r.terms, r.transformed, r.moved_to,
        f.failures, f.failing_since, f.failed_at, f.failure_kind, f.failure_status, f.failure_detail,
        d.due_at, d.because, d.wanted_at, d.hastened_at, s.fetched_at, s.stale_after, w.resource_id AS walk, d.fetched_at AS walked_at,
        b.etag AS own_etag, b.changed_at, b.headers, b.body,
        (SELECT max(l.expires_at) FROM headpond_lease AS l, json_each(l.resources) AS held
         WHERE l.expires_at > ?3 AND held.value = d.resource_id) AS leased_until
    FROM headpond_source AS source
    JOIN headpond_resource AS r ON r.source_id = source.id AND r.key = ?2
    JOIN headpond_schedule AS s ON s.resource_id = r.id
    LEFT JOIN headpond_walk AS w ON w.source_id = source.id AND s.because = 11 AND s.due_at IS NOT NULL
    JOIN headpond_resource AS f ON f.id = coalesce(w.resource_id, r.id)
    JOIN headpond_schedule AS d ON d.resource_id = coalesce(w.resource_id, r.id)
    LEFT JOIN headpond_content AS b ON b.resource_id = r.id
    WHERE source.name = ?1";

pub(super) const STANDING: &str = "
    SELECT u.id, u.requests_per_second, u.burst, u.max_concurrent, u.standing, u.budgets, source.id AS source_id
    FROM headpond_source AS source JOIN headpond_upstream AS u ON u.id = source.upstream_id WHERE source.name = ?1";

/// Sources that have not been seen ready, and whether they have a polled key that was never tried, or an origin that was
/// never read. Of a collection's members (walk) no more is asked than that the walk was tried.
pub(super) const UNREADY: &str = "
    SELECT source.id, source.keys, EXISTS (
        SELECT 1 FROM headpond_schedule AS s WHERE s.source_id = source.id AND s.because = 1 AND s.due_at IS NOT NULL
    ) OR EXISTS (
        SELECT 1 FROM headpond_origin AS o WHERE o.source_id = source.id AND o.synced_at IS NULL AND o.name <> 'walk'
    ) AS has_untried
    FROM headpond_source AS source WHERE NOT source.ready";

/// The condition once more: keys may have been added since it was read.
const LATCH: &str = "
    UPDATE headpond_source AS source SET ready = 1
    WHERE NOT source.ready AND source.keys > 0 AND NOT EXISTS (
        SELECT 1 FROM headpond_schedule AS s WHERE s.source_id = source.id AND s.because = 1 AND s.due_at IS NOT NULL
    ) AND NOT EXISTS (
        SELECT 1 FROM headpond_origin AS o WHERE o.source_id = source.id AND o.synced_at IS NULL AND o.name <> 'walk'
    )";

impl SqliteStore {
    pub(super) async fn read_current(&self, source: &SourceName, key: &Key) -> Result<Option<Current>, StoreError> {
        let row = sqlx::query(CURRENT)
            .bind(source.as_str())
            .bind(key.as_str())
            .bind(micros(self.clock.now()))
            .fetch_optional(&self.readers)
            .await
            .map_err(failed)?;
        row.map(|row| columns::current(&row)).transpose()
    }

    pub(super) async fn wait_of(&self, source: &SourceName) -> Result<Option<Wait>, StoreError> {
        let row = sqlx::query(STANDING).bind(source.as_str()).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map_or(Ok(None), |row| wait(&row, self.clock.now()))
    }

    pub(super) async fn latch_readiness(&self) -> Result<bool, StoreError> {
        let rows = sqlx::query(UNREADY).fetch_all(&self.readers).await.map_err(failed)?;
        let mut may_latch = false;
        for row in &rows {
            let record = Record::identified_by(row, "source", "id")?;
            if record.integer("has_untried")? != 0 {
                return Ok(false);
            }
            // A source without keys holds nobody up, but isn't latched before it has had some.
            may_latch |= record.integer("keys")? > 0;
        }
        if may_latch {
            let mut writer = self.writer().await;
            let mut transaction = writer.begin(Durability::Full).await?;
            sqlx::query(LATCH).execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
        Ok(true)
    }
}
