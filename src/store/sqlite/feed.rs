//! The change feed, and the numbers of applied batches.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::error::failed;
use super::lease::parse_ids;
use crate::domain::change::Cursor;
use crate::store::columns::{Record, feed_tag};
use crate::store::origins::feed_end;
use crate::store::{AppliedSince, Changes, StoreError};

pub(super) const TAG: &str = "SELECT tag FROM headpond_change WHERE number = ?1";

/// The newest entry is never pruned, so this is NULL only while nothing has ever changed.
pub(super) const OLDEST: &str = "SELECT min(number) FROM headpond_change";

pub(super) const PAGE: &str = "
    SELECT number, tag, source, key, kind, version, at FROM headpond_change
    WHERE number > ?1 ORDER BY number LIMIT ?2";

/// The newest number and the batches after ?1, of one moment. The row with the newest number may be pruned already.
pub(super) const APPLIED_AFTER: &str = "
    SELECT c.applied AS newest, c.wishes, a.number, a.resources
    FROM headpond_counter AS c LEFT JOIN headpond_applied AS a ON a.number > ?1
    ORDER BY a.number";

const LAST: &str = "SELECT number, tag FROM headpond_change ORDER BY number DESC LIMIT 1";

impl SqliteStore {
    pub(super) async fn read_feed_end(&self) -> Result<Cursor, StoreError> {
        let last: Option<(i64, i64)> = sqlx::query_as(LAST).fetch_optional(&self.readers).await.map_err(failed)?;
        Ok(feed_end(last, self.seed))
    }

    pub(super) async fn read_changes(&self, since: Option<Cursor>, limit: u32) -> Result<Changes, StoreError> {
        // One transaction: what the cursor is checked against is what the page is read from.
        let mut snapshot = self.readers.begin().await.map_err(failed)?;
        let start = Cursor { number: 0, tag: feed_tag(self.seed) };
        if let Some(since) = since
            && !is_known(&mut snapshot, since, start).await?
        {
            return Ok(Changes::Unknown);
        }
        let since = since.unwrap_or(start);
        let page = sqlx::query(PAGE).bind(since.number).bind(limit.max(1));
        let rows = page.fetch_all(&mut *snapshot).await.map_err(failed)?;
        let changes = rows
            .iter()
            .map(|row| Record::identified_by(row, "change", "number")?.change())
            .collect::<Result<Vec<_>, _>>()?;
        let next = changes.last().map_or(since, |change| change.cursor);
        Ok(Changes::Page { changes, next })
    }

    pub(super) async fn read_applied(&self, number: i64) -> Result<AppliedSince, StoreError> {
        let rows = sqlx::query(APPLIED_AFTER).bind(number).fetch_all(&self.readers).await.map_err(failed)?;
        let (mut newest, mut wishes) = (0, 0);
        let mut resources = Vec::new();
        let mut batches = 0;
        for row in &rows {
            let record = Record::of(row, "applied", 0);
            newest = record.integer("newest")?;
            wishes = record.integer("wishes")?;
            if let Some(number) = record.maybe_integer("number")? {
                batches += 1;
                resources.extend(parse_ids(number, &record.text("resources")?)?);
            }
        }
        // Numbers have no gaps: fewer rows than numbers means that some are pruned; a number of the future, that this
        // is another history.
        let is_whole = number.checked_add(batches) == Some(newest);
        Ok(AppliedSince { newest, resources: is_whole.then_some(resources), wishes })
    }
}

/// Whether the feed goes on without a gap from this place.
async fn is_known(connection: &mut SqliteConnection, since: Cursor, start: Cursor) -> Result<bool, StoreError> {
    if since.number == 0 {
        let oldest: Option<i64> = sqlx::query_scalar(OLDEST).fetch_one(connection).await.map_err(failed)?;
        return Ok(since == start && oldest.is_none_or(|oldest| oldest == 1));
    }
    let tag: Option<i64> =
        sqlx::query_scalar(TAG).bind(since.number).fetch_optional(connection).await.map_err(failed)?;
    Ok(tag == Some(i64::from(since.tag)))
}
