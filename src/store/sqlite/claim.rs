//! Claims and tokens.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use super::error::failed;
use super::lease::parse_ids;
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::limit::{Bucket, Limits};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::domain::schedule::Due;
use crate::domain::time::later;
use crate::store::columns::{Record, micros};
use crate::store::grant::{PUT_OFF, Upstream, Wanted, readable};
use crate::store::{Claim, ClaimRequest, Claimed, LeaseToken, Selection, StoreError};

pub(super) const END_EXPIRED: &str = "DELETE FROM headpond_lease WHERE expires_at <= ?1";

/// Those of other upstreams too: a source that has just moved from one may still have requests under way.
pub(super) const LEASES: &str = "SELECT token, upstream_id, expires_at, resources FROM headpond_lease";

pub(super) const UPSTREAM: &str = "
    SELECT id, requests_per_second, burst, max_concurrent, tokens, tokens_at FROM headpond_upstream WHERE id = ?1";

pub(super) const KEEP_TOKENS: &str = "UPDATE headpond_upstream SET tokens = ?2, tokens_at = ?3 WHERE id = ?1";

/// The due index in its order, no further than needed; what isn't due yet tells when to ask again. ?3 is what is leased.
pub(super) const CANDIDATES: &str = "
    SELECT resource_id, due_at, because, wanted_at FROM headpond_schedule
    WHERE upstream_id = ?1 AND due_at IS NOT NULL AND resource_id NOT IN (SELECT value FROM json_each(?3))
    ORDER BY due_at, resource_id LIMIT ?2";

/// The due index again, here no further than ?4: other sources' rows are passed over, and those may be many.
pub(super) const CANDIDATES_OF_SOURCES: &str = "
    SELECT resource_id, due_at, because, wanted_at FROM headpond_schedule
    WHERE upstream_id = ?1 AND due_at <= ?4 AND resource_id NOT IN (SELECT value FROM json_each(?3))
        AND source_id IN (SELECT value FROM json_each(?5))
    ORDER BY due_at, resource_id LIMIT ?2";

/// By id (the plus signs keep the due index out of it), then sorted.
pub(super) const CANDIDATES_OF_RESOURCES: &str = "
    SELECT resource_id, due_at, because, wanted_at FROM headpond_schedule
    WHERE +upstream_id = ?1 AND +due_at <= ?4 AND resource_id NOT IN (SELECT value FROM json_each(?3))
        AND resource_id IN (SELECT value FROM json_each(?5))
    ORDER BY +due_at, +resource_id LIMIT ?2";

/// The chosen ones, in the order of the array.
pub(super) const CHOSEN: &str = "
    SELECT r.id, r.source_id, r.key, r.params, r.version, r.content_hash, r.etag, r.last_modified, r.max_age,
        r.failures, r.failing_since, r.absences, r.absent_since, r.gone_since, source.keys, source.fingerprint
    FROM json_each(?1) AS j
    CROSS JOIN headpond_resource AS r ON r.id = j.value
    CROSS JOIN headpond_source AS source ON source.id = r.source_id
    ORDER BY j.key";

pub(super) const GRANT_LEASE: &str = "
    INSERT INTO headpond_lease (token, upstream_id, worker, granted_at, expires_at, resources)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// What can't be read is tried again later, and counts as failed (4).
pub(super) const PUT_OFF_CORRUPT: &str = "
    UPDATE headpond_schedule SET due_at = ?2, wanted_at = NULL, because = 4
    WHERE due_at IS NOT NULL AND resource_id IN (SELECT value FROM json_each(?1))";

/// A schedule row that may be leased.
struct Candidate {
    resource: ResourceId,
    due_at: DateTime<Utc>,
    due: Due,
    wanted_at: Option<DateTime<Utc>>,
}

impl SqliteStore {
    pub(super) async fn claim_due(&self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Relaxed).await?;
        // The time is read with the lock held: an earlier reading could be older than the bucket's own time.
        let now = self.clock.now();
        let wanted = Wanted {
            now,
            due_by: request.due_by.unwrap_or(now),
            at_most: request.at_most,
            expires_at: later(now, request.lease_for),
        };
        let (upstream, ended) = upstream(&mut transaction, request.upstream, now).await?;
        let (candidates, mut corrupt) = candidates(&mut transaction, request, &upstream, wanted.due_by).await?;
        let due_times: Vec<_> = candidates.iter().map(|one| one.due_at).collect();
        let grant = upstream.grant(wanted, &due_times);
        let chosen = candidates.get(..grant.granted).unwrap_or(&candidates);

