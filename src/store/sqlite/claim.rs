//! Claims and tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;

use super::lease::{parse_ids, take_out};
use super::script::Argument::{Real, Text};
use super::script::{Argument, Script};
use super::work::Work;
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::limit::{Bucket, Limits};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::domain::schedule;
use crate::domain::time::later;
use crate::store::columns::{Record, micros};
use crate::store::grant::{Hold, Offered, PUT_OFF, Upstream, Wanted, new_first, readable, take_one};
use crate::store::heed::Note;
use crate::store::pack::{Due, offered, pack, ridden, to_read};
use crate::store::{Claim, ClaimRequest, Claimed, LeaseToken, Selection, StoreError};

pub(super) const END_EXPIRED: &str = "DELETE FROM headpond_lease WHERE expires_at <= ?1";

/// The upstream beside each lease, or alone. The leases are those of other upstreams too: a source that has just moved from
/// one may still have requests under way.
pub(super) const UPSTREAM_AND_LEASES: &str = "
    SELECT u.id, u.requests_per_second, u.burst, u.max_concurrent, u.tokens, u.tokens_at, u.standing, u.budgets,
        l.token, l.upstream_id, l.expires_at, l.resources, l.riders
    FROM headpond_upstream AS u LEFT JOIN headpond_lease AS l ON true WHERE u.id = ?1";

pub(super) const UPSTREAM: &str = "
    SELECT id, requests_per_second, burst, max_concurrent, tokens, tokens_at, standing, budgets
    FROM headpond_upstream WHERE id = ?1";

pub(super) const KEEP_TOKENS: &str = "UPDATE headpond_upstream SET tokens = ?2, tokens_at = ?3 WHERE id = ?1";

pub(super) const KEEP_STANDING: &str = "UPDATE headpond_upstream SET standing = ?2 WHERE id = ?1";

/// The due index in its order, no further than needed; what isn't due yet tells when to ask again. ?3 is now: what is leased
/// until later is passed over, and so are the sources ?6.
pub(super) const CANDIDATES: &str = "
    SELECT resource_id, source_id, due_at, because, wanted_at, stale_after FROM headpond_schedule
    WHERE upstream_id = ?1 AND due_at IS NOT NULL
        AND resource_id NOT IN (
            SELECT j.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS j WHERE l.expires_at > ?3)
        AND source_id NOT IN (SELECT value FROM json_each(?6))
    ORDER BY due_at, resource_id LIMIT ?2";

/// What was never fetched (1) alone: where a budget decides, that goes first.
pub(super) const NEW_CANDIDATES: &str = "
    SELECT resource_id, source_id, due_at, because, wanted_at, stale_after FROM headpond_schedule
    WHERE upstream_id = ?1 AND because = 1 AND due_at <= ?4
        AND resource_id NOT IN (
            SELECT j.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS j WHERE l.expires_at > ?3)
        AND source_id NOT IN (SELECT value FROM json_each(?6))
    ORDER BY due_at, resource_id LIMIT ?2";

/// The due index again, here no further than ?4: other sources' rows are passed over, and those may be many.
pub(super) const CANDIDATES_OF_SOURCES: &str = "
    SELECT resource_id, source_id, due_at, because, wanted_at, stale_after FROM headpond_schedule
    WHERE upstream_id = ?1 AND due_at <= ?4
        AND resource_id NOT IN (
            SELECT j.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS j WHERE l.expires_at > ?3)
        AND source_id NOT IN (SELECT value FROM json_each(?6))
        AND source_id IN (SELECT value FROM json_each(?5))
    ORDER BY due_at, resource_id LIMIT ?2";

/// By id (the plus signs keep the due index out of it), then sorted.
pub(super) const CANDIDATES_OF_RESOURCES: &str = "
    SELECT resource_id, source_id, due_at, because, wanted_at, stale_after FROM headpond_schedule
    WHERE +upstream_id = ?1 AND +due_at <= ?4
        AND resource_id NOT IN (
            SELECT j.value FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS j WHERE l.expires_at > ?3)
        AND source_id NOT IN (SELECT value FROM json_each(?6))
        AND resource_id IN (SELECT value FROM json_each(?5))
    ORDER BY +due_at, +resource_id LIMIT ?2";

