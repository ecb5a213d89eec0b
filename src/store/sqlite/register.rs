//! Upstreams and sources.

use sqlx::{Sqlite, Transaction};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, history, wish};
use crate::domain::resource::{SourceId, UpstreamId};
use crate::store::columns::micros;
use crate::store::{Registered, SourceSpec, StoreError, check_fingerprint, no_such_source};

/// A new upstream starts with a full bucket; a known one keeps its tokens, of which a claim takes no more than fit.
const UPSERT_UPSTREAM: &str = "
    INSERT INTO headpond_upstream (name, requests_per_second, burst, max_concurrent, tokens, tokens_at, budgets)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (name) DO UPDATE SET
        requests_per_second = excluded.requests_per_second, burst = excluded.burst,
        max_concurrent = excluded.max_concurrent, budgets = excluded.budgets
    RETURNING id";

const SOURCE: &str = "SELECT id, upstream_id, fingerprint FROM headpond_source WHERE name = ?1";

const INSERT_SOURCE: &str =
    "INSERT INTO headpond_source (name, upstream_id, fingerprint) VALUES (?1, ?2, ?3) RETURNING id";

const MOVE_SOURCE: &str = "UPDATE headpond_source SET upstream_id = ?2 WHERE id = ?1";

/// By the resources' unique index: the schedule has none by source.
const MOVE_RESOURCES: &str = "
    UPDATE headpond_schedule SET upstream_id = ?2
    WHERE resource_id IN (SELECT id FROM headpond_resource WHERE source_id = ?1)";

const KEEP_FINGERPRINT: &str = "UPDATE headpond_source SET fingerprint = ?2 WHERE id = ?1";

/// What a source asks for is something else now. Members of a collection (11) come with its walk, if it still has one (?3).
/// `wanted_at` leaves what is being fetched due, and without the validators that come; the retired have one too, for those
/// of them that are still being fetched.
const DUE_ANEW: &str = "
    UPDATE headpond_schedule
    SET due_at = min(due_at, ?2), wanted_at = ?2, because = CASE because WHEN 1 THEN 1 ELSE 8 END
    WHERE (because <> 11 OR NOT ?3) AND resource_id IN (SELECT id FROM headpond_resource WHERE source_id = ?1)";

/// 404s for something else count for nothing.
const FORGET: &str = "
    UPDATE headpond_resource SET etag = NULL, last_modified = NULL, absences = 0, absent_since = NULL
    WHERE source_id = ?1 AND (etag IS NOT NULL OR last_modified IS NOT NULL OR absences > 0)";

/// What was refused may have parts that are dropped from now on.
const FORGET_REFUSED: &str = "
    DELETE FROM headpond_refused WHERE resource_id IN (SELECT id FROM headpond_resource WHERE source_id = ?1)";

/// So were the validators of a collection's pages.
const FORGET_PAGES: &str = "DELETE FROM headpond_walk_page WHERE source_id = ?1";

const UPSTREAM: &str = "SELECT id FROM headpond_upstream WHERE name = ?1";

impl SqliteStore {
    pub(super) async fn register_sources(&self, sources: &[SourceSpec]) -> Result<Vec<Registered>, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let mut registered = Vec::with_capacity(sources.len());
        for spec in sources {
            let upstream = self.upsert_upstream(&mut transaction, spec).await?;
            let source = self.put_source(&mut transaction, spec, upstream).await?;
            history::rule(&mut transaction, source.0, spec).await?;
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
            let (source, upstream, asks) = found.map_err(failed)?.ok_or_else(|| no_such_source(&spec.name))?;
            check_fingerprint(spec, asks)?;
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
            .bind(spec.limits.budgets.json())
            .fetch_one(&mut **transaction)
            .await
            .map(UpstreamId)
            .map_err(failed)
    }

    async fn put_source(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        spec: &SourceSpec,
        upstream: UpstreamId,
    ) -> Result<SourceId, StoreError> {
        let (name, asks) = (spec.name.as_str(), spec.fingerprint.0);
        let known = sqlx::query_as(SOURCE).bind(name).fetch_optional(&mut **transaction).await.map_err(failed)?;
        let Some((id, before, asked)): Option<(i64, i64, Option<i64>)> = known else {
            let insert = sqlx::query_scalar(INSERT_SOURCE).bind(name).bind(upstream.0).bind(asks);
            return insert.fetch_one(&mut **transaction).await.map(SourceId).map_err(failed);
        };
        let (moves, asks_anew) = (before != upstream.0, asked.is_some_and(|asked| asked != asks));
        if moves {
            for statement in [MOVE_SOURCE, MOVE_RESOURCES] {
                sqlx::query(statement).bind(id).bind(upstream.0).execute(&mut **transaction).await.map_err(failed)?;
            }
        }
        if asked != Some(asks) {
            let keep = sqlx::query(KEEP_FINGERPRINT).bind(id).bind(asks);
            keep.execute(&mut **transaction).await.map_err(failed)?;
        }
        if asks_anew {
            let due = sqlx::query(DUE_ANEW).bind(id).bind(micros(self.clock.now())).bind(spec.is_walked);
            due.execute(&mut **transaction).await.map_err(failed)?;
            for statement in [FORGET, FORGET_REFUSED, FORGET_PAGES] {
                sqlx::query(statement).bind(id).execute(&mut **transaction).await.map_err(failed)?;
            }
        }
        if moves || asks_anew {
            wish(transaction).await?;
        }
        Ok(SourceId(id))
    }

    pub(super) async fn find_upstream(&self, name: &str) -> Result<Option<UpstreamId>, StoreError> {
        let id = sqlx::query_scalar(UPSTREAM).bind(name).fetch_optional(&self.readers).await;
        Ok(id.map_err(failed)?.map(UpstreamId))
    }
}
