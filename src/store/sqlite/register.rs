//! Upstreams and sources.

use sqlx::{Row, Sqlite, Transaction};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, wish};
use crate::domain::resource::{SourceId, UpstreamId};
use crate::store::columns::micros;
use crate::store::{Registered, SourceSpec, StoreError, no_such_source};

/// A new upstream starts with a full bucket; a known one keeps its tokens, of which a claim takes no more than fit.
const UPSERT_UPSTREAM: &str = "
    INSERT INTO headpond_upstream (name, requests_per_second, burst, max_concurrent, tokens, tokens_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (name) DO UPDATE SET
        requests_per_second = excluded.requests_per_second, burst = excluded.burst,
        max_concurrent = excluded.max_concurrent
    RETURNING id";

const SOURCE: &str = "SELECT id, upstream_id FROM headpond_source WHERE name = ?1";

const INSERT_SOURCE: &str = "INSERT INTO headpond_source (name, upstream_id) VALUES (?1, ?2) RETURNING id";

const MOVE_SOURCE: &str = "UPDATE headpond_source SET upstream_id = ?2 WHERE id = ?1";

/// By the resources' unique index: the schedule has none by source.
const MOVE_RESOURCES: &str = "
    UPDATE headpond_schedule SET upstream_id = ?2
    WHERE resource_id IN (SELECT id FROM headpond_resource WHERE source_id = ?1)";

impl SqliteStore {
    pub(super) async fn register_sources(&self, sources: &[SourceSpec]) -> Result<Vec<Registered>, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let mut registered = Vec::with_capacity(sources.len());
        for spec in sources {
            let upstream = self.upsert_upstream(&mut transaction, spec).await?;
            let source = put_source(&mut transaction, spec, upstream).await?;
            registered.push(Registered { source, upstream });
        }
        transaction.commit().await.map_err(failed)?;
        Ok(registered)
    }

    /// The sources as they are.
    pub(super) async fn registered(&self, sources: &[SourceSpec]) -> Result<Vec<Registered>, StoreError> {
        let mut registered = Vec::with_capacity(sources.len());
        for spec in sources {
            let found = sqlx::query_as(SOURCE).bind(spec.name.as_str()).fetch_optional(&self.readers).await;
            let (source, upstream) = found.map_err(failed)?.ok_or_else(|| no_such_source(&spec.name))?;
            registered.push(Registered { source: SourceId(source), upstream: UpstreamId(upstream) });
        }
        Ok(registered)
    }

    async fn upsert_upstream(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        spec: &SourceSpec,
    ) -> Result<UpstreamId, StoreError> {
        sqlx::query_scalar(UPSERT_UPSTREAM)
            .bind(&spec.upstream)
            .bind(spec.limits.requests_per_second)
            .bind(spec.limits.burst)
            .bind(spec.limits.max_concurrent)
            .bind(spec.limits.capacity())
            .bind(micros(self.clock.now()))
            .fetch_one(&mut **transaction)
            .await
            .map(UpstreamId)
            .map_err(failed)
    }
}

async fn put_source(
    transaction: &mut Transaction<'_, Sqlite>,
    spec: &SourceSpec,
    upstream: UpstreamId,
) -> Result<SourceId, StoreError> {
    let name = spec.name.as_str();
    let known = sqlx::query(SOURCE).bind(name).fetch_optional(&mut **transaction).await.map_err(failed)?;
    let Some(known) = known else {
        let id = sqlx::query_scalar(INSERT_SOURCE).bind(name).bind(upstream.0).fetch_one(&mut **transaction).await;
        return id.map(SourceId).map_err(failed);
    };
    let id: i64 = known.try_get("id").map_err(failed)?;
    if known.try_get::<i64, _>("upstream_id").map_err(failed)? != upstream.0 {
        for statement in [MOVE_SOURCE, MOVE_RESOURCES] {
            sqlx::query(statement).bind(id).bind(upstream.0).execute(&mut **transaction).await.map_err(failed)?;
        }
        wish(transaction).await?;
    }
    Ok(SourceId(id))
}
