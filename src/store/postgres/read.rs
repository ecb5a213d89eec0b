//! What readers see.

use chrono::{DateTime, Utc};

use super::PostgresStore;
use super::error::Result;
use crate::domain::governor::Wait;
use crate::domain::resource::{Key, SourceName};
use crate::store::columns::{self, micros};
use crate::store::{Current, StoreError, heed};

/// The server's time, which goes on within a transaction.
const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

pub(super) async fn clock(store: &PostgresStore) -> Result<DateTime<Utc>> {
    let now: i64 = sqlx::query_scalar(CLOCK).fetch_one(&store.readers).await?;
    let at = DateTime::from_timestamp_micros(now);
    Ok(at.ok_or_else(|| StoreError::Unusable(format!("the database server's clock says {now} µs")))?)
}

/// One statement, so that all of it is of one moment. `w` is the walk of which the resource is a member (11); what asks for it
/// is the walk then (`f` and `d`), else the resource itself.
pub(super) const CURRENT: &str = "
    SELECT r.id, r.version, r.etag, r.last_modified, r.gone_since, r.erased_at, r.terms, r.transformed, r.moved_to,
           f.failures, f.failing_since, f.failed_at, f.failure_kind, f.failure_status, f.failure_detail,
           d.due_at, d.because, d.wanted_at, d.hastened_at, t.fetched_at, t.stale_after, w.resource_id AS walk, d.fetched_at AS walked_at,
           c.etag AS own_etag, c.changed_at, c.headers, c.body,
           (SELECT max(l.expires_at) FROM headpond.lease l
             WHERE l.upstream_id = t.upstream_id AND l.expires_at > $3 AND d.resource_id = ANY(l.resources)) AS leased_until
      FROM headpond.source s
      JOIN headpond.resource r ON r.source_id = s.id
      JOIN headpond.schedule t ON t.resource_id = r.id
      LEFT JOIN headpond.walk w ON w.source_id = s.id AND t.because = 11 AND t.due_at IS NOT NULL
      JOIN headpond.resource f ON f.id = coalesce(w.resource_id, r.id)
      JOIN headpond.schedule d ON d.resource_id = coalesce(w.resource_id, r.id)
      LEFT JOIN headpond.content c ON c.resource_id = r.id
     WHERE s.name = $1 AND r.key = $2";

pub(super) async fn current(store: &PostgresStore, source: &SourceName, key: &Key) -> Result<Option<Current>> {
    let row = sqlx::query(CURRENT)
        .bind(source.as_str())
        .bind(key.as_str())
        .bind(micros(store.clock.now()))
        .fetch_optional(&store.readers)
        .await?;
    Ok(row.map(|row| columns::current(&row)).transpose()?)
}

pub(super) const STANDING: &str = "
    SELECT u.id, u.requests_per_second, u.burst, u.max_concurrent, u.standing, u.budgets, s.id AS source_id
      FROM headpond.source s JOIN headpond.upstream u ON u.id = s.upstream_id WHERE s.name = $1";

pub(super) async fn wait(store: &PostgresStore, source: &SourceName) -> Result<Option<Wait>> {
    let row = sqlx::query(STANDING).bind(source.as_str()).fetch_optional(&store.readers).await?;
    Ok(row.map_or(Ok(None), |row| heed::wait(&row, store.clock.now()))?)
}
