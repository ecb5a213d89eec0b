//! Upstreams and sources.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

use super::error::Result;
use super::{PostgresStore, history, wish};
use crate::domain::limit::Limits;
use crate::domain::resource::{SourceId, UpstreamId};
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::{Registered, SourceSpec, check_fingerprint, no_such_source};

/// An upstream starts with a full bucket, and keeps its tokens when its limits change.
const UPSTREAMS: &str = "
    INSERT INTO headpond.upstream (name, requests_per_second, burst, max_concurrent, tokens, tokens_at, budgets)
    SELECT name, rate, burst, concurrent, tokens, $6, budgets
      FROM unnest($1::text[], $2::double precision[], $3::integer[], $4::integer[], $5::double precision[],
                  $7::text[])
           AS n (name, rate, burst, concurrent, tokens, budgets)
     ORDER BY name
        ON CONFLICT (name) DO UPDATE
       SET requests_per_second = excluded.requests_per_second, burst = excluded.burst,
           max_concurrent = excluded.max_concurrent, budgets = excluded.budgets";

/// Locked before they are written, by id: two programs whose configs differ move a source one after the other.
const KNOWN: &str = "
    SELECT name, upstream_id, fingerprint FROM headpond.source WHERE name = ANY($1) ORDER BY id FOR NO KEY UPDATE";

/// As above, with those that sources move away from. What is new is inserted by name.
const LOCK_UPSTREAMS: &str = "
    SELECT id FROM headpond.upstream WHERE name = ANY($1) OR id = ANY($2) ORDER BY id FOR NO KEY UPDATE";

const SOURCES: &str = "
    INSERT INTO headpond.source (name, upstream_id, fingerprint)
    SELECT n.name, u.id, n.fingerprint
      FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (name, upstream, fingerprint)
      JOIN headpond.upstream u ON u.name = n.upstream
     ORDER BY n.name
        ON CONFLICT (name) DO UPDATE SET upstream_id = excluded.upstream_id, fingerprint = excluded.fingerprint
 RETURNING id, name, upstream_id";

/// By the resources' unique index: the schedule has none by source.
const MOVE: &str = "
    UPDATE headpond.schedule s SET upstream_id = $2
      FROM (SELECT s.resource_id
              FROM headpond.resource r JOIN headpond.schedule s ON s.resource_id = r.id
             WHERE r.source_id = $1 ORDER BY s.resource_id FOR NO KEY UPDATE OF s) AS moved
     WHERE s.resource_id = moved.resource_id";

/// What these sources ask for is something else now. Members of a collection (11) come with its walk, where it still has one
/// ($4). `wanted_at` leaves what is being fetched due, and without the validators that come; the retired have one too, for
/// those of them that are still being fetched.
const DUE_ANEW: &str = "
    UPDATE headpond.schedule s
       SET due_at = CASE WHEN s.due_at IS NOT NULL THEN least(s.due_at, $2) END,
           because = CASE s.because WHEN 1 THEN 1 ELSE $3 END, wanted_at = $2
      FROM (SELECT s.resource_id
              FROM headpond.resource r JOIN headpond.schedule s ON s.resource_id = r.id
             WHERE r.source_id = ANY($1) AND (s.because <> 11 OR r.source_id <> ALL($4)) ORDER BY s.resource_id FOR NO KEY UPDATE OF s) AS anew
     WHERE s.resource_id = anew.resource_id";

/// The validators of a collection's pages were given for something else.
const FORGET_PAGES: &str = "DELETE FROM headpond.walk_page WHERE source_id = ANY($1)";

/// Their schedule rows are locked. 404s for something else count for nothing.
const FORGET: &str = "
    UPDATE headpond.resource SET etag = NULL, last_modified = NULL, absences = 0, absent_since = NULL
     WHERE source_id = ANY($1) AND (etag IS NOT NULL OR last_modified IS NOT NULL OR absences > 0)";

/// What was refused may have parts that are dropped from now on.
const FORGET_REFUSED: &str = "
    DELETE FROM headpond.refused f USING headpond.resource r WHERE r.id = f.resource_id AND r.source_id = ANY($1)";

