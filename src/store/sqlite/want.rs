//! Wishes, and what is left to do.

use chrono::{DateTime, Utc};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, json, wish};
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::{Backlog, Selection, StoreError, wished_due};

/// How many ids are looked at in one transaction, so that nobody waits long for the write lock.
const CHUNK: i64 = 20_000;

/// Nothing becomes due later than it is, and no member of a collection (11) by itself. A wish keeps the mark of what was never fetched (because 1): readiness counts those.
macro_rules! want {
    ($which:literal) => {
        concat!(
            "UPDATE headpond_schedule SET due_at = min(due_at, ?1), because = CASE because WHEN 1 THEN 1 ELSE ?2 END,
                wanted_at = max(coalesce(wanted_at, 0), ?3)
             WHERE due_at IS NOT NULL AND because <> 11 AND resource_id > ?4 AND resource_id <= ?5",
            $which
        )
    };
}

pub(super) const WANT_ALL: &str = want!("");
pub(super) const WANT_SOURCES: &str = want!(" AND source_id IN (SELECT value FROM json_each(?6))");
pub(super) const WANT_RESOURCES: &str = want!(" AND resource_id IN (SELECT value FROM json_each(?6))");

const LAST_ID: &str = "SELECT coalesce(max(resource_id), 0) FROM headpond_schedule";

/// Both counts, of one moment: what of `$schedule` (an `s` within it) is due, and what of that is leased.
macro_rules! backlog {
    ($schedule:literal, $which:literal) => {
        concat!(
            "SELECT
                (SELECT count(*) FROM ",
            $schedule,
            " WHERE s.due_at <= ?1",
            $which,
            ") AS due,
                (SELECT count(*) FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS held
                 CROSS JOIN headpond_schedule AS s ON s.resource_id = held.value
                 WHERE l.expires_at > ?2 AND s.due_at <= ?1",
            $which,
            ") AS leased"
        )
    };
}

/// The due index is by upstream: it is searched once for each.
pub(super) const BACKLOG: &str =
    backlog!("headpond_upstream AS u CROSS JOIN headpond_schedule AS s ON s.upstream_id = u.id", "");
pub(super) const BACKLOG_OF_SOURCES: &str = backlog!(
    "headpond_upstream AS u CROSS JOIN headpond_schedule AS s ON s.upstream_id = u.id",
    " AND s.source_id IN (SELECT value FROM json_each(?3))"
);
pub(super) const BACKLOG_OF_RESOURCES: &str =
    backlog!("headpond_schedule AS s", " AND s.resource_id IN (SELECT value FROM json_each(?3))");

/// The ids of a selection as JSON; `None` for all.
fn ids(which: &Selection) -> Result<Option<String>, StoreError> {
    match which {
        Selection::All => Ok(None),
        Selection::Sources(ids) => json(&ids.iter().map(|id| id.0).collect::<Vec<_>>()).map(Some),
        Selection::Resources(ids) => json(ids).map(Some),
    }
}

impl SqliteStore {
    pub(super) async fn make_wanted(&self, which: &Selection, at: DateTime<Utc>) -> Result<u64, StoreError> {
        let statement = match which {
            Selection::All => WANT_ALL,
            Selection::Sources(_) => WANT_SOURCES,
            Selection::Resources(_) => WANT_RESOURCES,
        };
        let ids = ids(which)?;
        let last: i64 = sqlx::query_scalar(LAST_ID).fetch_one(&self.readers).await.map_err(failed)?;
        // Named resources are few enough to go at once.
        let step = if matches!(which, Selection::Resources(_)) { last.max(1) } else { CHUNK };
        let mut wanted = 0;
        let mut from = 0;
        while from < last {
            let query =
                sqlx::query(statement).bind(wished_due(which, at)).bind(Because::Manual.code()).bind(micros(at));
            let query = query.bind(from).bind(from.saturating_add(step)).bind(&ids);
            let mut writer = self.writer().await;
            let mut transaction = writer.begin(Durability::Full).await?;
            let rows = query.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
            if rows > 0 {
                wish(&mut transaction).await?;
                transaction.commit().await.map_err(failed)?;
            } else {
                transaction.rollback().await.map_err(failed)?;
            }
            wanted += rows;
            from = from.saturating_add(step);
        }
        Ok(wanted)
    }

    pub(super) async fn count_backlog(&self, which: &Selection, due_by: DateTime<Utc>) -> Result<Backlog, StoreError> {
        let statement = match which {
            Selection::All => BACKLOG,
            Selection::Sources(_) => BACKLOG_OF_SOURCES,
            Selection::Resources(_) => BACKLOG_OF_RESOURCES,
        };
        let mut query = sqlx::query(statement).bind(micros(due_by)).bind(micros(self.clock.now()));
        if let Some(ids) = ids(which)? {
            query = query.bind(ids);
        }
        let row = query.fetch_one(&self.readers).await.map_err(failed)?;
        let record = Record::of(&row, "schedule", 0);
        let (due, leased): (u64, u64) = (record.count("due")?, record.count("leased")?);
        Ok(Backlog { waiting: due.saturating_sub(leased), leased })
    }
}
