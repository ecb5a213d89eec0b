//! Writes a [`Plan`]: one statement for each kind of write, whatever the number of rows, and all but bodies in one call.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};

use super::claim::KEEP_STANDING;
use super::error::failed;
use super::script::Argument::Text;
use super::script::{Argument, Script};
use super::work::Work;
use super::{WISH, erase, history, json, lease, refusal, typed};
use crate::domain::decision::Replacement;
use crate::domain::resource::{ResourceId, UpstreamId};
use crate::domain::schedule::Because;
use crate::domain::snapshot::encode_headers;
use crate::domain::terms::Terms;
use crate::domain::validators::Validators;
use crate::store::columns::micros;
use crate::store::erase::{GoneErased, kind};
use crate::store::heed::{Known, Note, Turns};
use crate::store::plan::{ChangeRow, Leases, Plan, RETRIES, ScheduleRow};
use crate::store::{AT_ONCE, LeaseToken, StoreError, describe};

/// What is retired (`due_at` NULL) stays so. What was wanted after the request began stays due since then; before all
/// others (?2), if it was wanted by itself.
pub(super) const SCHEDULE: &str = "
    UPDATE headpond_schedule AS s SET
        due_at = CASE
            WHEN s.due_at IS NULL THEN NULL
            WHEN s.wanted_at > j.value ->> 3 THEN CASE s.due_at WHEN ?2 THEN ?2 ELSE s.wanted_at END
            ELSE j.value ->> 1 END,
        because = CASE WHEN s.wanted_at > j.value ->> 3 THEN ?3 ELSE j.value ->> 2 END,
        wanted_at = CASE WHEN s.wanted_at > j.value ->> 3 THEN s.wanted_at END,
        fetched_at = coalesce(j.value ->> 4, s.fetched_at),
        stale_after = coalesce(j.value ->> 5, s.stale_after),
        kept_until = CASE WHEN j.value ->> 4 IS NULL THEN s.kept_until ELSE j.value ->> 6 END
    FROM jsonb_each(?1) AS j WHERE s.resource_id = j.value ->> 0";

/// A success ends a run of failures and of 404s. Bytes come as hexadecimal.
pub(super) const CONFIRMED: &str = "
    UPDATE headpond_resource AS r SET
        etag = unhex(j.value ->> 1), last_modified = unhex(j.value ->> 2), max_age = j.value ->> 3,
        terms = j.value ->> 4, transformed = j.value ->> 5, moved_to = j.value ->> 6,
        failures = 0, failing_since = NULL, failed_at = NULL, failure_kind = NULL, failure_status = NULL,
        failure_detail = NULL, absences = 0, absent_since = NULL
    FROM jsonb_each(?1) AS j WHERE r.id = j.value ->> 0";

/// As above, with a new version, and what was gone is back.
pub(super) const REPLACED: &str = "
    UPDATE headpond_resource AS r SET
        etag = unhex(j.value ->> 1), last_modified = unhex(j.value ->> 2), max_age = j.value ->> 3,
        terms = j.value ->> 4, transformed = j.value ->> 5, moved_to = j.value ->> 6,
        version = j.value ->> 7, content_hash = unhex(j.value ->> 8), gone_since = NULL,
        failures = 0, failing_since = NULL, failed_at = NULL, failure_kind = NULL, failure_status = NULL,
        failure_detail = NULL, absences = 0, absent_since = NULL
    FROM jsonb_each(?1) AS j WHERE r.id = j.value ->> 0";

/// Validators that came to a request older than the present wish are not kept: its URL may be another by now, and a 304
/// to the old one's validators would hide the new one's content. Runs after SCHEDULE, which leaves just those wishes.
pub(super) const FORGET_OUTDATED: &str = "
    UPDATE headpond_resource SET etag = NULL, last_modified = NULL
    WHERE id IN (
        SELECT s.resource_id FROM json_each(?1) AS j
        CROSS JOIN headpond_schedule AS s ON s.resource_id = j.value WHERE s.wanted_at IS NOT NULL)";

