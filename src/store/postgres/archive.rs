//! Copies that come from an archive, or go into one.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::apply::write_plan;
use super::error::Result;
use super::keys::lock_source;
use super::{PostgresStore, lease};
use crate::domain::archive::Restored;
use crate::domain::resource::{Key, SourceId};
use crate::store::archive::{Imports, Stored, exported, with_copies};
use crate::store::columns::{micros, params_json};
use crate::store::{Exported, Import, LeaseToken, StoreError};

/// As `CURRENT` of one resource, and what an archive has besides.
pub(super) const EXPORT: &str = "
    SELECT r.id, r.key, r.params, r.max_age, r.content_hash,
           r.version, r.etag, r.last_modified, r.gone_since, r.terms, r.transformed, r.moved_to,
           r.failures, r.failing_since, r.failed_at, r.failure_kind, r.failure_status, r.failure_detail,
           t.due_at, t.because, t.wanted_at, t.hastened_at, t.fetched_at, t.stale_after,
           c.etag AS own_etag, c.changed_at, c.headers, c.body, NULL::bigint AS leased_until, NULL::bigint AS erased_at,
           NULL::bigint AS walk, NULL::bigint AS walked_at,
           (SELECT string_agg(o.name, ',') FROM headpond.key_origin k JOIN headpond.origin o ON o.id = k.origin_id
             WHERE k.resource_id = r.id AND o.name IN ('api', 'cli')) AS hands
      FROM headpond.resource r
      JOIN headpond.schedule t ON t.resource_id = r.id
      LEFT JOIN headpond.content c ON c.resource_id = r.id
     WHERE r.source_id = $1 AND r.key > $2 AND r.retired_at IS NULL
     ORDER BY r.key LIMIT $3";

pub(super) async fn export(
    store: &PostgresStore,
    source: SourceId,
    after: Option<&Key>,
    at_most: u32,
) -> Result<Vec<Exported>> {
    let rows = sqlx::query(EXPORT).bind(source.0).bind(after.map_or("", Key::as_str)).bind(i64::from(at_most));
    let rows = rows.fetch_all(&store.readers).await?;
    Ok(rows.iter().map(exported).collect::<std::result::Result<_, StoreError>>()?)
}

/// What isn't there comes unpolled.
pub(super) const INSERT_UNPOLLED: &str = "
      WITH added AS (
               INSERT INTO headpond.resource (source_id, key, params, retired_at)
               SELECT $1, n.key, n.params, $4
                 FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS n (key, params, place)
                ORDER BY n.place ON CONFLICT DO NOTHING
            RETURNING id)
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT added.id, s.upstream_id, s.id, NULL, 1 FROM added, headpond.source s WHERE s.id = $1";

/// Claims take this lock too: none of them leases what is about to be written.
const LOCK_UPSTREAM: &str = "
    SELECT u.id FROM headpond.upstream u JOIN headpond.source s ON s.upstream_id = u.id
     WHERE s.id = $1 FOR NO KEY UPDATE OF u";

pub(super) const STORED: &str = "
    SELECT r.id, r.key, r.version, r.content_hash, r.gone_since, t.due_at, t.because, t.fetched_at, r.erased_at, s.erase_gone
      FROM headpond.resource r
      JOIN headpond.schedule t ON t.resource_id = r.id
      JOIN headpond.source s ON s.id = r.source_id
     WHERE r.source_id = $1 AND r.key = ANY($2)
     ORDER BY r.id FOR NO KEY UPDATE OF t";

pub(super) async fn import(store: &PostgresStore, source: SourceId, batch: &[Restored]) -> Result<Vec<Import>> {
    let mut tx = store.begin().await?;
    lock_source(&mut tx, source).await?;
    let now = store.clock.now();
    let (keys, params): (Vec<_>, Vec<_>) =
        with_copies(batch).map(|one| (one.key.as_str(), params_json(&one.params))).unzip();
    sqlx::query(INSERT_UNPOLLED).bind(source.0).bind(keys).bind(params).bind(micros(now)).execute(&mut *tx).await?;
    sqlx::query(LOCK_UPSTREAM).bind(source.0).execute(&mut *tx).await?;
    let tokens = leases(&mut tx, source, batch).await?;
    let leases = lease::lock(&mut tx, &tokens.into_iter().collect()).await?;
    let keys: Vec<_> = batch.iter().map(|one| one.key.as_str()).collect();
    let stored = sqlx::query(STORED).bind(source.0).bind(keys).fetch_all(&mut *tx).await?;
    let stored = stored.iter().map(Stored::read).collect::<std::result::Result<HashMap<_, _>, _>>()?;
    let imports = Imports::of(batch, &stored);
    if imports.are_none() {
        return Ok(imports.fates);
    }
    let plan = imports.plan(&leases, now);
    write_plan(store, &mut tx, &plan, &leases, false).await?;
    tx.commit().await?;
    Ok(imports.fates)
}

/// There are no more of them than requests may be under way.
pub(super) const LEASES: &str = "
    SELECT token FROM headpond.lease
     WHERE resources && ARRAY(SELECT id FROM headpond.resource WHERE source_id = $1 AND key = ANY($2))";

/// What holds resources of the batch.
async fn leases(tx: &mut PgConnection, source: SourceId, batch: &[Restored]) -> Result<Vec<LeaseToken>> {
    let keys: Vec<_> = batch.iter().map(|one| one.key.as_str()).collect();
    let tokens: Vec<i64> = sqlx::query_scalar(LEASES).bind(source.0).bind(keys).fetch_all(tx).await?;
    Ok(tokens.into_iter().map(LeaseToken).collect())
}
