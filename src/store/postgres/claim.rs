//! Leasing what is due, and tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::error::Result;
use super::{PostgresStore, lease};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::limit::Bucket;
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::domain::schedule;
use crate::domain::time::later;
use crate::store::columns::{Record, micros};
use crate::store::grant::{Hold, Offered, PUT_OFF, Upstream, Wanted, new_first, readable, take_one};
use crate::store::heed::Note;
use crate::store::pack::{Due, offered, pack, ridden};
use crate::store::plan::Held;
use crate::store::{Claim, ClaimRequest, Claimed, LeaseToken, Selection, StoreError};

/// Leases due resources of one upstream.
///
/// Its commit does not wait for the disk: a power failure that takes back a lease costs a repeated request, and the
/// apply under it is refused; the tokens it took are those of the seconds in which the server was down.
pub(super) async fn claim(store: &PostgresStore, request: &ClaimRequest) -> Result<Claimed> {
    let mut tx = store.begin().await?;
    let row = lock_upstream(&mut tx, request.upstream).await?;
    let record = Record::of(&row, "upstream", request.upstream.0);
    // Read only now: while it waited for the lock, others spent tokens at later times than this call began.
    let now = store.clock.now();
    let (noted, standing) = record.standing(now)?;
    let (leased, riders, elsewhere) = live_leases(&mut tx, request.upstream, now).await?;
    let (limits, bucket) = (record.limits()?, record.bucket()?);
    let upstream = Upstream { limits, bucket, standing, noted, leased, riders, elsewhere };
    let wanted = Wanted::by(request, now);
    let (candidates, mut corrupt) = candidates(&mut tx, request, &upstream, &wanted).await?;
    let requests = pack(candidates, wanted.due_by, &request.together);
    let offered = offered(&requests);
    let grant = upstream.grant(wanted, &offered);
    let chosen = ridden(requests, &grant.granted);
    if let Some(Note(standing)) = &grant.standing {
        sqlx::query(KEEP_STANDING).bind(request.upstream.0).bind(standing).execute(&mut *tx).await?;
    }
    let mut claims = Vec::new();
    if !chosen.is_empty() {
        let lease = Lease { request, wanted, bucket: grant.bucket, seed: store.seed };
        let unreadable;
        (claims, unreadable) = lease.write(&mut tx, &chosen).await?;
        corrupt.extend(unreadable);
    }
    if !corrupt.is_empty() {
        let until = micros(later(now, PUT_OFF));
        sqlx::query(PUT_OFF_CORRUPT).bind(ids(&corrupt)).bind(until).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    // What was put off made room for others.
    let ask_again_at = if corrupt.is_empty() { grant.ask_again_at } else { Some(now) };
    Ok(Claimed { claims, ask_again_at, wait: grant.wait })
}

/// What can't be read is tried again later, and counts as failed (4).
pub(super) const PUT_OFF_CORRUPT: &str = "
    UPDATE headpond.schedule SET due_at = $2, wanted_at = NULL, because = 4
     WHERE due_at IS NOT NULL AND resource_id = ANY($1)";

fn ids(resources: &[ResourceId]) -> Vec<i64> {
    resources.iter().map(|id| id.0).collect()
}

pub(super) async fn take_token(
    store: &PostgresStore,
    upstream: UpstreamId,
) -> Result<std::result::Result<(), DateTime<Utc>>> {
    let mut tx = store.begin().await?;
    let row = lock_upstream(&mut tx, upstream).await?;
    let record = Record::of(&row, "upstream", upstream.0);
    let now = store.clock.now();
    let (limits, (noted, standing)) = (record.limits()?, record.standing(now)?);
    let (bucket, standing) = match take_one(&limits, record.bucket()?, standing, now) {
        Ok(paid) => paid,
        Err(at) => return Ok(Err(at)),
    };
    sqlx::query(PAY).bind(upstream.0).bind(bucket.tokens).bind(micros(bucket.at)).execute(&mut *tx).await?;
    if let Some(Note(standing)) = noted.anew(&standing) {
        sqlx::query(KEEP_STANDING).bind(upstream.0).bind(standing).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(Ok(()))
}

pub(super) const PAY: &str = "
    UPDATE headpond.upstream SET tokens = $2, tokens_at = $3 WHERE id = $1";

/// `FOR UPDATE` would wait for whoever adds a source, which holds the foreign key's `KEY SHARE`. Even a claim that gets
/// nothing leaves a trace in the WAL, by the lock: no commit from here on waits for the disk.
pub(super) const LOCK_UPSTREAM: &str = "
    SELECT requests_per_second, burst, max_concurrent, tokens, tokens_at, standing, budgets,
           set_config('synchronous_commit', 'off', true)
      FROM headpond.upstream WHERE id = $1 FOR NO KEY UPDATE";

async fn lock_upstream(tx: &mut PgConnection, upstream: UpstreamId) -> Result<PgRow> {
    let row = sqlx::query(LOCK_UPSTREAM).bind(upstream.0).fetch_optional(tx).await?;
    Ok(row.ok_or_else(|| StoreError::Rejected(format!("there is no upstream {}", upstream.0)))?)
}

/// Its row is locked.
pub(super) const KEEP_STANDING: &str = "UPDATE headpond.upstream SET standing = $2 WHERE id = $1";

/// A statement of its own, so that it sees what was committed by whoever had the upstream's lock before. An expired lease
/// that is locked is being applied right now: it stays, and is not waited for, since its apply may wait for this upstream.
/// It is about the leases of all upstreams: a source that has just moved from one may still have requests under way.
pub(super) const LIVE_LEASES: &str = "
      WITH ended AS (
               DELETE FROM headpond.lease
                WHERE token IN (SELECT token FROM headpond.lease WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED)
            RETURNING token)
    SELECT token, upstream_id, expires_at, resources, riders
      FROM headpond.lease WHERE token NOT IN (SELECT token FROM ended)";

/// What is leased, and by what.
type Leased = HashMap<ResourceId, Hold>;

/// What is leased of this upstream, how much of it rides in the request of another one, and what is leased of the others.
async fn live_leases(
    tx: &mut PgConnection,
    upstream: UpstreamId,
    now: DateTime<Utc>,
) -> Result<(Leased, usize, Leased)> {
    let rows = sqlx::query(LIVE_LEASES).bind(micros(now)).fetch_all(tx).await?;
    let (mut leased, mut riding, mut elsewhere) = (Leased::new(), 0, Leased::new());
    for row in &rows {
        let record = Record::of(row, "lease", 0);
        let hold = Hold { token: LeaseToken(record.integer("token")?), ends_at: record.time("expires_at")? };
        let resources: Vec<i64> = row.try_get("resources")?;
        let among = if record.integer("upstream_id")? == upstream.0 {
            let riders: BTreeSet<i64> = row.try_get::<Vec<i64>, _>("riders")?.into_iter().collect();
            riding += resources.iter().filter(|id| riders.contains(id)).count();
            &mut leased
        } else {
            &mut elsewhere
        };
        among.extend(resources.into_iter().map(|id| (ResourceId(id), hold)));
    }
    Ok((leased, riding, elsewhere))
}

struct Candidate {
    id: ResourceId,
    source: SourceId,
    due_at: DateTime<Utc>,
    due: schedule::Due,
    stale_after: Option<DateTime<Utc>>,
    wanted_at: Option<DateTime<Utc>>,
}

impl Due for Candidate {
    fn offered(&self) -> Offered {
        Offered { resource: self.id, source: self.source, due_at: self.due_at }
    }
}

/// The due index gives these in order; $5 is what is leased, $6 are closed sources. Without a filter it reads one that is not due yet, to know when to ask again.
pub(super) fn candidates_sql(which: &Selection) -> String {
    candidates_where(match which {
        Selection::All => "$3::bigint IS NOT NULL AND $4::bigint[] IS NOT NULL",
        Selection::Sources(_) => "due_at <= $3 AND source_id = ANY($4)",
        Selection::Resources(_) => "due_at <= $3 AND resource_id = ANY($4)",
    })
}

/// What was never fetched (1) alone: where a budget decides, that goes first.
pub(super) fn new_candidates_sql() -> String {
    candidates_where("due_at <= $3 AND $4::bigint[] IS NOT NULL AND because = 1")
}

fn candidates_where(filter: &str) -> String {
    format!(
        "SELECT resource_id, source_id, due_at, because, wanted_at, stale_after
           FROM headpond.schedule
          WHERE upstream_id = $1 AND due_at IS NOT NULL AND resource_id <> ALL($5)
            AND source_id <> ALL($6) AND {filter}
          ORDER BY due_at
          LIMIT $2"
    )
}

async fn candidates(
    tx: &mut PgConnection,
    request: &ClaimRequest,
    upstream: &Upstream,
    wanted: &Wanted,
) -> Result<(Vec<Candidate>, Vec<ResourceId>)> {
    let (all, mut corrupt) = read_candidates(tx, candidates_sql(&request.which), request, upstream, wanted).await?;
    if !upstream.prefers_new(request) {
        return Ok((all, corrupt));
    }
    let (new, unreadable) = read_candidates(tx, new_candidates_sql(), request, upstream, wanted).await?;
    corrupt.extend(unreadable.into_iter().filter(|id| !corrupt.contains(id)).collect::<Vec<_>>());
    Ok((new_first(new, all, |one| (one.id, one.due_at)), corrupt))
}

async fn read_candidates(
    tx: &mut PgConnection,
    sql: String,
    request: &ClaimRequest,
    upstream: &Upstream,
    wanted: &Wanted,
) -> Result<(Vec<Candidate>, Vec<ResourceId>)> {
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(request.upstream.0)
        .bind(upstream.candidates_to_read(request.at_most, &request.together))
        .bind(micros(wanted.due_by))
        .bind(super::want::ids(&request.which))
        .bind(upstream.taken().into_iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(upstream.closed(wanted.now).into_iter().map(|id| id.0).collect::<Vec<_>>())
        .fetch_all(tx)
        .await?;
    let mut candidates = Vec::with_capacity(rows.len());
    for row in &rows {
        let record = Record::identified_by(row, "schedule", "resource_id")?;
        candidates.push((ResourceId(record.id()), candidate(&record)));
    }
    let (mut candidates, corrupt) = readable(candidates);
    // What is due together is asked for by id, as on SQLite; to have the server sort it would read all of it.
    candidates.sort_by_key(|one| (one.due_at, one.id));
    Ok((candidates, corrupt))
}

fn candidate(record: &Record<'_, PgRow>) -> std::result::Result<Candidate, StoreError> {
    let due = record.due()?.ok_or_else(|| record.corrupt("due_at", "it is missing"))?;
    Ok(Candidate {
        id: ResourceId(record.id()),
        source: SourceId(record.integer("source_id")?),
        due_at: record.time("due_at")?,
        due,
        stale_after: record.maybe_time("stale_after")?,
        wanted_at: record.maybe_time("wanted_at")?,
    })
}

/// A lease to write.
struct Lease<'a> {
    request: &'a ClaimRequest,
    wanted: Wanted,
    bucket: Bucket,
    seed: u64,
}

/// All writes of a claim, and what is known of the resources that it leases.
pub(super) const LEASE: &str = "
      WITH leased AS (
               INSERT INTO headpond.lease (token, upstream_id, worker, granted_at, expires_at, resources, riders)
               VALUES ($1, $2, $3, $4, $5, $6, $9)),
           paid AS (
               UPDATE headpond.upstream SET tokens = $7, tokens_at = $8
                WHERE id = $2 AND requests_per_second IS NOT NULL)
    SELECT r.id, r.source_id, r.key, r.params, r.version, r.content_hash, r.etag, r.last_modified, r.max_age,
           r.terms, r.transformed, r.moved_to, r.failures, r.failing_since, r.absences, r.absent_since, r.gone_since,
           s.keys, s.fingerprint
      FROM headpond.resource r JOIN headpond.source s ON s.id = r.source_id
     WHERE r.id = ANY($6)";

impl Lease<'_> {
    /// Writes it, and returns what it holds; what is corrupt comes as ids and is taken out of it.
    async fn write(
        &self,
        tx: &mut PgConnection,
        chosen: &[(ResourceId, Candidate)],
    ) -> Result<(Vec<Claim>, Vec<ResourceId>)> {
        let token = self.wanted.lease.token;
        let ids: Vec<i64> = chosen.iter().map(|(_, candidate)| candidate.id.0).collect();
        let if_rider = |(with, one): &(ResourceId, Candidate)| (*with != one.id).then_some(one.id.0);
        let riders: Vec<i64> = chosen.iter().filter_map(if_rider).collect();
        let rows = sqlx::query(LEASE)
            .bind(token.0)
            .bind(self.request.upstream.0)
            .bind(&self.request.worker)
            .bind(micros(self.wanted.now))
            .bind(micros(self.wanted.lease.ends_at))
            .bind(&ids)
            .bind(self.bucket.tokens)
            .bind(micros(self.bucket.at))
            .bind(&riders)
            .fetch_all(&mut *tx)
            .await?;
        let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.try_get("id").unwrap_or(0), row)).collect();
        let known = chosen.iter().filter_map(|one| Some((one, rows.remove(&one.1.id.0)?)));
        let claim = |((with, one), row): (&(ResourceId, Candidate), PgRow)| {
            let claimed = self.claim(token, one, &row);
            (one.id, claimed.map(|claim| Claim { rides_with: *with, ..claim }))
        };
        let (claims, corrupt) = readable(known.map(claim));
        if !corrupt.is_empty() {
            let held =
                Held { upstream: self.request.upstream, resources: chosen.iter().map(|(_, one)| one.id).collect() };
            let taken_out = BTreeMap::from([(token, corrupt.iter().copied().collect())]);
            lease::shrink(tx, &HashMap::from([(token, held)]), &taken_out).await?;
        }
        Ok((claims, corrupt))
    }

    fn claim(&self, token: LeaseToken, candidate: &Candidate, row: &PgRow) -> std::result::Result<Claim, StoreError> {
        let record = Record::of(row, "resource", candidate.id.0);
        Ok(Claim {
            token,
            resource: candidate.id,
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
            granted_at: self.wanted.now,
            rides_with: candidate.id,
            wanted_at: candidate.wanted_at,
        })
    }
}