/// The chosen ones, in the order of the array.
pub(super) const CHOSEN: &str = "
    SELECT r.id, r.source_id, r.key, r.params, r.version, r.content_hash, r.etag, r.last_modified, r.max_age,
        r.terms, r.transformed, r.moved_to, r.failures, r.failing_since, r.absences, r.absent_since, r.gone_since,
        source.keys, source.fingerprint
    FROM json_each(?1) AS j
    CROSS JOIN headpond_resource AS r ON r.id = j.value
    CROSS JOIN headpond_source AS source ON source.id = r.source_id
    ORDER BY j.key";

pub(super) const GRANT_LEASE: &str = "
    INSERT INTO headpond_lease (token, upstream_id, worker, granted_at, expires_at, resources, riders)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// The leases that hold any of these.
pub(super) const OF_LEASES: &str = "
    SELECT token, resources FROM headpond_lease
    WHERE EXISTS (SELECT 1 FROM json_each(resources) WHERE value IN (SELECT value FROM json_each(?1)))";

/// What can't be read is tried again later, and counts as failed (4).
pub(super) const PUT_OFF_CORRUPT: &str = "
    UPDATE headpond_schedule SET due_at = ?2, wanted_at = NULL, because = 4
    WHERE due_at IS NOT NULL AND resource_id IN (SELECT value FROM json_each(?1))";

/// A schedule row that may be leased.
struct Candidate {
    resource: ResourceId,
    source: SourceId,
    due_at: DateTime<Utc>,
    due: schedule::Due,
    stale_after: Option<DateTime<Utc>>,
    wanted_at: Option<DateTime<Utc>>,
}

impl Due for Candidate {
    fn offered(&self) -> Offered {
        Offered { resource: self.resource, source: self.source, due_at: self.due_at }
    }
}

impl SqliteStore {
    pub(super) async fn claim_due(&self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        let mut work = self.work(Durability::Relaxed).await?;
        // The writer is ours by now, but not yet the file: another process may commit what this time is too early for. The
        // bucket takes that into account, and all else is the safer for it.
        let now = self.clock.now();
        let wanted = Wanted::by(request, now);
        work.add(UPSTREAM_AND_LEASES, &[request.upstream.0.into()])?;
        add_candidates(work.script(), request, &wanted, &BTreeSet::new())?;
        let (upstream, ended, mut found) = match work.run().await?.as_slice() {
            [upstreams, rows] => {
                let (upstream, ended) = upstream(upstreams, request.upstream, now)?;
                (upstream, ended, candidates(rows)?)
            }
            _ => return Err(StoreError::Rejected("a claim was answered in part".into())),
        };
        let closed = upstream.closed(now);
        if !closed.is_empty() {
            add_candidates(work.script(), request, &wanted, &closed)?;
            let rows: Vec<SqliteRow> = work.run().await?.into_iter().flatten().collect();
            found = candidates(&rows)?;
        }
        let (mut candidates, mut corrupt) = found;
        if upstream.prefers_new(request) {
            let arguments = candidate_arguments(request, &wanted, "[]".into(), &closed)?;
            work.add(NEW_CANDIDATES, &arguments)?;
            let rows: Vec<SqliteRow> = work.run().await?.into_iter().flatten().collect();
            let (new, unreadable) = self::candidates(&rows)?;
            corrupt.extend(unreadable.into_iter().filter(|id| !corrupt.contains(id)).collect::<Vec<_>>());
            candidates = new_first(new, candidates, |one| (one.resource, one.due_at));
        }
        let requests = pack(candidates, wanted.due_by, &request.together);
        let offered = offered(&requests);
        let grant = upstream.grant(wanted, &offered);
        let chosen = ridden(requests, &grant.granted);

        if ended {
            work.add(END_EXPIRED, &[micros(now).into()])?;
        }
        if let Some(Note(standing)) = &grant.standing {
            work.add(KEEP_STANDING, &[request.upstream.0.into(), Argument::maybe(standing.as_ref())])?;
        }
        let mut claims = Vec::new();
        if chosen.is_empty() {
            work.commit().await?;
        } else {
            let lease = Lease { request, wanted, limits: &upstream.limits, bucket: grant.bucket };
            let unreadable;
            (claims, unreadable) = self.lease(work, &lease, &chosen).await?;
            corrupt.extend(unreadable);
        }
        if !corrupt.is_empty() {
            self.put_off(&corrupt, now).await?;
        }
        // What was put off made room for others.
        let ask_again_at = if corrupt.is_empty() { grant.ask_again_at } else { Some(now) };
        Ok(Claimed { claims, ask_again_at, wait: grant.wait })
    }

