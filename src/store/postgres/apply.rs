//! Committing a batch of outcomes.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::error::Result;
use super::{PostgresStore, erase, history, lease, refusal, typed, wish, write};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::heed::{After, Known, Note, Turns};
use crate::store::plan::{self, GonePeriod, Leases, Plan, RETRIES};
use crate::store::{Applied, Fate, Settled, tables};

/// Commits a batch in one transaction: everything of it that its leases still hold, under one number.
pub(super) async fn apply(store: &PostgresStore, batch: &[Settled]) -> Result<Applied> {
    let mut tx = store.begin().await?;
    let leases = lease::lock(&mut tx, &batch.iter().map(|one| one.token).collect()).await?;
    let mut fates = plan::admit(batch, &leases);
    if fates.iter().all(|fate| *fate == Fate::LeaseLost) {
        return Ok(Applied { number: None, fates, turns: Vec::new() });
    }
    keep_gone_budgets(&mut tx, batch, &mut fates).await?;
    let (tables, source_of) = typed::open(&mut tx, tables::replaced(batch)).await?;
    tables::refuse_misfits(batch, &mut fates, &tables, &source_of);
    let plan = Plan::of(batch, &fates, &leases);
    let (number, turns) = write_plan(store, &mut tx, &plan, &leases, plan::may_be_lost(batch)).await?;
    tx.commit().await?;
    Ok(Applied { number: Some(number), fates, turns })
}

/// Writes all that a plan says, and returns the number that it is given and what changed for upstreams.
pub(super) async fn write_plan(
    store: &PostgresStore,
    tx: &mut PgConnection,
    plan: &Plan<'_>,
    leases: &Leases,
    may_be_lost: bool,
) -> Result<(i64, Turns)> {
    let now = store.clock.now();
    // First of all: whoever drops a table has it before he waits for those who write what it refers to.
    let tables = typed::open(tx, tables::concerned(plan)).await?;
    let heeded = heed(tx, plan, now).await?;
    write::schedule(tx, plan.schedule.clone()).await?;
    history::write(tx, plan).await?;
    let erased = erase::gone(tx, plan).await?;
    write::resources(tx, plan).await?;
    write::content(tx, &plan.replaced).await?;
    typed::write(tx, plan, &tables).await?;
    write::describe(tx, plan).await?;
    refusal::write(tx, plan).await?;
    lease::shrink(tx, leases, &plan.settled).await?;
    let has_retried = retry_now(tx, &heeded, now).await?;
    if has_retried || heeded.iter().any(|(_, _, after)| after.opens()) {
        wish(tx).await?;
    }
    let number = write::number(tx, (plan, &erased), now, may_be_lost).await?;
    let turns = heeded.into_iter().flat_map(|(id, _, after)| after.turns.into_iter().map(move |turn| (id, turn)));
    Ok((number, turns.collect()))
}

pub(super) const SOURCES_OF: &str = "SELECT resource_id, source_id FROM headpond.schedule WHERE resource_id = ANY($1)";

pub(super) const LOCK_SOURCES: &str = "
    SELECT id, keys, gone_period_began, gone_in_period
      FROM headpond.source WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

pub(super) const SAVE_BUDGETS: &str = "
    UPDATE headpond.source s SET gone_period_began = n.began, gone_in_period = n.gone
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n (id, began, gone)
     WHERE s.id = n.id";