pub(super) const RESET: &str = "
    UPDATE headpond_resource SET etag = NULL, last_modified = NULL WHERE id IN (SELECT value FROM json_each(?1))";

pub(super) const DEFERRED: &str = "
    UPDATE headpond_resource AS r SET
        failures = j.value ->> 1, failing_since = j.value ->> 2, failed_at = j.value ->> 3,
        failure_kind = j.value ->> 4, failure_status = j.value ->> 5, failure_detail = j.value ->> 6,
        absences = j.value ->> 7, absent_since = j.value ->> 8
    FROM jsonb_each(?1) AS j WHERE r.id = j.value ->> 0";

/// Content and version stay: the tombstone keeps what was last seen.
pub(super) const GONE: &str = "
    UPDATE headpond_resource AS r SET
        gone_since = j.value ->> 1, etag = NULL, last_modified = NULL, max_age = NULL,
        terms = NULL, transformed = 0, moved_to = NULL,
        failures = 0, failing_since = NULL, failed_at = NULL, failure_kind = NULL, failure_status = NULL,
        failure_detail = NULL, absences = 0, absent_since = NULL
    FROM jsonb_each(?1) AS j WHERE r.id = j.value ->> 0";

const CONTENT_HEAD: &str = "INSERT INTO headpond_content (resource_id, etag, changed_at, headers, body) VALUES ";

const CONTENT_TAIL: &str = " ON CONFLICT (resource_id) DO UPDATE SET
    etag = excluded.etag, changed_at = excluded.changed_at, headers = excluded.headers, body = excluded.body";

/// Numbered in the array's order, after what was there: NUMBER has counted these ?2 already. `r` is read after its own
/// update: the version is the new one.
pub(super) const CHANGES: &str = "
    INSERT INTO headpond_change (number, tag, resource_id, source, key, kind, version, at)
    SELECT c.changes - ?2 + j.key + 1, j.value ->> 0, r.id, source.name, r.key, j.value ->> 2, r.version, j.value ->> 3
    FROM headpond_counter AS c
    CROSS JOIN jsonb_each(?1) AS j
    CROSS JOIN headpond_resource AS r ON r.id = j.value ->> 1
    CROSS JOIN headpond_source AS source ON source.id = r.source_id";

/// In one transaction with what is numbered, under SQLite's write lock: numbers are in commit order.
pub(super) const NUMBER: &str =
    "UPDATE headpond_counter SET changes = changes + ?1, applied = applied + 1 RETURNING applied";

/// The ids that the batch touched, under the number that it was just given.
pub(super) const APPLIED: &str = "
    INSERT INTO headpond_applied (number, at, resources) SELECT applied, ?1, ?2 FROM headpond_counter";

pub(super) const KEEP_OUTAGES: &str = "UPDATE headpond_upstream SET outages = ?2 WHERE id = ?1";

/// What failed while its upstream was out of reach (5) is due now that it is back (10), ?3 at the most. The literal 5 lets
/// the partial index serve; the plus sign keeps the due index from it.
pub(super) const RETRY_NOW: &str = "
    UPDATE headpond_schedule SET due_at = ?2, because = 10
    WHERE resource_id IN (
        SELECT resource_id FROM headpond_schedule
        WHERE upstream_id = ?1 AND because = 5 AND +due_at IS NOT NULL LIMIT ?3)";

/// How many those were.
pub(super) const RETRIED: &str = "SELECT changes()";

/// The upstreams before the batch.
pub(super) type Upstreams = BTreeMap<UpstreamId, Known>;

