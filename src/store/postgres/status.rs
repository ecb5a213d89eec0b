//! How all stands: the census, the beginnings of the due index, and the tables.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::PostgresStore;
use super::begin::begin_reading;
use super::error::Result;
use super::owner::OWNER;
use super::webhooks::STATES;
use crate::domain::resource::UpstreamId;
use crate::domain::schedule::FIRST_ASIDE;
use crate::store::columns::{CONFIG_OWNER, micros, parse_config_owner};
use crate::store::status::{CensusRow, Disk, MOST_DUE, Queue, Reading, SourceRow, Status, UpstreamRow, depth};
use crate::store::{OriginStatus, StoreError, WebhookState};

pub(super) const SOURCES: &str = "
    SELECT s.id, s.name, s.upstream_id, s.keys, s.ready::integer AS ready, f.key, f.at, f.kind, f.status, f.detail,
           coalesce(h.versions, 0)::bigint AS versions, coalesce(h.bytes, 0)::bigint AS bytes
      FROM headpond.source s LEFT JOIN headpond.last_failure f ON f.source_id = s.id
      LEFT JOIN (SELECT source_id, sum(versions) AS versions, sum(bytes) AS bytes
                   FROM headpond.kept_size GROUP BY source_id) AS h ON h.source_id = s.id
     ORDER BY s.name";

pub(super) const UPSTREAMS: &str = "
    SELECT id, name, requests_per_second, burst, max_concurrent, tokens, tokens_at, outages, standing, budgets,
           (SELECT count(*)
              FROM headpond.lease l, unnest(l.resources) AS held
             WHERE l.upstream_id = u.id AND l.expires_at > $1 AND held <> ALL(l.riders)) AS in_flight
      FROM headpond.upstream u ORDER BY name";

/// Rows that are alike are added up first: some of them only take away. The walks of collections are kept as resources are, but
/// they are no keys: they are taken away, too.
pub(super) const CENSUS: &str = "
    SELECT source_id, because, standing, sum(n)::bigint AS resources,
           coalesce(sum(n) FILTER (WHERE fetched_by = 0), 0)::bigint AS pending,
           coalesce(sum(n) FILTER (WHERE fresh_until > $1), 0)::bigint AS fresh,
           min(fetched_by) FILTER (WHERE fetched_by > 0) AS oldest
      FROM (SELECT source_id, because, standing, fetched_by, fresh_until, sum(n) AS n
              FROM (SELECT source_id, because, standing, fetched_by, fresh_until, n FROM headpond.census
                     UNION ALL
                    SELECT s.source_id, s.because, s.standing,
                           coalesce(s.fetched_at | headpond.rounding(s.fetched_at, s.stale_after), 0),
                           coalesce(s.stale_after | headpond.rounding(s.fetched_at, s.stale_after), 0), -1
                      FROM headpond.walk w JOIN headpond.schedule s ON s.resource_id = w.resource_id
                     WHERE s.due_at IS NOT NULL) AS census
             GROUP BY source_id, because, standing, fetched_by, fresh_until
            HAVING sum(n) > 0) AS alike
     GROUP BY source_id, because, standing";

/// The beginning of an upstream's due index, by source. What is due before all others (0) is due since someone asked for it;
/// without a wish, since now. What nobody polls (from $4 on) is not in it.
pub(super) const QUEUE: &str = "
    SELECT source_id, count(*) AS entries,
           min(CASE WHEN due_at > 0 THEN due_at ELSE coalesce(wanted_at, $2) END) AS next_due_at,
           max(due_at) AS last_due_at
      FROM (SELECT source_id, due_at, wanted_at
              FROM headpond.schedule
             WHERE upstream_id = $1 AND due_at < $4
               AND resource_id NOT IN (SELECT unnest(resources) FROM headpond.lease WHERE expires_at > $2)
             ORDER BY due_at LIMIT $3) AS beginning
     GROUP BY source_id";

/// What is due of an upstream and not leased, no further than $3.
pub(super) const DUE: &str = "
    SELECT count(*)
      FROM (SELECT FROM headpond.schedule
             WHERE upstream_id = $1 AND due_at <= $2
               AND resource_id NOT IN (SELECT unnest(resources) FROM headpond.lease WHERE expires_at > $2)
             ORDER BY due_at LIMIT $3) AS due";

/// Where keys come from, those first whose parameters hold.
pub(super) const ORIGINS: &str = "
    SELECT source_id, name, about, keys, synced_at, problem, problem_at
      FROM headpond.origin ORDER BY source_id, place";

const TABLES: &str = "
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
      FROM pg_class WHERE relnamespace = to_regnamespace('headpond') AND relkind = 'r'";

pub(super) async fn status(store: &PostgresStore, now: DateTime<Utc>) -> Result<Status> {
    let mut snapshot = begin_reading(&store.readers).await?;
    let owner: Option<String> = sqlx::query_scalar(OWNER).bind(CONFIG_OWNER).fetch_optional(&mut *snapshot).await?;
    let owner = owner.map_or(Ok(None), |stored| parse_config_owner(&stored, now))?;
    let sources = sqlx::query(SOURCES).fetch_all(&mut *snapshot).await?;
    let sources = sources.iter().map(SourceRow::read).collect::<Result<Vec<_>, StoreError>>()?;
    let upstreams = sqlx::query(UPSTREAMS).bind(micros(now)).fetch_all(&mut *snapshot).await?;
    let upstreams = upstreams.iter().map(|row| UpstreamRow::read(row, now)).collect::<Result<Vec<_>, StoreError>>()?;
    let census = sqlx::query(CENSUS).bind(micros(now)).fetch_all(&mut *snapshot).await?;
    let census = census.iter().map(CensusRow::read).collect::<Result<Vec<_>, StoreError>>()?;
    let mut queues = HashMap::new();
    for upstream in &upstreams {
        queues.insert(upstream.id, queue(&mut snapshot, upstream.id, depth(upstream.id, &sources), now).await?);
    }
    let origins = sqlx::query(ORIGINS).fetch_all(&mut *snapshot).await?;
    let origins = origins.iter().map(OriginStatus::read).collect::<Result<Vec<_>, StoreError>>()?;
    let webhooks = sqlx::query(STATES).fetch_all(&mut *snapshot).await?;
    let webhooks = webhooks.iter().map(WebhookState::of).collect::<Result<Vec<_>, StoreError>>()?;
    let bytes: i64 = sqlx::query_scalar(TABLES).fetch_one(&mut *snapshot).await?;
    let disk = Disk { bytes: bytes.unsigned_abs(), free: None, log: None };
    Ok(Reading { now, owner, sources, upstreams, census, queues, origins, disk, webhooks }.status())
}

async fn queue(snapshot: &mut PgConnection, upstream: UpstreamId, depth: i64, now: DateTime<Utc>) -> Result<Queue> {
    let rows = sqlx::query(QUEUE).bind(upstream.0).bind(micros(now)).bind(depth).bind(micros(FIRST_ASIDE));
    let rows = rows.fetch_all(&mut *snapshot).await?;
    let due = sqlx::query_scalar(DUE).bind(upstream.0).bind(micros(now)).bind(MOST_DUE + 1);
    Ok(Queue::read(&rows, depth, due.fetch_one(snapshot).await?)?)
}