/// Holds back what would make too much of a source gone at once.
async fn keep_gone_budgets(tx: &mut PgConnection, batch: &[Settled], fates: &mut [Fate]) -> Result<()> {
    let going: Vec<i64> = plan::going(batch, fates).iter().map(|id| id.0).collect();
    if going.is_empty() {
        return Ok(());
    }
    let source_of: Vec<(i64, i64)> = sqlx::query_as(SOURCES_OF).bind(going).fetch_all(&mut *tx).await?;
    let source_of: HashMap<_, _> =
        source_of.into_iter().map(|(id, source)| (ResourceId(id), SourceId(source))).collect();
    let sources: Vec<i64> = source_of.values().map(|source| source.0).collect();
    let mut periods = BTreeMap::new();
    for row in &sqlx::query(LOCK_SOURCES).bind(sources).fetch_all(&mut *tx).await? {
        let record = Record::identified_by(row, "source", "id")?;
        periods.insert(
            SourceId(record.id()),
            GonePeriod {
                began: record.time("gone_period_began")?,
                gone: record.count("gone_in_period")?,
                keys: record.count("keys")?,
            },
        );
    }
    plan::hold_back(batch, fates, &source_of, &mut periods);
    sqlx::query(SAVE_BUDGETS)
        .bind(periods.keys().map(|source| source.0).collect::<Vec<_>>())
        .bind(periods.values().map(|period| micros(period.began)).collect::<Vec<_>>())
        .bind(periods.values().map(|period| i64::try_from(period.gone).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) const UPSTREAMS: &str = "
    SELECT id, requests_per_second, burst, max_concurrent, outages, standing, budgets FROM headpond.upstream WHERE id = ANY($1)";

pub(super) const LOCK_UPSTREAMS: &str = "
    SELECT id, requests_per_second, burst, max_concurrent, outages, standing, budgets
      FROM headpond.upstream WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

/// Its row is locked.
pub(super) const KEEP: &str = "UPDATE headpond.upstream SET outages = $2, standing = $3 WHERE id = $1";

/// An upstream before the batch and after it.
type Heeded = (UpstreamId, Known, After);

/// Takes in what the answers say about their upstreams, and returns those for which something is other than before, locked.
///
/// It looks without a lock first: on most batches nothing changes, and claims need that row.
async fn heed(tx: &mut PgConnection, plan: &Plan<'_>, now: DateTime<Utc>) -> Result<Vec<Heeded>> {
    let all: Vec<i64> = plan.reach.keys().map(|upstream| upstream.0).collect();
    let seen = sqlx::query(UPSTREAMS).bind(all).fetch_all(&mut *tx).await?;
    let changing: Vec<i64> = heeded(&seen, plan, now)?.iter().map(|(id, ..)| id.0).collect();
    if changing.is_empty() {
        return Ok(Vec::new());
    }
    let locked = sqlx::query(LOCK_UPSTREAMS).bind(changing).fetch_all(&mut *tx).await?;
    let heeded = heeded(&locked, plan, now)?;
    for (id, known, after) in &heeded {
        let outages = i32::try_from(after.outages).unwrap_or(i32::MAX);
        let Note(standing) = after.standing.as_ref().unwrap_or(known.noted());
        sqlx::query(KEEP).bind(id.0).bind(outages).bind(standing).execute(&mut *tx).await?;
    }
    Ok(heeded)
}

/// Of these upstreams those for which something is other after the batch.
fn heeded(rows: &[PgRow], plan: &Plan<'_>, now: DateTime<Utc>) -> Result<Vec<Heeded>> {
    let mut heeded = Vec::new();
    for row in rows {
        let record = Record::identified_by(row, "upstream", "id")?;
        let (id, known) = (UpstreamId(record.id()), Known::read(&record, now)?);
        let Some(reach) = plan.reach.get(&id) else { continue };
        let after = known.after(*reach, plan.heard.get(&id).map_or(&[], Vec::as_slice), now);
        if after.is_news() {
            heeded.push((id, known, after));
        }
    }
    Ok(heeded)
}

/// Leaves out what is leased: it is being tried. And what is locked: it is being settled or wanted.
pub(super) const RETRY_NOW: &str = "
    UPDATE headpond.schedule SET due_at = $2, because = $3
     WHERE resource_id = ANY(ARRAY(
               SELECT resource_id FROM headpond.schedule
                WHERE upstream_id = $1 AND because = 5 AND due_at > $2
                  AND resource_id NOT IN (SELECT unnest(resources) FROM headpond.lease WHERE upstream_id = $1)
                LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED))";

/// Its row is locked already.
const KEEP_OUTAGES: &str = "UPDATE headpond.upstream SET outages = $2 WHERE id = $1";

/// What failed because its upstream was out of reach is due now that it can be reached; returns whether there was any.
async fn retry_now(tx: &mut PgConnection, heeded: &[Heeded], now: DateTime<Utc>) -> Result<bool> {
    let mut has_retried = false;
    for (upstream, known, after) in heeded.iter().filter(|(_, _, after)| after.has_recovered) {
        let retry = sqlx::query(RETRY_NOW).bind(upstream.0).bind(micros(now));
        let retry = retry.bind(Because::RetryNow.code()).bind(i64::from(RETRIES));
        let retried = retry.execute(&mut *tx).await?.rows_affected();
        has_retried |= retried > 0;
        let left = known.outages_left(after, retried);
        if left != after.outages {
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            sqlx::query(KEEP_OUTAGES).bind(upstream.0).bind(left).execute(&mut *tx).await?;
        }
    }
    Ok(has_retried)
}