/// Writes a batch, commits it, and returns its number and what changed for upstreams. `held` is what its leases list now.
pub(super) async fn write(
    mut work: Work,
    plan: &Plan<'_>,
    held: &Leases,
    upstreams: &Upstreams,
    now: DateTime<Utc>,
) -> Result<(i64, Turns), StoreError> {
    history::write(work.connection()?, plan).await?;
    let erased = erase::gone(work.connection()?, plan).await?;
    write_content(work.connection()?, &plan.replaced).await?;
    typed::write(work.connection()?, plan).await?;
    refusal::write(work.connection()?, &plan.refused).await?;
    add_resources(work.script(), plan)?;
    add_described(&mut work, plan).await?;
    add_rows(work.script(), refusal::FORGET, plan.recovered())?;
    let turns = heed(&mut work, plan, upstreams, now).await?;
    let held = |token: LeaseToken| held.get(&token).map(|lease| lease.resources.clone());
    lease::take_out(work.script(), held, &plan.settled)?;
    add_numbers(work.script(), plan, &erased, micros(now))?;
    // Of all these only the number comes with a row.
    let number = work.commit().await?.into_iter().flatten().next();
    let number = number.ok_or_else(|| StoreError::Rejected("a batch was given no number".into()))?;
    Ok((number.try_get("applied").map_err(failed)?, turns))
}

/// Gives the batch its number, and its changes theirs.
fn add_numbers(script: &mut Script, plan: &Plan<'_>, erased: &GoneErased, now: i64) -> Result<(), StoreError> {
    let changes = i64::try_from(plan.changes.len()).unwrap_or(i64::MAX);
    script.add(NUMBER, &[changes.into()])?;
    if !plan.changes.is_empty() {
        let row = |change: &ChangeRow| (change.tag, change.resource, kind(change, erased).as_str(), change.at);
        let rows: Vec<_> = plan.changes.iter().map(row).collect();
        script.add(CHANGES, &[Text(json(&rows)?), changes.into()])?;
    }
    let touched: Vec<ResourceId> = plan.touched().collect();
    script.add(APPLIED, &[now.into(), Text(json(&touched)?)])?;
    Ok(())
}

fn add_resources(script: &mut Script, plan: &Plan<'_>) -> Result<(), StoreError> {
    let rows: Vec<_> = plan
        .schedule
        .iter()
        .map(|row| {
            let ScheduleRow { resource, due_at, because, requested_at, fetched_at, stale_after, kept_until } = *row;
            (resource, due_at, because, requested_at, fetched_at, stale_after, kept_until)
        })
        .collect();
    script.add(SCHEDULE, &[Text(json(&rows)?), AT_ONCE.into(), Because::Manual.code().into()])?;
    let confirmed = plan.confirmed.iter().map(|(id, metadata)| {
        let (etag, last_modified) = validators(&metadata.validators);
        let terms = metadata.terms.map(Terms::json);
        (*id, etag, last_modified, metadata.max_age, terms, u8::from(metadata.transformed), &metadata.moved_to)
    });
    add_rows(script, CONFIRMED, confirmed)?;
    let replaced = plan.replaced.iter().map(|(id, _, new)| {
        let metadata = &new.metadata;
        let (etag, last_modified) = validators(&metadata.validators);
        let (terms, transformed) = (metadata.terms.map(Terms::json), u8::from(metadata.transformed));
        let hash = hex(&new.snapshot.content_hash.0);
        let max_age = metadata.max_age;
        (*id, etag, last_modified, max_age, terms, transformed, &metadata.moved_to, new.version, hash)
    });
    add_rows(script, REPLACED, replaced)?;
    let with_validators = plan.confirmed.iter().map(|(id, _)| *id).chain(plan.replaced.iter().map(|(id, ..)| *id));
    add_rows(script, FORGET_OUTDATED, with_validators)?;
    add_rows(script, RESET, plan.reset.iter())?;
    let deferred = plan.deferred.iter().map(|(id, deferral)| {
        let (failing, absence) = (&deferral.failing, deferral.absence);
        (
            *id,
            failing.count,
            micros(failing.since),
            micros(failing.at),
            failing.last.kind.as_str(),
            failing.last.status,
            failing.last.detail.as_str(),
            absence.map_or(0, |absence| absence.count),
            absence.map(|absence| micros(absence.since)),
        )
    });
    add_rows(script, DEFERRED, deferred)?;
    add_rows(script, GONE, plan.gone.iter().map(|(id, since)| (*id, micros(*since))))
}

