//! Upstreams and sources.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgConnection, Row};

use super::PostgresStore;
use super::error::Result;
use crate::domain::limit::Limits;
use crate::domain::resource::{SourceId, UpstreamId};
use crate::store::columns::{Record, micros};
use crate::store::{Registered, SourceSpec};

/// An upstream starts with a full bucket, and keeps its tokens when its limits change.
const UPSTREAMS: &str = "
    INSERT INTO headpond.upstream (name, requests_per_second, burst, max_concurrent, tokens, tokens_at)
    SELECT name, rate, burst, concurrent, tokens, $6
      FROM unnest($1::text[], $2::double precision[], $3::integer[], $4::integer[], $5::double precision[])
           AS n (name, rate, burst, concurrent, tokens)
     ORDER BY name
        ON CONFLICT (name) DO UPDATE
       SET requests_per_second = excluded.requests_per_second, burst = excluded.burst,
           max_concurrent = excluded.max_concurrent";

/// What each source's upstream was before, if it is known.
const SOURCES: &str = "
      WITH known AS (SELECT name, upstream_id FROM headpond.source WHERE name = ANY($1))
    INSERT INTO headpond.source AS s (name, upstream_id)
    SELECT n.name, u.id
      FROM unnest($1::text[], $2::text[]) AS n (name, upstream) JOIN headpond.upstream u ON u.name = n.upstream
     ORDER BY n.name
        ON CONFLICT (name) DO UPDATE SET upstream_id = excluded.upstream_id
 RETURNING id, name, upstream_id,
           upstream_id <> (SELECT known.upstream_id FROM known WHERE known.name = s.name) AS has_moved";

/// By the resources' unique index: the schedule has none by source.
const MOVE: &str = "
    UPDATE headpond.schedule SET upstream_id = $2
     WHERE resource_id IN (SELECT id FROM headpond.resource WHERE source_id = $1)";

pub(super) async fn register(store: &PostgresStore, sources: &[SourceSpec]) -> Result<Vec<Registered>> {
    let mut tx = store.begin().await?;
    put_upstreams(store, &mut tx, sources).await?;
    let named: BTreeMap<_, _> = sources.iter().map(|s| (s.name.as_str(), s.upstream.as_str())).collect();
    let rows = sqlx::query(SOURCES)
        .bind(named.keys().copied().collect::<Vec<_>>())
        .bind(named.values().copied().collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
    let mut registered = HashMap::new();
    for row in &rows {
        let record = Record::identified_by(row, "source", "id")?;
        let ids = Registered { source: SourceId(record.id()), upstream: UpstreamId(record.integer("upstream_id")?) };
        if row.try_get::<Option<bool>, _>("has_moved")? == Some(true) {
            sqlx::query(MOVE).bind(ids.source.0).bind(ids.upstream.0).execute(&mut *tx).await?;
        }
        registered.insert(record.source_name("name")?, ids);
    }
    tx.commit().await?;
    Ok(sources.iter().filter_map(|source| registered.get(&source.name).copied()).collect())
}

async fn put_upstreams(store: &PostgresStore, tx: &mut PgConnection, sources: &[SourceSpec]) -> Result<()> {
    let upstreams: BTreeMap<_, _> = sources.iter().map(|source| (source.upstream.as_str(), source.limits)).collect();
    let saturated = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(UPSTREAMS)
        .bind(upstreams.keys().copied().collect::<Vec<_>>())
        .bind(upstreams.values().map(|limits| limits.requests_per_second).collect::<Vec<_>>())
        .bind(upstreams.values().map(|limits| saturated(limits.burst)).collect::<Vec<_>>())
        .bind(upstreams.values().map(|limits| saturated(limits.max_concurrent)).collect::<Vec<_>>())
        .bind(upstreams.values().map(Limits::capacity).collect::<Vec<_>>())
        .bind(micros(store.clock.now()))
        .execute(tx)
        .await?;
    Ok(())
}
