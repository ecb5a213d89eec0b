//! Collections: a page is one transaction, and so is the end of a walk.

pub(super) mod end;
pub(super) mod page;

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::error::failed;
use super::script::Argument::{self, Integer, Null, Text};
use super::writer::Durability;
use super::{SqliteStore, WISH, json, origins};
use crate::domain::collection::{Known, Remembered};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::origin::{FIRST_OF_OTHERS, WALK};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::store::columns::micros;
use crate::store::plan::Leases;
use crate::store::walks;
use crate::store::{LeaseToken, StoreError, WalkLease};

const OPENED: &str = "
    SELECT w.resource_id FROM headpond_walk AS w JOIN headpond_resource AS r ON r.id = w.resource_id
    WHERE w.source_id = ?1 AND r.retired_at IS NULL";

const OPEN_RESOURCE: &str = "
    INSERT INTO headpond_resource (source_id, key, params) VALUES (?1, '', '{}')
    ON CONFLICT (source_id, key) DO UPDATE SET retired_at = NULL";

/// Because 1: it never ran.
const OPEN_SCHEDULE: &str = "
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT r.id, s.upstream_id, s.id, ?2, 1
    FROM headpond_source AS s JOIN headpond_resource AS r ON r.source_id = s.id AND r.key = '' WHERE s.id = ?1
    ON CONFLICT (resource_id) DO UPDATE SET due_at = excluded.due_at, because = 1";

const OPEN_WALK: &str = "
    INSERT INTO headpond_walk (source_id, resource_id)
    SELECT source_id, id FROM headpond_resource WHERE source_id = ?1 AND key = ''
    ON CONFLICT (source_id) DO UPDATE SET resource_id = excluded.resource_id
    RETURNING resource_id";

/// Members come from somewhere, as keys do. It is not waited for: that the walk has been tried is.
const OPEN_ORIGIN: &str = "
    INSERT INTO headpond_origin (source_id, name, place) VALUES (?1, ?2, ?3) ON CONFLICT (source_id, name) DO NOTHING";

const OTHERS: &str = "
    SELECT source_id, resource_id FROM headpond_walk WHERE source_id NOT IN (SELECT value FROM json_each(?1))";

const CLOSE_WALKS: &str = "DELETE FROM headpond_walk WHERE source_id IN (SELECT value FROM json_each(?1))";
const CLOSE_PAGES: &str = "DELETE FROM headpond_walk_page WHERE source_id IN (SELECT value FROM json_each(?1))";

pub(super) const WALK_ROW: &str = "
    SELECT source_id, fingerprint, number, kind, began_at, pages, next, newest, left_out, since, swept_at, held
    FROM headpond_walk WHERE source_id = ?1";

pub(super) const BEEN_ON: &str =
    "SELECT step, hash FROM headpond_walk_page WHERE source_id = ?1 AND walk = ?2 ORDER BY place";

pub(super) const PAGE: &str = "
    SELECT step, next, etag, last_modified, hash FROM headpond_walk_page WHERE source_id = ?1 AND place = ?2";

const RENEWED: &str = "
    UPDATE headpond_lease SET expires_at = max(expires_at, ?2) WHERE token = ?1 RETURNING token";

fn maybe_text(text: Option<String>) -> Argument {
    text.map_or(Null, Text)
}

fn maybe_integer(integer: Option<i64>) -> Argument {
    integer.map_or(Null, Integer)
}

fn ids(ids: &[ResourceId]) -> Result<Argument, StoreError> {
    Ok(Text(json(ids)?))
}

impl SqliteStore {
    pub(super) async fn open_walk_of(&self, source: SourceId) -> Result<ResourceId, StoreError> {
        let opened = sqlx::query_scalar(OPENED).bind(source.0).fetch_optional(&self.readers).await.map_err(failed)?;
        if let Some(opened) = opened {
            return Ok(ResourceId(opened));
        }
        let mut work = self.work(Durability::Full).await?;
        work.add(OPEN_RESOURCE, &[source.0.into()])?;
        work.add(OPEN_SCHEDULE, &[source.0.into(), micros(self.clock.now()).into()])?;
        work.add(OPEN_ORIGIN, &[source.0.into(), Text(WALK.into()), FIRST_OF_OTHERS.into()])?;
        work.add(WISH, &[])?.add(OPEN_WALK, &[source.0.into()])?;
        let rows = work.commit().await?;
        let row = rows.iter().flatten().next().ok_or_else(|| crate::store::origins::no_source(source.0))?;
        row.try_get("resource_id").map(ResourceId).map_err(failed)
    }

    pub(super) async fn close_other_walks(&self, keep: &[SourceId]) -> Result<u64, StoreError> {
        let keep = json(&keep.iter().map(|id| id.0).collect::<Vec<_>>())?;
        let others: Vec<(i64, i64)> =
            sqlx::query_as(OTHERS).bind(keep).fetch_all(&self.readers).await.map_err(failed)?;
        if others.is_empty() {
            return Ok(0);
        }
        let sources = Text(json(&others.iter().map(|(source, _)| source).collect::<Vec<_>>())?);
        let walks = Text(json(&others.iter().map(|(_, walk)| walk).collect::<Vec<_>>())?);
        let mut work = self.work(Durability::Full).await?;
        work.add(origins::RETIRE, &[walks, micros(self.clock.now()).into()])?;
        let walks = Text(json(&others.iter().map(|(_, walk)| walk).collect::<Vec<_>>())?);
        work.add(origins::NEVER_DUE, &[walks])?;
        work.add(CLOSE_WALKS, std::slice::from_ref(&sources))?.add(CLOSE_PAGES, &[sources])?;
        work.commit().await?;
        Ok(others.len() as u64)
    }

    pub(super) async fn read_walk(&self, source: SourceId, asks: Fingerprint) -> Result<Known, StoreError> {
        let mut moment = self.readers.begin().await.map_err(failed)?;
        let row = sqlx::query(WALK_ROW).bind(source.0).fetch_optional(&mut *moment).await.map_err(failed)?;
        let Some(row) = row else { return Ok(Known::default()) };
        let mut known = walks::known(&row, asks)?;
        if known.under_way.is_some() {
            let pages = sqlx::query(BEEN_ON).bind(source.0).bind(known.number).fetch_all(&mut *moment).await;
            known.been_on = pages.map_err(failed)?.iter().map(walks::been_on).collect::<Result<_, _>>()?;
        }
        Ok(known)
    }

    pub(super) async fn read_walk_page(&self, source: SourceId, place: u32) -> Result<Option<Remembered>, StoreError> {
        let row = sqlx::query(PAGE).bind(source.0).bind(place).fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(walks::remembered).transpose()
    }

    pub(super) async fn renew_lease(&self, token: LeaseToken, until: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut work = self.work(Durability::Relaxed).await?;
        let rows = work.add(RENEWED, &[token.0.into(), micros(until).into()])?.run().await?;
        let is_held = rows.iter().flatten().next().is_some();
        work.commit().await?;
        Ok(is_held)
    }
}

/// The upstream of the lease, if it still holds the walk.
fn held(leases: &Leases, lease: &WalkLease) -> Option<UpstreamId> {
    leases.get(&lease.token).filter(|held| held.resources.contains(&lease.walk)).map(|held| held.upstream)
}