        let claims = if chosen.is_empty() {
            Vec::new()
        } else {
            keep_tokens(&mut transaction, request.upstream, &upstream.limits, grant.bucket).await?;
            let (claims, unreadable) = self.read(&mut transaction, wanted, chosen).await?;
            corrupt.extend(unreadable);
            claims
        };
        lease(&mut transaction, request, wanted, &claims).await?;
        if !corrupt.is_empty() {
            put_off(&mut transaction, &corrupt, now).await?;
        }
        if claims.is_empty() && corrupt.is_empty() && !ended {
            transaction.rollback().await.map_err(failed)?;
        } else {
            transaction.commit().await.map_err(failed)?;
        }
        // What was put off made room for others.
        let ask_again_at = if corrupt.is_empty() { grant.ask_again_at } else { Some(now) };
        Ok(Claimed { claims, ask_again_at })
    }

    /// Reads what is to be leased, under a new token; what is corrupt comes as ids.
    async fn read(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        wanted: Wanted,
        chosen: &[Candidate],
    ) -> Result<(Vec<Claim>, Vec<ResourceId>), StoreError> {
        let token = LeaseToken(fastrand::i64(1..));
        let ids = json(&chosen.iter().map(|one| one.resource).collect::<Vec<_>>())?;
        let rows = sqlx::query(CHOSEN).bind(ids).fetch_all(&mut **transaction).await.map_err(failed)?;
        let claim = |(one, row): (&Candidate, _)| (one.resource, self.claimed(row, token, one, wanted.now));
        Ok(readable(chosen.iter().zip(&rows).map(claim)))
    }

    fn claimed(
        &self,
        row: &SqliteRow,
        token: LeaseToken,
        candidate: &Candidate,
        granted_at: DateTime<Utc>,
    ) -> Result<Claim, StoreError> {
        let record = Record::identified_by(row, "resource", "id")?;
        Ok(Claim {
            token,
            resource: ResourceId(record.id()),
            source: SourceId(record.integer("source_id")?),
            fingerprint: record.maybe_integer("fingerprint")?.map(Fingerprint),
            key: record.key("key")?,
            params: record.params("params")?,
            previous: record.previous(record.count("keys")?, self.seed, candidate.due.because)?,
            due: candidate.due,
            granted_at,
            wanted_at: candidate.wanted_at,
        })
    }

    pub(super) async fn take_one_token(&self, upstream: UpstreamId) -> Result<Result<(), DateTime<Utc>>, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Relaxed).await?;
        let now = self.clock.now();
        let (limits, bucket) = limits(&mut transaction, upstream).await?;
        let taken = bucket.take(&limits, now, 1);
        if let Some(at) = taken.next_at {
            transaction.rollback().await.map_err(failed)?;
            return Ok(Err(at));
        }
        keep_tokens(&mut transaction, upstream, &limits, taken.bucket).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(Ok(()))
    }
}

/// The upstream's limits and tokens.
async fn limits(transaction: &mut Transaction<'_, Sqlite>, id: UpstreamId) -> Result<(Limits, Bucket), StoreError> {
    let row = sqlx::query(UPSTREAM).bind(id.0).fetch_optional(&mut **transaction).await.map_err(failed)?;
    let row = row.ok_or_else(|| StoreError::Rejected(format!("there is no upstream {}", id.0)))?;
    let record = Record::of(&row, "upstream", id.0);
    Ok((record.limits()?, record.bucket()?))
}

