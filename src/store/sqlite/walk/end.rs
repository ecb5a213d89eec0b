//! The end of a walk.

use std::collections::BTreeSet;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{held, maybe_integer, maybe_text};
use crate::domain::resource::ResourceId;
use crate::store::columns::{Record, micros};
use crate::store::plan::GonePeriod;
use crate::store::sqlite::apply::{KEEP_GONE_PERIODS, leases};
use crate::store::sqlite::error::failed;
use crate::store::sqlite::script::Argument::Text;
use crate::store::sqlite::work::Work;
use crate::store::sqlite::writer::Durability;
use crate::store::sqlite::{SqliteStore, json, keys, write};
use crate::store::walks;
use crate::store::{Ended, HowItEnded, Missing, StoreError, WalkEnd};

/// Those that a walk of all members did not see, and how many of them would be gone by that.
pub(in crate::store::sqlite) const MISSING: &str = "
    SELECT count(*) FILTER (WHERE r.absences + 1 >= ?3) AS going
    FROM headpond_origin AS o
    CROSS JOIN headpond_key_origin AS k ON k.origin_id = o.id
    CROSS JOIN headpond_schedule AS s ON s.resource_id = k.resource_id
    CROSS JOIN headpond_resource AS r ON r.id = k.resource_id
    WHERE o.source_id = ?1 AND o.name = 'walk' AND s.walk IS NOT ?2 AND r.gone_since IS NULL";

pub(in crate::store::sqlite) const GOING: &str = "
    SELECT r.id
    FROM headpond_origin AS o
    CROSS JOIN headpond_key_origin AS k ON k.origin_id = o.id
    CROSS JOIN headpond_schedule AS s ON s.resource_id = k.resource_id
    CROSS JOIN headpond_resource AS r ON r.id = k.resource_id
    WHERE o.source_id = ?1 AND o.name = 'walk' AND s.walk IS NOT ?2 AND r.gone_since IS NULL AND r.absences + 1 >= ?3
    ORDER BY r.id";

pub(in crate::store::sqlite) const ABSENT: &str = "
    UPDATE headpond_resource SET absences = absences + 1, absent_since = coalesce(absent_since, ?4)
    WHERE id IN (
        SELECT r.id
        FROM headpond_origin AS o
        CROSS JOIN headpond_key_origin AS k ON k.origin_id = o.id
        CROSS JOIN headpond_schedule AS s ON s.resource_id = k.resource_id
        CROSS JOIN headpond_resource AS r ON r.id = k.resource_id
        WHERE o.source_id = ?1 AND o.name = 'walk' AND s.walk IS NOT ?2 AND r.gone_since IS NULL
            AND r.absences + 1 < ?3)";

const PERIOD: &str = "SELECT id, keys, gone_period_began, gone_in_period FROM headpond_source WHERE id = ?1";

const END: &str = "
    UPDATE headpond_walk SET kind = NULL, began_at = NULL, pages = 0, next = NULL, newest = NULL, left_out = NULL,
        fingerprint = ?2, since = coalesce(?3, iif(fingerprint IS ?2, since, NULL)),
        swept_at = coalesce(?4, iif(fingerprint IS ?2, swept_at, NULL)),
        held = coalesce(?5, iif(fingerprint IS ?2, held, 0))
    WHERE source_id = ?1";

const END_PAGES: &str = "DELETE FROM headpond_walk_page WHERE source_id = ?1 AND walk <> ?2";

const BREAK_OFF: &str = "UPDATE headpond_walk SET kind = NULL, pages = 0, next = NULL WHERE source_id = ?1";

const END_ORIGIN: &str = "
    UPDATE headpond_origin SET synced_at = ?2, problem = ?3, problem_at = iif(?3 IS NULL, NULL, ?2)
    WHERE source_id = ?1 AND name = 'walk'";

const PROBLEM: &str = "
    UPDATE headpond_origin SET problem = ?3, problem_at = ?2 WHERE source_id = ?1 AND name = 'walk'";

