//! Many resources of a source at once.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Sqlite, Transaction};

use super::error::failed;
use super::{SqliteStore, json};
use crate::domain::resource::{Key, SourceName};
use crate::store::listing::{self, Described, Row, Snapshot};
use crate::store::{Batch, Bodies, ListRequest, Listing, StoreError};

const SOURCE: &str = "SELECT id FROM headpond_source WHERE name = ?1";

/// In the order of the unique index over source and key, which compares bytes. Retired ones are left out later: they are
/// counted as rows that were looked at.
pub(super) const AFTER: &str = "
    SELECT r.id, r.key, r.version, r.gone_since, r.retired_at, r.terms, r.failures, r.failing_since, r.failed_at,
        r.failure_kind, r.failure_status, r.failure_detail, s.fetched_at, s.stale_after
    FROM headpond_resource AS r JOIN headpond_schedule AS s ON s.resource_id = r.id
    WHERE r.source_id = ?1 AND r.key > ?2
    ORDER BY r.key LIMIT ?3";

/// CROSS JOIN says which comes first: SQLite would rather go through all of the source.
pub(super) const NAMED: &str = "
    SELECT r.id, r.key, r.version, r.gone_since, r.retired_at, r.terms, r.failures, r.failing_since, r.failed_at,
        r.failure_kind, r.failure_status, r.failure_detail, s.fetched_at, s.stale_after
    FROM json_each(?2) AS j
    CROSS JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value AND r.erased_at IS NULL
    JOIN headpond_schedule AS s ON s.resource_id = r.id";

/// The length of a body is known without reading it.
pub(super) const DESCRIBED: &str = "
    SELECT b.resource_id, b.etag, b.changed_at, b.headers, length(b.body) AS bytes
    FROM json_each(?1) AS j JOIN headpond_content AS b ON b.resource_id = j.value";

pub(super) const BODIES: &str = "
    SELECT b.resource_id, b.body FROM json_each(?1) AS j JOIN headpond_content AS b ON b.resource_id = j.value";

impl SqliteStore {
    pub(super) async fn read_list(
        &self,
        source: &SourceName,
        request: &ListRequest,
    ) -> Result<Option<Listing>, StoreError> {
        let Some((mut moment, source)) = self.moment(source).await? else { return Ok(None) };
        listing::page(&mut moment, source, request).await.map(Some)
    }

    pub(super) async fn read_batch(
        &self,
        source: &SourceName,
        keys: &[Key],
        bodies: Bodies,
    ) -> Result<Option<Batch>, StoreError> {
        let Some((mut moment, source)) = self.moment(source).await? else { return Ok(None) };
        listing::batch(&mut moment, source, keys, bodies).await.map(Some)
    }

    /// A transaction in which the source has this id; `None` when there is no such source.
    async fn moment(&self, source: &SourceName) -> Result<Option<(Moment, i64)>, StoreError> {
        let mut transaction = self.readers.begin().await.map_err(failed)?;
        let id = sqlx::query_scalar(SOURCE).bind(source.as_str()).fetch_optional(&mut *transaction);
        let id = id.await.map_err(failed)?;
        Ok(id.map(|id| (Moment(transaction), id)))
    }
}

/// A transaction that only reads: all its statements see the same.
struct Moment(Transaction<'static, Sqlite>);

#[async_trait]
impl Snapshot for Moment {
    async fn after(&mut self, source: i64, key: &str, at_most: u32) -> Result<Vec<Row>, StoreError> {
        let rows = sqlx::query(AFTER).bind(source).bind(key).bind(at_most).fetch_all(&mut *self.0);
        rows.await.map_err(failed)?.iter().map(Row::of).collect()
    }

    async fn named(&mut self, source: i64, keys: &[Key]) -> Result<Vec<Row>, StoreError> {
        let rows = sqlx::query(NAMED).bind(source).bind(json(keys)?).fetch_all(&mut *self.0);
        rows.await.map_err(failed)?.iter().map(Row::of).collect()
    }

    async fn described(&mut self, ids: &[i64]) -> Result<HashMap<i64, Described>, StoreError> {
        let rows = sqlx::query(DESCRIBED).bind(json(ids)?).fetch_all(&mut *self.0);
        rows.await.map_err(failed)?.iter().map(Described::of).collect()
    }

    async fn bodies(&mut self, ids: &[i64]) -> Result<HashMap<i64, Bytes>, StoreError> {
        let rows = sqlx::query(BODIES).bind(json(ids)?).fetch_all(&mut *self.0);
        rows.await.map_err(failed)?.iter().map(listing::body).collect()
    }
}
