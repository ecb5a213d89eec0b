//! Copies that come from an archive, or go into one.

use std::collections::HashMap;

use super::error::failed;
use super::keys::LAST_RESOURCE;
use super::lease::parse_ids;
use super::script::Argument::Text;
use super::write::{self, Upstreams};
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::archive::Restored;
use crate::domain::resource::{Key, SourceId, UpstreamId};
use crate::store::archive::{Imports, Stored, exported, with_copies};
use crate::store::columns::{Record, micros, params_json};
use crate::store::plan::{Held, Leases};
use crate::store::{Exported, Import, LeaseToken, StoreError};

/// As `CURRENT` of one resource, and what an archive has besides.
pub(super) const EXPORT: &str = "
    SELECT r.id, r.key, r.params, r.max_age, r.content_hash,
        r.version, r.etag, r.last_modified, r.gone_since, r.terms, r.transformed, r.moved_to,
        r.failures, r.failing_since, r.failed_at, r.failure_kind, r.failure_status, r.failure_detail,
        s.due_at, s.because, s.wanted_at, s.hastened_at, s.fetched_at, s.stale_after,
        b.etag AS own_etag, b.changed_at, b.headers, b.body, NULL AS leased_until, NULL AS erased_at, NULL AS walk, NULL AS walked_at,
        (SELECT group_concat(o.name, ',') FROM headpond_key_origin AS k JOIN headpond_origin AS o ON o.id = k.origin_id
         WHERE k.resource_id = r.id AND o.name IN ('api', 'cli')) AS hands
    FROM headpond_resource AS r
    JOIN headpond_schedule AS s ON s.resource_id = r.id
    LEFT JOIN headpond_content AS b ON b.resource_id = r.id
    WHERE r.source_id = ?1 AND r.key > ?2 AND r.retired_at IS NULL
    ORDER BY r.key LIMIT ?3";

/// What isn't there comes unpolled.
pub(super) const INSERT_UNPOLLED: &str = "
    INSERT INTO headpond_resource (source_id, key, params, retired_at)
    SELECT ?1, value ->> 0, value ->> 1, ?3 FROM jsonb_each(?2) WHERE true ORDER BY key ON CONFLICT DO NOTHING";

pub(super) const INSERT_UNSCHEDULED: &str = "
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT r.id, source.upstream_id, source.id, NULL, 1
    FROM headpond_resource AS r CROSS JOIN headpond_source AS source ON source.id = r.source_id
    WHERE r.id > ?1";

pub(super) const STORED: &str = "
    SELECT r.id, r.key, r.version, r.content_hash, r.gone_since, s.due_at, s.because, s.fetched_at, r.erased_at,
        source.erase_gone
    FROM json_each(?2) AS j
    CROSS JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value
    JOIN headpond_schedule AS s ON s.resource_id = r.id
    JOIN headpond_source AS source ON source.id = r.source_id";

/// There are no more of them than requests may be under way.
pub(super) const LEASES: &str = "SELECT token, upstream_id, resources FROM headpond_lease";

impl SqliteStore {
    pub(super) async fn read_export(
        &self,
        source: SourceId,
        after: Option<&Key>,
        at_most: u32,
    ) -> Result<Vec<Exported>, StoreError> {
        let rows = sqlx::query(EXPORT).bind(source.0).bind(after.map_or("", Key::as_str)).bind(i64::from(at_most));
        let rows = rows.fetch_all(&self.readers).await.map_err(failed)?;
        rows.iter().map(exported).collect()
    }

    pub(super) async fn store_import(&self, source: SourceId, batch: &[Restored]) -> Result<Vec<Import>, StoreError> {
        let now = self.clock.now();
        let copies: Vec<_> = with_copies(batch).map(|one| (&one.key, params_json(&one.params))).collect();
        let keys: Vec<_> = batch.iter().map(|one| &one.key).collect();
        let mut work = self.work(Durability::Full).await?;
        let last = work.add(LAST_RESOURCE, &[])?.run().await?.into_iter().flatten().next();
        let last: i64 = last.map_or(Ok(0), |row| sqlx::Row::try_get(&row, 0)).map_err(failed)?;
        work.add(INSERT_UNPOLLED, &[source.0.into(), Text(json(&copies)?), micros(now).into()])?;
        work.add(INSERT_UNSCHEDULED, &[last.into()])?;
        work.add(STORED, &[source.0.into(), Text(json(&keys)?)])?;
        work.add(LEASES, &[])?;
        let mut answers = work.run().await?;
        let leases = answers.pop().unwrap_or_default();
        let stored = answers.pop().unwrap_or_default();
        let stored = stored.iter().map(Stored::read).collect::<Result<HashMap<_, _>, _>>()?;
        let imports = Imports::of(batch, &stored);
        if imports.are_none() {
            work.roll_back().await;
            return Ok(imports.fates);
        }
        let leases = leases.iter().map(held).collect::<Result<Leases, _>>()?;
        write::write(work, &imports.plan(&leases, now), &leases, &Upstreams::new(), now).await?;
        Ok(imports.fates)
    }
}

pub(super) fn held(row: &sqlx::sqlite::SqliteRow) -> Result<(LeaseToken, Held), StoreError> {
    let record = Record::identified_by(row, "lease", "token")?;
    let resources = parse_ids(record.id(), &record.text("resources")?)?;
    Ok((LeaseToken(record.id()), Held { upstream: UpstreamId(record.integer("upstream_id")?), resources }))
}
