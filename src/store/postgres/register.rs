//! Upstreams and sources.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

use super::error::Result;
use super::{PostgresStore, wish};
use crate::domain::limit::Limits;
use crate::domain::resource::{SourceId, UpstreamId};
use crate::store::columns::{Record, micros};
use crate::store::{Registered, SourceSpec, no_such_source};

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

/// Locked before they are written, by id: two programs whose configs differ move a source one after the other.
const KNOWN: &str = "
    SELECT name, upstream_id FROM headpond.source WHERE name = ANY($1) ORDER BY id FOR NO KEY UPDATE";

/// As above. What is new is inserted by name.
const LOCK_UPSTREAMS: &str = "
    SELECT id FROM headpond.upstream WHERE name = ANY($1) ORDER BY id FOR NO KEY UPDATE";

const SOURCES: &str = "
    INSERT INTO headpond.source (name, upstream_id)
    SELECT n.name, u.id
      FROM unnest($1::text[], $2::text[]) AS n (name, upstream) JOIN headpond.upstream u ON u.name = n.upstream
     ORDER BY n.name
        ON CONFLICT (name) DO UPDATE SET upstream_id = excluded.upstream_id
 RETURNING id, name, upstream_id";

/// By the resources' unique index: the schedule has none by source.
const MOVE: &str = "
    UPDATE headpond.schedule s SET upstream_id = $2
      FROM (SELECT s.resource_id
              FROM headpond.resource r JOIN headpond.schedule s ON s.resource_id = r.id
             WHERE r.source_id = $1 ORDER BY s.resource_id FOR NO KEY UPDATE OF s) AS moved
     WHERE s.resource_id = moved.resource_id";

pub(super) async fn register(store: &PostgresStore, sources: &[SourceSpec]) -> Result<Vec<Registered>> {
    let mut tx = store.begin().await?;
    let pairs: BTreeMap<_, _> = sources.iter().map(|s| (s.name.as_str(), s.upstream.as_str())).collect();
    let (names, upstreams): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let known: Vec<(String, i64)> = sqlx::query_as(KNOWN).bind(&names).fetch_all(&mut *tx).await?;
    let known: HashMap<_, _> = known.into_iter().collect();
    put_upstreams(store, &mut tx, sources).await?;
    let rows = sqlx::query(SOURCES).bind(names).bind(upstreams).fetch_all(&mut *tx).await?;
    let (mut registered, mut has_moved) = (HashMap::new(), false);
    for row in &rows {
        let record = Record::identified_by(row, "source", "id")?;
        let (id, upstream, name) = (record.id(), record.integer("upstream_id")?, record.source_name("name")?);
        if known.get(name.as_str()).is_some_and(|before| *before != upstream) {
            sqlx::query(MOVE).bind(id).bind(upstream).execute(&mut *tx).await?;
            has_moved = true;
        }
        registered.insert(name, Registered { source: SourceId(id), upstream: UpstreamId(upstream) });
    }
    if has_moved {
        wish(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(sources.iter().filter_map(|source| registered.get(&source.name).copied()).collect())
}

const FOUND: &str = "SELECT id, name, upstream_id FROM headpond.source WHERE name = ANY($1)";

/// The sources as they are.
pub(super) async fn registered(store: &PostgresStore, sources: &[SourceSpec]) -> Result<Vec<Registered>> {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(FOUND).bind(names).fetch_all(&store.readers).await?;
    let found: HashMap<_, _> = rows
        .into_iter()
        .map(|(id, name, upstream)| (name, Registered { source: SourceId(id), upstream: UpstreamId(upstream) }))
        .collect();
    let ids = |source: &SourceSpec| found.get(source.name.as_str()).copied();
    sources.iter().map(|source| ids(source).ok_or_else(|| no_such_source(&source.name).into())).collect()
}

async fn put_upstreams(store: &PostgresStore, tx: &mut PgConnection, sources: &[SourceSpec]) -> Result<()> {
    let upstreams: BTreeMap<_, _> = sources.iter().map(|source| (source.upstream.as_str(), source.limits)).collect();
    let names: Vec<&str> = upstreams.keys().copied().collect();
    sqlx::query(LOCK_UPSTREAMS).bind(&names).execute(&mut *tx).await?;
    let saturated = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(UPSTREAMS)
        .bind(names)
        .bind(upstreams.values().map(|limits| limits.requests_per_second).collect::<Vec<_>>())
        .bind(upstreams.values().map(|limits| saturated(limits.burst)).collect::<Vec<_>>())
        .bind(upstreams.values().map(|limits| saturated(limits.max_concurrent)).collect::<Vec<_>>())
        .bind(upstreams.values().map(Limits::capacity).collect::<Vec<_>>())
        .bind(micros(store.clock.now()))
        .execute(tx)
        .await?;
    Ok(())
}
