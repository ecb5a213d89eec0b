//! Wishes, and what is left to do.

use chrono::{DateTime, Utc};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::schedule::Because;
use crate::store::columns::{Record, micros};
use crate::store::{AT_ONCE, Backlog, Selection, StoreError};

/// A wish keeps the mark of what was never fetched (because 1): readiness counts those.
macro_rules! want {
    ($where:literal) => {
        concat!(
            "UPDATE headpond_schedule
             SET due_at = ?1, because = CASE because WHEN 1 THEN 1 ELSE ?2 END, wanted_at = max(coalesce(wanted_at, 0), ?3)
             WHERE due_at IS NOT NULL",
            $where
        )
    };
}

const WANT_ALL: &str = want!("");
const WANT_SOURCES: &str = want!(
    " AND resource_id IN (SELECT r.id FROM json_each(?4) AS j CROSS JOIN headpond_resource AS r ON r.source_id = j.value)"
);
pub(super) const WANT_RESOURCES: &str = want!(" AND resource_id IN (SELECT value FROM json_each(?4))");

/// Both counts of one moment. `upstream` stands first so that the due index is searched once for each.
macro_rules! backlog {
    ($which:literal) => {
        concat!(
            "SELECT
                (SELECT count(*) FROM headpond_upstream AS u
                 CROSS JOIN headpond_schedule AS s ON s.upstream_id = u.id AND s.due_at <= ?1 WHERE ",
            $which,
            ") AS due,
                (SELECT count(*) FROM headpond_lease AS l CROSS JOIN json_each(l.resources) AS held
                 CROSS JOIN headpond_schedule AS s ON s.resource_id = held.value
                 WHERE l.expires_at > ?2 AND s.due_at <= ?1 AND ",
            $which,
            ") AS leased"
        )
    };
}

const BACKLOG: &str = backlog!("true");
const BACKLOG_OF_SOURCES: &str = backlog!("s.source_id IN (SELECT value FROM json_each(?3))");
pub(super) const BACKLOG_OF_RESOURCES: &str = backlog!("s.resource_id IN (SELECT value FROM json_each(?3))");

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
        let mut query = sqlx::query(statement).bind(AT_ONCE).bind(Because::Manual.code()).bind(micros(at));
        if let Some(ids) = ids(which)? {
            query = query.bind(ids);
        }
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Full).await?;
        let wanted = query.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
        transaction.commit().await.map_err(failed)?;
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