/// The upstream with what is leased, and whether a lease has ended here because it has expired.
async fn upstream(
    transaction: &mut Transaction<'_, Sqlite>,
    id: UpstreamId,
    now: DateTime<Utc>,
) -> Result<(Upstream, bool), StoreError> {
    let (limits, bucket) = limits(transaction, id).await?;
    let rows = sqlx::query(LEASES).fetch_all(&mut **transaction).await.map_err(failed)?;
    let (mut leased, mut elsewhere, mut ended) = (HashMap::new(), HashMap::new(), false);
    for row in &rows {
        let record = Record::identified_by(row, "lease", "token")?;
        let expires_at = record.time("expires_at")?;
        if expires_at <= now {
            ended = true;
            continue;
        }
        let of = if record.integer("upstream_id")? == id.0 { &mut leased } else { &mut elsewhere };
        of.extend(parse_ids(record.id(), &record.text("resources")?)?.into_iter().map(|id| (id, expires_at)));
    }
    if ended {
        sqlx::query(END_EXPIRED).bind(micros(now)).execute(&mut **transaction).await.map_err(failed)?;
    }
    Ok((Upstream { limits, bucket, leased, elsewhere }, ended))
}

/// Writes the lease of claims that have a token in common.
async fn lease(
    transaction: &mut Transaction<'_, Sqlite>,
    request: &ClaimRequest,
    wanted: Wanted,
    claims: &[Claim],
) -> Result<(), StoreError> {
    let Some(first) = claims.first() else { return Ok(()) };
    let ids: Vec<ResourceId> = claims.iter().map(|claim| claim.resource).collect();
    sqlx::query(GRANT_LEASE)
        .bind(first.token.0)
        .bind(request.upstream.0)
        .bind(&request.worker)
        .bind(micros(wanted.now))
        .bind(micros(wanted.expires_at))
        .bind(json(&ids)?)
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(())
}

async fn put_off(
    transaction: &mut Transaction<'_, Sqlite>,
    corrupt: &[ResourceId],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let put_off = sqlx::query(PUT_OFF_CORRUPT).bind(json(corrupt)?).bind(micros(later(now, PUT_OFF)));
    put_off.execute(&mut **transaction).await.map_err(failed)?;
    Ok(())
}

async fn keep_tokens(
    transaction: &mut Transaction<'_, Sqlite>,
    id: UpstreamId,
    limits: &Limits,
    bucket: Bucket,
) -> Result<(), StoreError> {
    // Without a limit nothing counts them.
    if limits.requests_per_second.is_none() {
        return Ok(());
    }
    let keep = sqlx::query(KEEP_TOKENS).bind(id.0).bind(bucket.tokens).bind(micros(bucket.at));
    keep.execute(&mut **transaction).await.map_err(failed)?;
    Ok(())
}

/// What may be leased, in due order, as far as it takes to fill the grant; what is corrupt comes as ids.
async fn candidates(
    transaction: &mut Transaction<'_, Sqlite>,
    request: &ClaimRequest,
    upstream: &Upstream,
    due_by: DateTime<Utc>,
) -> Result<(Vec<Candidate>, Vec<ResourceId>), StoreError> {
    let statement = match &request.which {
        Selection::All => CANDIDATES,
        Selection::Sources(_) => CANDIDATES_OF_SOURCES,
        Selection::Resources(_) => CANDIDATES_OF_RESOURCES,
    };
    let query = sqlx::query(statement)
        .bind(request.upstream.0)
        .bind(upstream.candidates_to_read(request.at_most))
        .bind(json(&upstream.taken())?);
    let query = match &request.which {
        Selection::All => query,
        Selection::Sources(ids) => {
            query.bind(micros(due_by)).bind(json(&ids.iter().map(|id| id.0).collect::<Vec<_>>())?)
        }
        Selection::Resources(ids) => query.bind(micros(due_by)).bind(json(ids)?),
    };
    let rows = query.fetch_all(&mut **transaction).await.map_err(failed)?;
    let mut candidates = Vec::with_capacity(rows.len());
    for row in &rows {
        let record = Record::identified_by(row, "schedule", "resource_id")?;
        candidates.push((ResourceId(record.id()), candidate(&record)));
    }
    Ok(readable(candidates))
}

fn candidate(record: &Record<'_, SqliteRow>) -> Result<Candidate, StoreError> {
    let due = record.due()?.ok_or_else(|| record.corrupt("due_at", "it is missing"))?;
    Ok(Candidate {
        resource: ResourceId(record.id()),
        due_at: record.time("due_at")?,
        due,
        wanted_at: record.maybe_time("wanted_at")?,
    })
}
