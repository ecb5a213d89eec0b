//! A look at every resource.

use chrono::{DateTime, Utc};

use super::PostgresStore;
use super::error::Result;
use crate::store::columns::micros;
use crate::store::{StoreError, Surveyed};

const SURVEY: &str = "
    SELECT s.id, s.name, u.name AS upstream, count(r.id) AS keys, count(c.resource_id) AS copies,
           count(*) FILTER (WHERE c.resource_id IS NOT NULL AND r.gone_since IS NULL AND t.stale_after > $1) AS fresh,
           count(*) FILTER (WHERE c.resource_id IS NULL AND r.version > 0) AS lost
      FROM headpond.source s
      JOIN headpond.upstream u ON u.id = s.upstream_id
      LEFT JOIN headpond.resource r ON r.source_id = s.id
      LEFT JOIN headpond.schedule t ON t.resource_id = r.id
      LEFT JOIN headpond.content c ON c.resource_id = r.id
     GROUP BY s.id, u.id ORDER BY s.name COLLATE \"C\"";

pub(super) async fn survey(store: &PostgresStore, now: DateTime<Utc>) -> Result<Vec<Surveyed>> {
    let rows = sqlx::query(SURVEY).bind(micros(now)).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(Surveyed::of).collect::<Result<_, StoreError>>()?)
}
