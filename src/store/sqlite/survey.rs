//! A look at every resource.

use chrono::{DateTime, Utc};

use super::SqliteStore;
use super::error::failed;
use crate::store::columns::micros;
use crate::store::{StoreError, Surveyed};

const SURVEY: &str = "
    SELECT source.id, source.name, upstream.name AS upstream, count(r.id) AS keys, count(b.resource_id) AS copies,
        count(*) FILTER (WHERE b.resource_id IS NOT NULL AND r.gone_since IS NULL AND s.stale_after > ?1) AS fresh,
        count(*) FILTER (WHERE b.resource_id IS NULL AND r.version > 0) AS lost
    FROM headpond_source AS source
    JOIN headpond_upstream AS upstream ON upstream.id = source.upstream_id
    LEFT JOIN headpond_resource AS r ON r.source_id = source.id
    LEFT JOIN headpond_schedule AS s ON s.resource_id = r.id
    LEFT JOIN headpond_content AS b ON b.resource_id = r.id
    GROUP BY source.id ORDER BY source.name";

impl SqliteStore {
    pub(super) async fn count_copies(&self, now: DateTime<Utc>) -> Result<Vec<Surveyed>, StoreError> {
        let rows = sqlx::query(SURVEY).bind(micros(now)).fetch_all(&self.readers).await.map_err(failed)?;
        rows.iter().map(Surveyed::of).collect()
    }
}
