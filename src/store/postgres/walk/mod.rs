//! Collections: a page is one transaction, and so is the end of a walk.

pub(super) mod end;
pub(super) mod page;

use chrono::{DateTime, Utc};

use super::error::Result;
use super::{PostgresStore, keys, origins, wish};
use crate::domain::collection::{Known, Remembered};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::origin::{FIRST_OF_OTHERS, WALK};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::store::columns::micros;
use crate::store::plan::Leases;
use crate::store::walks;
use crate::store::{LeaseToken, StoreError, WalkLease};

const OPENED: &str = "
    SELECT w.resource_id FROM headpond.walk w JOIN headpond.resource r ON r.id = w.resource_id
     WHERE w.source_id = $1 AND r.retired_at IS NULL";

const OPEN_RESOURCE: &str = "
    INSERT INTO headpond.resource (source_id, key, params) VALUES ($1, '', '{}')
        ON CONFLICT (source_id, key) DO UPDATE SET retired_at = NULL
    RETURNING id";

/// Because 1: it never ran.
const OPEN_SCHEDULE: &str = "
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT $2, upstream_id, id, $3, 1 FROM headpond.source WHERE id = $1
        ON CONFLICT (resource_id) DO UPDATE SET due_at = excluded.due_at, because = 1";

const OPEN_WALK: &str = "
    INSERT INTO headpond.walk (source_id, resource_id) VALUES ($1, $2)
        ON CONFLICT (source_id) DO UPDATE SET resource_id = excluded.resource_id";

/// Members come from somewhere, as keys do. It is not waited for: that the walk has been tried is.
const OPEN_ORIGIN: &str = "
    INSERT INTO headpond.origin (source_id, name, place) VALUES ($1, $2, $3) ON CONFLICT (source_id, name) DO NOTHING";

pub(super) async fn open(store: &PostgresStore, source: SourceId) -> Result<ResourceId> {
    let opened: Option<i64> = sqlx::query_scalar(OPENED).bind(source.0).fetch_optional(&store.readers).await?;
    if let Some(opened) = opened {
        return Ok(ResourceId(opened));
    }
    let mut tx = store.begin().await?;
    keys::lock_source(&mut tx, source).await?;
    let walk: i64 = sqlx::query_scalar(OPEN_RESOURCE).bind(source.0).fetch_one(&mut *tx).await?;
    let schedule = sqlx::query(OPEN_SCHEDULE).bind(source.0).bind(walk).bind(micros(store.clock.now()));
    schedule.execute(&mut *tx).await?;
    sqlx::query(OPEN_WALK).bind(source.0).bind(walk).execute(&mut *tx).await?;
    sqlx::query(OPEN_ORIGIN).bind(source.0).bind(WALK).bind(FIRST_OF_OTHERS).execute(&mut *tx).await?;
    wish(&mut tx).await?;
    tx.commit().await?;
    Ok(ResourceId(walk))
}

const CLOSE_WALKS: &str = "DELETE FROM headpond.walk WHERE source_id <> ALL($1) RETURNING source_id, resource_id";
const CLOSE_PAGES: &str = "DELETE FROM headpond.walk_page WHERE source_id = ANY($1)";

pub(super) async fn close_others(store: &PostgresStore, keep: &[SourceId]) -> Result<u64> {
    let keep: Vec<i64> = keep.iter().map(|id| id.0).collect();
    let mut tx = store.begin().await?;
    let closed: Vec<(i64, i64)> = sqlx::query_as(CLOSE_WALKS).bind(keep).fetch_all(&mut *tx).await?;
    if closed.is_empty() {
        return Ok(0);
    }
    let (sources, mut walks): (Vec<i64>, Vec<i64>) = closed.iter().copied().unzip();
    walks.sort_unstable();
    sqlx::query(CLOSE_PAGES).bind(sources).execute(&mut *tx).await?;
    sqlx::query(origins::NEVER_DUE).bind(&walks).execute(&mut *tx).await?;
    sqlx::query(origins::RETIRE).bind(&walks).bind(micros(store.clock.now())).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(closed.len() as u64)
}

pub(super) const WALK_ROW: &str = "
    SELECT source_id, fingerprint, number, kind, began_at, pages, next, newest, left_out, since, swept_at, held
      FROM headpond.walk WHERE source_id = $1";

pub(super) const BEEN_ON: &str =
    "SELECT step, hash FROM headpond.walk_page WHERE source_id = $1 AND walk = $2 ORDER BY place";

/// No transaction: the walk is leased to who asks, and nobody else writes these rows.
pub(super) async fn walk(store: &PostgresStore, source: SourceId, asks: Fingerprint) -> Result<Known> {
    let row = sqlx::query(WALK_ROW).bind(source.0).fetch_optional(&store.readers).await?;
    let Some(row) = row else { return Ok(Known::default()) };
    let mut known = walks::known(&row, asks)?;
    if known.under_way.is_some() {
        let pages = sqlx::query(BEEN_ON).bind(source.0).bind(known.number).fetch_all(&store.readers).await?;
        known.been_on = pages.iter().map(walks::been_on).collect::<Result<_, StoreError>>()?;
    }
    Ok(known)
}

pub(super) const PAGE: &str = "
    SELECT step, next, etag, last_modified, hash FROM headpond.walk_page WHERE source_id = $1 AND place = $2";

pub(super) async fn page(store: &PostgresStore, source: SourceId, place: u32) -> Result<Option<Remembered>> {
    let row = sqlx::query(PAGE).bind(source.0).bind(i64::from(place)).fetch_optional(&store.readers).await?;
    Ok(row.as_ref().map(walks::remembered).transpose()?)
}

pub(super) const RENEW: &str = "UPDATE headpond.lease SET expires_at = greatest(expires_at, $2) WHERE token = $1";

pub(super) async fn renew(store: &PostgresStore, token: LeaseToken, until: DateTime<Utc>) -> Result<bool> {
    let mut tx = store.begin().await?;
    let renewed = sqlx::query(RENEW).bind(token.0).bind(micros(until)).execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(renewed > 0)
}

/// The upstream of the lease, if it still holds the walk.
fn held(leases: &Leases, lease: &WalkLease) -> Option<UpstreamId> {
    leases.get(&lease.token).filter(|held| held.resources.contains(&lease.walk)).map(|held| held.upstream)
}