    /// Writes a lease and reads what it holds; what is corrupt comes as ids.
    async fn lease(
        &self,
        mut work: Work,
        lease: &Lease<'_>,
        chosen: &[(ResourceId, Candidate)],
    ) -> Result<(Vec<Claim>, Vec<ResourceId>), StoreError> {
        let token = lease.wanted.lease.token;
        let ids: Vec<ResourceId> = chosen.iter().map(|(_, one)| one.resource).collect();
        let if_rider = |(with, one): &(ResourceId, Candidate)| (*with != one.resource).then_some(one.resource);
        let riders: Vec<ResourceId> = chosen.iter().filter_map(if_rider).collect();
        lease.add(work.script(), &ids, &riders)?;
        work.add(CHOSEN, &[Text(json(&ids)?)])?;
        let rows: Vec<SqliteRow> = work.commit().await?.into_iter().flatten().collect();
        let claim = |((with, one), row): (&(ResourceId, Candidate), _)| {
            let claimed = self.claimed(row, token, one, lease.wanted.now);
            (one.resource, claimed.map(|claim| Claim { rides_with: *with, ..claim }))
        };
        Ok(readable(chosen.iter().zip(&rows).map(claim)))
    }

    /// Takes what can't be read out of the leases that hold it, and puts it off.
    async fn put_off(&self, corrupt: &[ResourceId], now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut work = self.work(Durability::Relaxed).await?;
        let ids = json(corrupt)?;
        work.add(OF_LEASES, &[Text(ids.clone())])?;
        work.add(PUT_OFF_CORRUPT, &[Text(ids), micros(later(now, PUT_OFF)).into()])?;
        let (mut held, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for row in work.run().await?.iter().flatten() {
            let record = Record::identified_by(row, "lease", "token")?;
            let resources = parse_ids(record.id(), &record.text("resources")?)?;
            let out = corrupt.iter().filter(|id| resources.contains(id)).copied().collect();
            unreadable.insert(LeaseToken(record.id()), out);
            held.insert(LeaseToken(record.id()), resources);
        }
        take_out(work.script(), |token| held.get(&token).cloned(), &unreadable)?;
        work.commit().await?;
        Ok(())
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
            previous: record.previous(
                record.count("keys")?,
                self.seed,
                candidate.due.because,
                candidate.stale_after,
            )?,
            due: candidate.due,
            granted_at,
            rides_with: candidate.resource,
            wanted_at: candidate.wanted_at,
        })
    }

    pub(super) async fn take_one_token(&self, upstream: UpstreamId) -> Result<Result<(), DateTime<Utc>>, StoreError> {
        let mut work = self.work(Durability::Relaxed).await?;
        let now = self.clock.now();
        let rows = work.add(UPSTREAM, &[upstream.0.into()])?.run().await?;
        let row = rows.iter().flatten().next().ok_or_else(|| unknown(upstream))?;
        let record = Record::of(row, "upstream", upstream.0);
        let (limits, (noted, standing)) = (record.limits()?, record.standing(now)?);
        let (bucket, standing) = match take_one(&limits, record.bucket()?, standing, now) {
            Ok(paid) => paid,
            Err(at) => {
                work.roll_back().await;
                return Ok(Err(at));
            }
        };
        add_tokens(work.script(), upstream, &limits, bucket)?;
        if let Some(Note(standing)) = noted.anew(&standing) {
            work.add(KEEP_STANDING, &[upstream.0.into(), Argument::maybe(standing.as_ref())])?;
        }
        work.commit().await?;
        Ok(Ok(()))
    }
}

