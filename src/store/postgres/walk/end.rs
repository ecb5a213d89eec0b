//! The end of a walk.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::{WALK_ROW, held};
use crate::domain::resource::ResourceId;
use crate::store::columns::{Record, micros};
use crate::store::plan::GonePeriod;
use crate::store::postgres::apply::{LOCK_SOURCES, SAVE_BUDGETS, write_plan};
use crate::store::postgres::error::Result;
use crate::store::postgres::{PostgresStore, keys, lease};
use crate::store::walks;
use crate::store::{Ended, HowItEnded, Missing, WalkEnd};

const END: &str = "
    UPDATE headpond.walk
       SET kind = NULL, began_at = NULL, pages = 0, next = NULL, newest = NULL, left_out = NULL, fingerprint = $2,
           since = coalesce($3, CASE WHEN fingerprint = $2 THEN since END),
           swept_at = coalesce($4, CASE WHEN fingerprint = $2 THEN swept_at END),
           held = coalesce($5, CASE WHEN fingerprint = $2 THEN held END, 0)
     WHERE source_id = $1";

const END_PAGES: &str = "DELETE FROM headpond.walk_page WHERE source_id = $1 AND walk <> $2";

const BREAK_OFF: &str = "UPDATE headpond.walk SET kind = NULL, pages = 0, next = NULL WHERE source_id = $1";

const END_ORIGIN: &str = "
    UPDATE headpond.origin SET synced_at = $2, problem = $3, problem_at = CASE WHEN $3::text IS NOT NULL THEN $2 END
     WHERE source_id = $1 AND name = 'walk'";

const PROBLEM: &str = "
    UPDATE headpond.origin SET problem = $3, problem_at = $2 WHERE source_id = $1 AND name = 'walk'";

pub(in crate::store::postgres) async fn end(store: &PostgresStore, end: &WalkEnd) -> Result<Ended> {
    let mut tx = store.begin().await?;
    let leases = lease::lock(&mut tx, &BTreeSet::from([end.lease.token])).await?;
    if held(&leases, &end.lease).is_none() {
        return Ok(Ended::default());
    }
    let source = end.lease.source.0;
    keys::lock_source(&mut tx, end.lease.source).await?;
    let row = sqlx::query(WALK_ROW).bind(source).fetch_optional(&mut *tx).await?;
    let walk = row.as_ref().map(|row| Record::of(row, "walk", source));
    let number = walk.as_ref().map_or(Ok(0), |walk| walk.integer("number"))?;
    let began_at = walk.as_ref().map_or(Ok(None), |walk| walk.maybe_integer("began_at"))?;
    let mut ended = Ended { is_stored: true, ..Ended::default() };
    match &end.how {
        HowItEnded::Complete { since, missing, problem } => {
            let (mut swept_at, mut held) = (None, None);
            if let Some(missing) = missing {
                ended = find_missing(&mut tx, end, number, missing).await?;
                (swept_at, held) = (began_at, Some(keys::signed(ended.held)));
                sqlx::query(END_PAGES).bind(source).bind(number).execute(&mut *tx).await?;
            }
            let problem = ended.problem().or_else(|| problem.clone());
            sqlx::query(END_ORIGIN).bind(source).bind(micros(end.at)).bind(problem).execute(&mut *tx).await?;
            let row = sqlx::query(END).bind(source).bind(end.lease.fingerprint.0).bind(since).bind(swept_at).bind(held);
            row.execute(&mut *tx).await?;
        }
        HowItEnded::Failed { goes_on, problem } => {
            sqlx::query(PROBLEM).bind(source).bind(micros(end.at)).bind(problem).execute(&mut *tx).await?;
            if !goes_on {
                sqlx::query(BREAK_OFF).bind(source).execute(&mut *tx).await?;
            }
        }
    }
    if !ended.gone.is_empty() {
        write_plan(store, &mut tx, &walks::plan_of_gone(end, &ended.gone), &leases, false).await?;
    }
    tx.commit().await?;
    Ok(ended)
}

/// Those that a walk of all members did not see; $3 says after how many times they are gone.
macro_rules! missing {
    ($select:literal, $end:literal) => {
        concat!(
            "SELECT ",
            $select,
            "
               FROM headpond.origin o
               JOIN headpond.key_origin k ON k.origin_id = o.id
               JOIN headpond.schedule s ON s.resource_id = k.resource_id
               JOIN headpond.resource r ON r.id = k.resource_id
              WHERE o.source_id = $1 AND o.name = 'walk' AND s.walk IS DISTINCT FROM $2 AND r.gone_since IS NULL",
            $end
        )
    };
}

const MISSING: &str = missing!("count(*)", " AND r.absences + 1 >= $3");
const GOING: &str = missing!("r.id", " AND r.absences + 1 >= $3 ORDER BY r.id");
const NOT_YET: &str = missing!("r.id", " AND r.absences + 1 < $3 ORDER BY r.id");

const ABSENT: &str = "
    UPDATE headpond.resource SET absences = absences + 1, absent_since = coalesce(absent_since, $2)
     WHERE id = ANY($1)";

/// Members that the walk did not see are missing once more; those that are gone by that are returned, if they aren't too many.
async fn find_missing(tx: &mut PgConnection, end: &WalkEnd, number: i64, missing: &Missing) -> Result<Ended> {
    let (source, after) = (end.lease.source.0, i64::from(missing.gone_after));
    let going: i64 = sqlx::query_scalar(MISSING).bind(source).bind(number).bind(after).fetch_one(&mut *tx).await?;
    let going = going.unsigned_abs();
    let mut ended = Ended { is_stored: true, ..Ended::default() };
    if going > 0 {
        let row = sqlx::query(LOCK_SOURCES).bind(vec![source]).fetch_one(&mut *tx).await?;
        let record = Record::identified_by(&row, "source", "id")?;
        let mut period = GonePeriod {
            began: record.time("gone_period_began")?,
            gone: record.count("gone_in_period")?,
            keys: record.count("keys")?,
        };
        if !period.let_all_go(going, &missing.budget, end.at) {
            ended.held = going;
            return Ok(ended);
        }
        let ids: Vec<i64> = sqlx::query_scalar(GOING).bind(source).bind(number).bind(after).fetch_all(&mut *tx).await?;
        ended.gone = ids.into_iter().map(ResourceId).collect();
        sqlx::query(SAVE_BUDGETS)
            .bind(vec![source])
            .bind(vec![micros(period.began)])
            .bind(vec![keys::signed(period.gone)])
            .execute(&mut *tx)
            .await?;
    }
    let not_yet: Vec<i64> =
        sqlx::query_scalar(NOT_YET).bind(source).bind(number).bind(after).fetch_all(&mut *tx).await?;
    if !not_yet.is_empty() {
        sqlx::query(ABSENT).bind(not_yet).bind(micros(end.at)).execute(&mut *tx).await?;
    }
    Ok(ended)
}
