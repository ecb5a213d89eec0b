//! Many resources of a source at once.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Postgres, Transaction};

use super::PostgresStore;
use super::begin::begin_reading;
use super::error::{Fault, Result};
use crate::domain::resource::{Key, SourceName};
use crate::store::listing::{self, Described, Row, Snapshot};
use crate::store::{Batch, Bodies, ListRequest, Listing, StoreError};

const SOURCE: &str = "SELECT id FROM headpond.source WHERE name = $1";

/// In the order of the unique index over source and key, which compares bytes. Retired ones are left out later: they are
/// counted as rows that were looked at.
pub(super) const AFTER: &str = "
    SELECT r.id, r.key, r.version, r.gone_since, r.retired_at, r.terms, r.failures, r.failing_since, r.failed_at,
           r.failure_kind, r.failure_status, r.failure_detail, t.fetched_at, t.stale_after
      FROM headpond.resource r JOIN headpond.schedule t ON t.resource_id = r.id
     WHERE r.source_id = $1 AND r.key > $2
     ORDER BY r.key LIMIT $3";

pub(super) const NAMED: &str = "
    SELECT r.id, r.key, r.version, r.gone_since, r.retired_at, r.terms, r.failures, r.failing_since, r.failed_at,
           r.failure_kind, r.failure_status, r.failure_detail, t.fetched_at, t.stale_after
      FROM headpond.resource r JOIN headpond.schedule t ON t.resource_id = r.id
     WHERE r.source_id = $1 AND r.key = ANY($2) AND r.erased_at IS NULL";

/// The length of a body is known without reading it.
pub(super) const DESCRIBED: &str = "
    SELECT resource_id, etag, changed_at, headers, octet_length(body) AS bytes
      FROM headpond.content WHERE resource_id = ANY($1)";

pub(super) const BODIES: &str = "SELECT resource_id, body FROM headpond.content WHERE resource_id = ANY($1)";

pub(super) async fn list(store: &PostgresStore, source: &SourceName, request: &ListRequest) -> Result<Option<Listing>> {
    let Some((mut moment, source)) = moment(store, source).await? else { return Ok(None) };
    let listing = listing::page(&mut moment, source, request).await?;
    moment.0.commit().await?;
    Ok(Some(listing))
}

pub(super) async fn batch(
    store: &PostgresStore,
    source: &SourceName,
    keys: &[Key],
    bodies: Bodies,
) -> Result<Option<Batch>> {
    let Some((mut moment, source)) = moment(store, source).await? else { return Ok(None) };
    let batch = listing::batch(&mut moment, source, keys, bodies).await?;
    moment.0.commit().await?;
    Ok(Some(batch))
}

/// A transaction in which the source has this id; `None` when there is no such source.
async fn moment(store: &PostgresStore, source: &SourceName) -> Result<Option<(Moment, i64)>> {
    let mut tx = begin_reading(&store.readers).await?;
    let id = sqlx::query_scalar(SOURCE).bind(source.as_str()).fetch_optional(&mut *tx).await?;
    Ok(id.map(|id| (Moment(tx), id)))
}

/// A transaction that only reads.
struct Moment(Transaction<'static, Postgres>);

#[async_trait]
impl Snapshot for Moment {
    async fn after(&mut self, source: i64, key: &str, at_most: u32) -> Result<Vec<Row>, StoreError> {
        let rows = sqlx::query(AFTER).bind(source).bind(key).bind(i64::from(at_most)).fetch_all(&mut *self.0);
        rows.await.map_err(Fault::from)?.iter().map(Row::of).collect()
    }

    async fn named(&mut self, source: i64, keys: &[Key]) -> Result<Vec<Row>, StoreError> {
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let rows = sqlx::query(NAMED).bind(source).bind(keys).fetch_all(&mut *self.0);
        rows.await.map_err(Fault::from)?.iter().map(Row::of).collect()
    }

    async fn described(&mut self, ids: &[i64]) -> Result<HashMap<i64, Described>, StoreError> {
        let rows = sqlx::query(DESCRIBED).bind(ids).fetch_all(&mut *self.0);
        rows.await.map_err(Fault::from)?.iter().map(Described::of).collect()
    }

    async fn bodies(&mut self, ids: &[i64]) -> Result<HashMap<i64, Bytes>, StoreError> {
        let rows = sqlx::query(BODIES).bind(ids).fetch_all(&mut *self.0);
        rows.await.map_err(Fault::from)?.iter().map(listing::body).collect()
    }
}
