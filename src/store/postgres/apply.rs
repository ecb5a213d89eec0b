//! Committing a batch of outcomes.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::error::Result;
use super::{PostgresStore, lease, refusal, wish, write};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::plan::{self, GonePeriod, Leases, Plan, RETRIES, Reach};
use crate::store::{Applied, Fate, Settled};

/// Commits a batch in one transaction: everything of it that its leases still hold, under one number.
pub(super) async fn apply(store: &PostgresStore, batch: &[Settled]) -> Result<Applied> {
    let mut tx = store.begin().await?;
    let leases = lease::lock(&mut tx, &batch.iter().map(|one| one.token).collect()).await?;
    let mut fates = plan::admit(batch, &leases);
    if fates.iter().all(|fate| *fate == Fate::LeaseLost) {
        return Ok(Applied { number: None, fates });
    }
    keep_gone_budgets(&mut tx, batch, &mut fates).await?;
    let plan = Plan::of(batch, &fates, &leases);
    let number = write_plan(store, &mut tx, &plan, &leases, plan::may_be_lost(batch)).await?;
    tx.commit().await?;
    Ok(Applied { number: Some(number), fates })
}

/// Writes all that a plan says, and returns the number that it is given.
pub(super) async fn write_plan(
    store: &PostgresStore,
    tx: &mut PgConnection,
    plan: &Plan<'_>,
    leases: &Leases,
    may_be_lost: bool,
) -> Result<i64> {
    let reached_again = count_outages(tx, &plan.reach).await?;
    write::schedule(tx, plan.schedule.clone()).await?;
    write::resources(tx, plan).await?;
    write::content(tx, &plan.replaced).await?;
    write::describe(tx, plan).await?;
    refusal::write(tx, plan).await?;
    lease::shrink(tx, leases, &plan.settled).await?;
    let has_retried = retry_now(tx, &reached_again, store.clock.now()).await?;
    if has_retried {
        wish(tx).await?;
    }
    write::number(tx, plan, store.clock.now(), may_be_lost).await
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

pub(super) const OUTAGES: &str = "SELECT id, outages FROM headpond.upstream WHERE id = ANY($1)";

pub(super) const LOCK_OUTAGES: &str = "
    SELECT id, outages FROM headpond.upstream WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

const SAVE_OUTAGES: &str = "
    UPDATE headpond.upstream u SET outages = n.outages
      FROM unnest($1::bigint[], $2::integer[]) AS n (id, outages)
     WHERE u.id = n.id";

/// Counts the answers in a row that say "out of reach", and returns the upstreams whose outage has ended, locked.
///
/// It looks without a lock first: on most batches nothing changes, and claims need that row.
async fn count_outages(tx: &mut PgConnection, reach: &BTreeMap<UpstreamId, Reach>) -> Result<Vec<(i64, Reach)>> {
    let all: Vec<i64> = reach.keys().map(|upstream| upstream.0).collect();
    let known: Vec<(i64, i32)> = sqlx::query_as(OUTAGES).bind(all).fetch_all(&mut *tx).await?;
    let changing: Vec<i64> = moved(reach, &known).map(|(id, ..)| id).collect();
    if changing.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<(i64, i32)> = sqlx::query_as(LOCK_OUTAGES).bind(changing).fetch_all(&mut *tx).await?;
    sqlx::query(SAVE_OUTAGES)
        .bind(moved(reach, &known).map(|(id, ..)| id).collect::<Vec<_>>())
        .bind(moved(reach, &known).map(|(_, outages, _)| outages).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    let ended = moved(reach, &known).filter(|(.., has_ended)| *has_ended);
    Ok(ended.filter_map(|(id, ..)| Some((id, *reach.get(&UpstreamId(id))?))).collect())
}

/// Of the upstreams whose count changes or whose outage ends: the id, the new count, and whether it ends.
fn moved(reach: &BTreeMap<UpstreamId, Reach>, known: &[(i64, i32)]) -> impl Iterator<Item = (i64, i32, bool)> {
    known.iter().filter_map(|&(id, outages)| {
        let so_far = u32::try_from(outages).unwrap_or_default();
        let reach = reach.get(&UpstreamId(id))?;
        let (now, has_ended) = (reach.outages(so_far), reach.ends_outage(so_far));
        (now != so_far || has_ended).then(|| (id, i32::try_from(now).unwrap_or(i32::MAX), has_ended))
    })
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
async fn retry_now(tx: &mut PgConnection, upstreams: &[(i64, Reach)], now: DateTime<Utc>) -> Result<bool> {
    let mut has_retried = false;
    for (upstream, reach) in upstreams {
        let retry = sqlx::query(RETRY_NOW).bind(upstream).bind(micros(now));
        let retry = retry.bind(Because::RetryNow.code()).bind(i64::from(RETRIES));
        let retried = retry.execute(&mut *tx).await?.rows_affected();
        has_retried |= retried > 0;
        let (outages, left) = (reach.outages(0), reach.outages_left(0, retried));
        if left != outages {
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            sqlx::query(KEEP_OUTAGES).bind(upstream).bind(left).execute(&mut *tx).await?;
        }
    }
    Ok(has_retried)
}