pub(super) async fn register(store: &PostgresStore, sources: &[SourceSpec]) -> Result<Vec<Registered>> {
    let mut tx = store.begin().await?;
    let by_name: BTreeMap<_, _> = sources.iter().map(|source| (source.name.as_str(), source)).collect();
    let names: Vec<&str> = by_name.keys().copied().collect();
    let known: Vec<(String, i64, Option<i64>)> = sqlx::query_as(KNOWN).bind(&names).fetch_all(&mut *tx).await?;
    lock_upstreams(&mut tx, sources, known.iter().map(|(_, upstream, _)| *upstream).collect()).await?;
    put_upstreams(store, &mut tx, sources).await?;
    // Read with the upstreams locked: a claim that was made before is from before this, and any other sees what is written.
    let now = micros(store.clock.now());
    let rows = sqlx::query(SOURCES)
        .bind(names)
        .bind(by_name.values().map(|source| source.upstream.as_str()).collect::<Vec<_>>())
        .bind(by_name.values().map(|source| source.fingerprint.0).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
    let mut registered = HashMap::new();
    for row in &rows {
        let record = Record::identified_by(row, "source", "id")?;
        let ids = Registered { source: SourceId(record.id()), upstream: UpstreamId(record.integer("upstream_id")?) };
        registered.insert(record.source_name("name")?, ids);
    }
    let ids = |source: &SourceSpec| registered.get(&source.name).copied();
    for source in by_name.values() {
        if let Some(ids) = ids(source) {
            history::rule(&mut tx, ids.source, source).await?;
        }
    }
    let before: HashMap<_, _> =
        known.iter().map(|(name, upstream, asked)| (name.as_str(), (*upstream, *asked))).collect();
    let known = by_name.values().filter_map(|source| Some((*source, ids(source)?, *before.get(source.name.as_str())?)));
    take_over(&mut tx, known, now).await?;
    tx.commit().await?;
    Ok(sources.iter().filter_map(ids).collect())
}

/// Makes of what was there, with an upstream and a fingerprint, what the sources say now.
async fn take_over<'s>(
    tx: &mut PgConnection,
    known: impl Iterator<Item = (&'s SourceSpec, Registered, (i64, Option<i64>))>,
    now: i64,
) -> Result<()> {
    let (mut has_moved, mut asks_anew, mut walked) = (false, Vec::new(), Vec::new());
    for (source, ids, (upstream, asked)) in known {
        if upstream != ids.upstream.0 {
            sqlx::query(MOVE).bind(ids.source.0).bind(ids.upstream.0).execute(&mut *tx).await?;
            has_moved = true;
        }
        if asked.is_some_and(|asked| asked != source.fingerprint.0) {
            asks_anew.push(ids.source.0);
            walked.extend(source.is_walked.then_some(ids.source.0));
        }
    }
    if !asks_anew.is_empty() {
        let due = sqlx::query(DUE_ANEW).bind(&asks_anew).bind(now).bind(Because::Manual.code()).bind(walked);
        due.execute(&mut *tx).await?;
        sqlx::query(FORGET).bind(&asks_anew).execute(&mut *tx).await?;
        sqlx::query(FORGET_REFUSED).bind(&asks_anew).execute(&mut *tx).await?;
        sqlx::query(FORGET_PAGES).bind(&asks_anew).execute(&mut *tx).await?;
    }
    if has_moved || !asks_anew.is_empty() {
        wish(tx).await?;
    }
    Ok(())
}

const FOUND: &str = "SELECT id, name, upstream_id, fingerprint FROM headpond.source WHERE name = ANY($1)";

/// The sources as they are.
pub(super) async fn registered(store: &PostgresStore, sources: &[SourceSpec]) -> Result<Vec<Registered>> {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let rows: Vec<(i64, String, i64, Option<i64>)> =
        sqlx::query_as(FOUND).bind(names).fetch_all(&store.readers).await?;
    let found: HashMap<_, _> =
        rows.into_iter().map(|(id, name, upstream, asks)| (name, (id, upstream, asks))).collect();
    let ids = |source: &SourceSpec| {
        let (id, upstream, asks) = *found.get(source.name.as_str()).ok_or_else(|| no_such_source(&source.name))?;
        check_fingerprint(source, asks)?;
        Ok(Registered { source: SourceId(id), upstream: UpstreamId(upstream) })
    };
    sources.iter().map(ids).collect()
}

const UPSTREAM: &str = "SELECT id FROM headpond.upstream WHERE name = $1";

pub(super) async fn upstream(store: &PostgresStore, name: &str) -> Result<Option<UpstreamId>> {
    let id: Option<i64> = sqlx::query_scalar(UPSTREAM).bind(name).fetch_optional(&store.readers).await?;
    Ok(id.map(UpstreamId))
}

async fn lock_upstreams(tx: &mut PgConnection, sources: &[SourceSpec], before: Vec<i64>) -> Result<()> {
    let names: Vec<&str> = sources.iter().map(|source| source.upstream.as_str()).collect();
    sqlx::query(LOCK_UPSTREAMS).bind(names).bind(before).execute(tx).await?;
    Ok(())
}

async fn put_upstreams(store: &PostgresStore, tx: &mut PgConnection, sources: &[SourceSpec]) -> Result<()> {
    let upstreams: BTreeMap<_, _> = sources.iter().map(|source| (source.upstream.as_str(), source.limits)).collect();
    let names: Vec<&str> = upstreams.keys().copied().collect();
    let saturated = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(UPSTREAMS)
        .bind(names)
        .bind(upstreams.values().map(|limits| limits.requests_per_second).collect::<Vec<_>>())
        .bind(upstreams.values().map(|limits| saturated(limits.burst)).collect::<Vec<_>>())
        .bind(upstreams.values().map(|limits| saturated(limits.max_concurrent)).collect::<Vec<_>>())
        .bind(upstreams.values().map(Limits::capacity).collect::<Vec<_>>())
        .bind(micros(store.clock.now()))
        .bind(upstreams.values().map(|limits| limits.budgets.json()).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}