/// The upstream with what is leased, and whether a lease has ended because it has expired.
fn upstream(rows: &[SqliteRow], id: UpstreamId, now: DateTime<Utc>) -> Result<(Upstream, bool), StoreError> {
    let record = Record::of(rows.first().ok_or_else(|| unknown(id))?, "upstream", id.0);
    let (limits, bucket, (noted, standing)) = (record.limits()?, record.bucket()?, record.standing(now)?);
    let (mut leased, mut elsewhere, mut riders, mut ended) = (HashMap::new(), HashMap::new(), 0, false);
    for row in rows {
        let Some(token) = Record::of(row, "lease", 0).maybe_integer("token")? else { continue };
        let record = Record::of(row, "lease", token);
        let hold = Hold { token: LeaseToken(token), ends_at: record.time("expires_at")? };
        if hold.ends_at <= now {
            ended = true;
            continue;
        }
        let resources = parse_ids(token, &record.text("resources")?)?;
        let of = if record.integer("upstream_id")? == id.0 {
            riders += parse_ids(token, &record.text("riders")?)?.intersection(&resources).count();
            &mut leased
        } else {
            &mut elsewhere
        };
        of.extend(resources.into_iter().map(|id| (id, hold)));
    }
    Ok((Upstream { limits, bucket, standing, noted, leased, riders, elsewhere }, ended))
}

fn unknown(id: UpstreamId) -> StoreError {
    StoreError::Rejected(format!("there is no upstream {}", id.0))
}

/// A lease to write, with what its grant leaves of the upstream's tokens.
struct Lease<'a> {
    request: &'a ClaimRequest,
    wanted: Wanted,
    limits: &'a Limits,
    bucket: Bucket,
}

impl Lease<'_> {
    fn add(&self, script: &mut Script, ids: &[ResourceId], riders: &[ResourceId]) -> Result<(), StoreError> {
        let upstream = self.request.upstream;
        add_tokens(script, upstream, self.limits, self.bucket)?;
        let lease = [
            self.wanted.lease.token.0.into(),
            upstream.0.into(),
            Text(self.request.worker.clone()),
            micros(self.wanted.now).into(),
            micros(self.wanted.lease.ends_at).into(),
            Text(json(ids)?),
            Text(json(riders)?),
        ];
        script.add(GRANT_LEASE, &lease)?;
        Ok(())
    }
}

/// Keeps an upstream's tokens. Without a limit nothing counts them.
fn add_tokens(script: &mut Script, id: UpstreamId, limits: &Limits, bucket: Bucket) -> Result<(), StoreError> {
    if limits.requests_per_second.is_some() {
        script.add(KEEP_TOKENS, &[id.0.into(), Real(bucket.tokens), micros(bucket.at).into()])?;
    }
    Ok(())
}

/// Reads what may be leased, in due order, as far as it takes to fill the grant, and one more; nothing of closed sources.
fn add_candidates(
    script: &mut Script,
    request: &ClaimRequest,
    wanted: &Wanted,
    closed: &BTreeSet<SourceId>,
) -> Result<(), StoreError> {
    let (statement, which) = match &request.which {
        Selection::All => (CANDIDATES, "[]".into()),
        Selection::Sources(ids) => (CANDIDATES_OF_SOURCES, json(ids)?),
        Selection::Resources(ids) => (CANDIDATES_OF_RESOURCES, json(ids)?),
    };
    script.add(statement, &candidate_arguments(request, wanted, which, closed)?)?;
    Ok(())
}

fn candidate_arguments(
    request: &ClaimRequest,
    wanted: &Wanted,
    which: String,
    closed: &BTreeSet<SourceId>,
) -> Result<[Argument; 6], StoreError> {
    Ok([
        request.upstream.0.into(),
        to_read(request.at_most.into(), &request.together).saturating_add(1).into(),
        micros(wanted.now).into(),
        micros(wanted.due_by).into(),
        Text(which),
        Text(json(closed)?),
    ])
}

/// What may be leased; what is corrupt comes as ids.
fn candidates(rows: &[SqliteRow]) -> Result<(Vec<Candidate>, Vec<ResourceId>), StoreError> {
    let mut candidates = Vec::with_capacity(rows.len());
    for row in rows {
        let record = Record::identified_by(row, "schedule", "resource_id")?;
        candidates.push((ResourceId(record.id()), candidate(&record)));
    }
    Ok(readable(candidates))
}

fn candidate(record: &Record<'_, SqliteRow>) -> Result<Candidate, StoreError> {
    let due = record.due()?.ok_or_else(|| record.corrupt("due_at", "it is missing"))?;
    Ok(Candidate {
        resource: ResourceId(record.id()),
        source: SourceId(record.integer("source_id")?),
        due_at: record.time("due_at")?,
        due,
        stale_after: record.maybe_time("stale_after")?,
        wanted_at: record.maybe_time("wanted_at")?,
    })
}