/// Adds a statement about rows, if there are any.
fn add_rows<T: Serialize>(
    script: &mut Script,
    statement: &'static str,
    rows: impl Iterator<Item = T>,
) -> Result<(), StoreError> {
    let rows: Vec<T> = rows.collect();
    if !rows.is_empty() {
        script.add(statement, &[Text(json(&rows)?)])?;
    }
    Ok(())
}

/// The upstream's ETag and Last-Modified in hexadecimal.
pub(super) fn validators(validators: &Validators) -> (Option<String>, Option<String>) {
    (validators.etag.as_deref().map(hex), validators.last_modified.as_deref().map(hex))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String can't fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bodies are bytes, which JSON can't carry: rows of bound values, in chunks of a power of two, so that few statements
/// have to be prepared.
async fn write_content(
    connection: &mut SqliteConnection,
    mut replaced: &[(ResourceId, DateTime<Utc>, &Replacement)],
) -> Result<(), StoreError> {
    const LARGEST: usize = 64;
    while !replaced.is_empty() {
        let size = LARGEST.min(1 << replaced.len().ilog2());
        let (chunk, rest) = replaced.split_at(size);
        let rows = vec!["(?, ?, ?, ?, ?)"; size].join(", ");
        let mut query = sqlx::query(AssertSqlSafe(format!("{CONTENT_HEAD}{rows}{CONTENT_TAIL}")));
        for (id, at, new) in chunk {
            let snapshot = &new.snapshot;
            query = query
                .bind(id.0)
                .bind(snapshot.etag.0.as_slice())
                .bind(micros(*at))
                .bind(encode_headers(&snapshot.headers))
                .bind(snapshot.body.as_ref());
        }
        query.execute(&mut *connection).await.map_err(failed)?;
        replaced = rest;
    }
    Ok(())
}

pub(super) const DESCRIBED: &str = "
    SELECT b.resource_id, b.headers FROM json_each(?1) AS j CROSS JOIN headpond_content AS b ON b.resource_id = j.value";

pub(super) const DESCRIBE: &str = "
    UPDATE headpond_content AS b SET headers = unhex(j.value ->> 1)
    FROM jsonb_each(?1) AS j WHERE b.resource_id = j.value ->> 0";

/// Replaces fields of contents that stay.
async fn add_described(work: &mut Work, plan: &Plan<'_>) -> Result<(), StoreError> {
    if plan.described.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = plan.described.iter().map(|(id, _)| *id).collect();
    let stored: Vec<SqliteRow> =
        work.add(DESCRIBED, &[Text(json(&ids)?)])?.run().await?.into_iter().flatten().collect();
    let replaced = describe::replaced(&stored, &plan.described)?;
    add_rows(work.script(), DESCRIBE, replaced.iter().map(|(id, block)| (*id, hex(block))))
}

/// Takes in what the answers say about their upstreams. The first that says "in reach" after an outage makes what the outage
/// failed due now.
async fn heed(
    work: &mut Work,
    plan: &Plan<'_>,
    upstreams: &Upstreams,
    now: DateTime<Utc>,
) -> Result<Turns, StoreError> {
    let mut turns = Turns::new();
    for (id, reach) in &plan.reach {
        let Some(known) = upstreams.get(id) else { continue };
        let after = known.after(*reach, plan.heard.get(id).map_or(&[], Vec::as_slice), now);
        let mut retried = 0;
        if after.has_recovered {
            // What the batch itself has failed is among what is retried.
            work.add(RETRY_NOW, &[id.0.into(), micros(now).into(), RETRIES.into()])?.add(RETRIED, &[])?;
            let count = work.run().await?.into_iter().flatten().next();
            retried = count.map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
        }
        if retried > 0 || after.opens() {
            work.add(WISH, &[])?;
        }
        if let Some(Note(standing)) = &after.standing {
            work.add(KEEP_STANDING, &[id.0.into(), Argument::maybe(standing.as_ref())])?;
        }
        if after.is_news() {
            work.add(KEEP_OUTAGES, &[id.0.into(), known.outages_left(&after, retried).into()])?;
        }
        turns.extend(after.turns.into_iter().map(|turn| (*id, turn)));
    }
    Ok(turns)
}