impl SqliteStore {
    pub(in crate::store::sqlite) async fn end_one_walk(&self, end: &WalkEnd) -> Result<Ended, StoreError> {
        let mut work = self.work(Durability::Full).await?;
        let now = self.clock.now();
        let (leases, upstreams) = leases(&mut work, &BTreeSet::from([end.lease.token]), now).await?;
        if held(&leases, &end.lease).is_none() {
            work.roll_back().await;
            return Ok(Ended::default());
        }
        let source = end.lease.source.0;
        let row = work.add(super::WALK_ROW, &[source.into()])?.run().await?;
        let walk = row.iter().flatten().next().map(|row| Record::of(row, "walk", source));
        let number = walk.as_ref().map_or(Ok(0), |walk| walk.integer("number"))?;
        let began_at = walk.as_ref().map_or(Ok(None), |walk| walk.maybe_integer("began_at"))?;
        let mut ended = Ended { is_stored: true, ..Ended::default() };
        let at = || micros(end.at).into();
        match &end.how {
            HowItEnded::Complete { since, missing, problem } => {
                let (mut swept_at, mut held) = (None, None);
                if let Some(missing) = missing {
                    ended = find_missing(&mut work, end, number, missing).await?;
                    (swept_at, held) = (began_at, Some(keys::signed(ended.held)));
                    work.add(END_PAGES, &[source.into(), number.into()])?;
                }
                let problem = ended.problem().or_else(|| problem.clone());
                work.add(END_ORIGIN, &[source.into(), at(), maybe_text(problem)])?;
                let row = [source.into(), end.lease.fingerprint.0.into(), maybe_text(since.clone())];
                let row: Vec<_> = row.into_iter().chain([maybe_integer(swept_at), maybe_integer(held)]).collect();
                work.add(END, &row)?;
            }
            HowItEnded::Failed { goes_on, problem } => {
                work.add(PROBLEM, &[source.into(), at(), Text(problem.clone())])?;
                if !goes_on {
                    work.add(BREAK_OFF, &[source.into()])?;
                }
            }
        }
        if ended.gone.is_empty() {
            work.commit().await?;
        } else {
            let plan = walks::plan_of_gone(end, &ended.gone);
            write::write(work, &plan, &leases, &upstreams, now).await?;
        }
        Ok(ended)
    }
}

/// Members that the walk did not see are missing once more; those that are gone by that come back, if they aren't too many.
async fn find_missing(work: &mut Work, end: &WalkEnd, number: i64, missing: &Missing) -> Result<Ended, StoreError> {
    let arguments = || [end.lease.source.0.into(), number.into(), missing.gone_after.into(), micros(end.at).into()];
    let rows = work.add(PERIOD, &arguments()[..1])?.add(MISSING, &arguments()[..3])?.run().await?;
    let [period, counted] = rows.as_slice() else { return Err(StoreError::Rejected("no source".into())) };
    let mut period = gone_period(period)?;
    let going: u64 = counted.first().map_or(Ok(0), |row| Record::of(row, "resource", 0).count("going"))?;
    let mut ended = Ended { is_stored: true, ..Ended::default() };
    if going > 0 && !period.let_all_go(going, &missing.budget, end.at) {
        ended.held = going;
        return Ok(ended);
    }
    if going > 0 {
        let rows = work.add(GOING, &arguments()[..3])?.run().await?;
        let ids = rows.iter().flatten().map(|row| row.try_get("id").map(ResourceId));
        ended.gone = ids.collect::<Result<_, _>>().map_err(failed)?;
        let row = [(end.lease.source.0, micros(period.began), period.gone)];
        work.add(KEEP_GONE_PERIODS, &[Text(json(&row)?)])?;
    }
    work.add(ABSENT, &arguments())?;
    Ok(ended)
}

fn gone_period(rows: &[SqliteRow]) -> Result<GonePeriod, StoreError> {
    let row = rows.first().ok_or_else(|| StoreError::Rejected("there is no such source".into()))?;
    let source = Record::identified_by(row, "source", "id")?;
    Ok(GonePeriod {
        began: source.time("gone_period_began")?,
        gone: source.count("gone_in_period")?,
        keys: source.count("keys")?,
    })
}
