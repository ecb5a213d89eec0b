//! How all stands: the census, the beginnings of the due index, and the file.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{Sqlite, Transaction};

use super::SqliteStore;
use super::error::failed;
use super::owner::OWNER;
use super::webhooks::STATES;
use crate::domain::resource::UpstreamId;
use crate::domain::schedule::FIRST_ASIDE;
use crate::store::columns::{CONFIG_OWNER, Record, micros, parse_config_owner};
use crate::store::status::{CensusRow, Disk, MOST_DUE, Queue, Reading, SourceRow, Status, UpstreamRow, depth};
use crate::store::{OriginStatus, StoreError, WebhookState};

pub(super) const SOURCES: &str = "
    SELECT source.id, source.name, source.upstream_id, source.keys, source.ready, f.key, f.at, f.kind, f.status, f.detail,
        coalesce(h.versions, 0) AS versions, coalesce(h.bytes, 0) AS bytes
    FROM headpond_source AS source LEFT JOIN headpond_last_failure AS f ON f.source_id = source.id
    LEFT JOIN headpond_kept_size AS h ON h.source_id = source.id
    ORDER BY source.name";

pub(super) const UPSTREAMS: &str = "
    SELECT u.id, u.name, u.requests_per_second, u.burst, u.max_concurrent, u.tokens, u.tokens_at, u.outages, u.standing, u.budgets,
        (SELECT count(*) FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS held
         WHERE l.upstream_id = u.id AND l.expires_at > ?1
            AND held.value NOT IN (SELECT j.value FROM json_each(l.riders) AS j)) AS in_flight
    FROM headpond_upstream AS u ORDER BY u.name";

/// The walks of collections are kept as resources are, but they are no keys: they are taken away again.
pub(super) const CENSUS: &str = "
    SELECT source_id, because, standing, sum(n) AS resources,
        coalesce(sum(n) FILTER (WHERE fetched_by = 0), 0) AS pending,
        coalesce(sum(n) FILTER (WHERE fresh_until > ?1), 0) AS fresh,
        min(fetched_by) FILTER (WHERE fetched_by > 0) AS oldest
    FROM (
        SELECT fetched_by, fresh_until, source_id, because, standing, n FROM headpond_census
        UNION ALL
        SELECT coalesce(s.fetched_at | s.rounding, 0), coalesce(s.stale_after | s.rounding, 0), s.source_id, s.because,
            s.standing, -1
        FROM headpond_walk AS w CROSS JOIN headpond_schedule AS s ON s.resource_id = w.resource_id
        WHERE s.due_at IS NOT NULL)
    GROUP BY source_id, because, standing HAVING sum(n) > 0";

/// The beginning of an upstream's due index, by source. What is due before all others (0) is due since someone asked for it;
/// without a wish, since now. What nobody polls (from ?4 on) is not in it.
pub(super) const QUEUE: &str = "
    SELECT source_id, count(*) AS entries, min(iif(due_at > 0, due_at, coalesce(wanted_at, ?2))) AS next_due_at,
        max(due_at) AS last_due_at
    FROM (
        SELECT source_id, due_at, wanted_at FROM headpond_schedule
        WHERE upstream_id = ?1 AND due_at < ?4 AND resource_id NOT IN (
            SELECT held.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS held WHERE l.expires_at > ?2)
        ORDER BY due_at LIMIT ?3)
    GROUP BY source_id";

/// What is due of an upstream and not leased, no further than ?3.
pub(super) const DUE: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM headpond_schedule
        WHERE upstream_id = ?1 AND due_at <= ?2 AND resource_id NOT IN (
            SELECT held.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS held WHERE l.expires_at > ?2)
        LIMIT ?3)";

/// Where keys come from, those first whose parameters hold.
pub(super) const ORIGINS: &str = "
    SELECT source_id, name, about, keys, synced_at, problem, problem_at FROM headpond_origin ORDER BY source_id, place";

const FILE: &str = "
    SELECT page_count * page_size AS bytes, freelist_count * page_size AS free
    FROM pragma_page_count, pragma_page_size, pragma_freelist_count";

impl SqliteStore {
    pub(super) async fn read_status(&self, now: DateTime<Utc>) -> Result<Status, StoreError> {
        // One transaction: all of it is of one moment.
        let mut snapshot = self.readers.begin().await.map_err(failed)?;
        let owner =
            sqlx::query_scalar(OWNER).bind(CONFIG_OWNER).fetch_optional(&mut *snapshot).await.map_err(failed)?;
        let owner: Option<String> = owner;
        let owner = owner.map_or(Ok(None), |stored| parse_config_owner(&stored, now))?;
        let sources = sqlx::query(SOURCES).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let sources = sources.iter().map(SourceRow::read).collect::<Result<Vec<_>, _>>()?;
        let upstreams = sqlx::query(UPSTREAMS).bind(micros(now)).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let upstreams = upstreams.iter().map(|row| UpstreamRow::read(row, now)).collect::<Result<Vec<_>, _>>()?;
        let census = sqlx::query(CENSUS).bind(micros(now)).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let census = census.iter().map(CensusRow::read).collect::<Result<Vec<_>, _>>()?;
        let mut queues = HashMap::new();
        for upstream in &upstreams {
            queues.insert(upstream.id, queue(&mut snapshot, upstream.id, depth(upstream.id, &sources), now).await?);
        }
        let origins = sqlx::query(ORIGINS).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let origins = origins.iter().map(OriginStatus::read).collect::<Result<Vec<_>, _>>()?;
        let webhooks = sqlx::query(STATES).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let webhooks = webhooks.iter().map(WebhookState::of).collect::<Result<Vec<_>, StoreError>>()?;
        let disk = self.disk(&mut snapshot).await?;
        Ok(Reading { now, owner, sources, upstreams, census, queues, origins, disk, webhooks }.status())
    }

    async fn disk(&self, snapshot: &mut Transaction<'_, Sqlite>) -> Result<Disk, StoreError> {
        let row = sqlx::query(FILE).fetch_one(&mut **snapshot).await.map_err(failed)?;
        let file = Record::of(&row, "pragma", 0);
        let mut log = self.file.get_filename().as_os_str().to_owned();
        log.push("-wal");
        // It isn't there while nobody writes.
        let log = std::fs::metadata(log).map_or(0, |log| log.len());
        Ok(Disk { bytes: file.count("bytes")?, free: Some(file.count("free")?), log: Some(log) })
    }
}

async fn queue(
    snapshot: &mut Transaction<'_, Sqlite>,
    upstream: UpstreamId,
    depth: i64,
    now: DateTime<Utc>,
) -> Result<Queue, StoreError> {
    let rows = sqlx::query(QUEUE).bind(upstream.0).bind(micros(now)).bind(depth).bind(micros(FIRST_ASIDE));
    let rows = rows.fetch_all(&mut **snapshot).await;
    let due = sqlx::query_scalar(DUE).bind(upstream.0).bind(micros(now)).bind(MOST_DUE + 1);
    let due = due.fetch_one(&mut **snapshot).await.map_err(failed)?;
    Queue::read(&rows.map_err(failed)?, depth, due)
}
