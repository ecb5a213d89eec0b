//! The change feed, and what batches touched.

use sqlx::Row;

use super::PostgresStore;
use super::error::Result;
use crate::domain::change::{Change, Cursor};
use crate::domain::resource::ResourceId;
use crate::store::columns::{Record, feed_tag};
use crate::store::origins::feed_end;
use crate::store::{AppliedSince, Changes};

/// The entry that the reader saw last comes too: whether it is still the same tells whether the feed is, and both are
/// seen at one moment, so that nothing is pruned in between.
pub(super) const CHANGES: &str = "
    SELECT number, tag, source, key, kind, version, at
      FROM headpond.change WHERE number >= $1 ORDER BY number LIMIT $2";

pub(super) async fn changes(store: &PostgresStore, since: Option<Cursor>, limit: u32) -> Result<Changes> {
    let start = Cursor { number: 0, tag: feed_tag(store.seed) };
    let from = since.unwrap_or(start);
    let rows =
        sqlx::query(CHANGES).bind(from.number).bind(i64::from(limit.max(1)) + 1).fetch_all(&store.readers).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        entries.push(Record::identified_by(row, "change", "number")?.change()?);
    }
    let Some(mut changes) = after(since, start, entries) else { return Ok(Changes::Unknown) };
    changes.truncate(usize::try_from(limit.max(1)).unwrap_or(usize::MAX));
    let next = changes.last().map_or(from, |change| change.cursor);
    Ok(Changes::Page { changes, next })
}

/// The entries after `since`; `None` when `since` or the entry after it is not there. The newest entry is never pruned.
fn after(since: Option<Cursor>, start: Cursor, mut entries: Vec<Change>) -> Option<Vec<Change>> {
    let Some(since) = since else { return Some(entries) };
    if since.number == 0 {
        let is_whole = entries.first().is_none_or(|first| first.cursor.number == 1);
        return (since == start && is_whole).then_some(entries);
    }
    let is_same = entries.first().is_some_and(|first| first.cursor == since);
    is_same.then(|| entries.split_off(1))
}

pub(super) const APPLIED_SINCE: &str = "
    SELECT c.applied AS newest, c.wishes, a.resources
      FROM headpond.counter c LEFT JOIN headpond.applied a ON a.number > $1
     ORDER BY a.number";

pub(super) async fn applied_since(store: &PostgresStore, number: i64) -> Result<AppliedSince> {
    let rows = sqlx::query(APPLIED_SINCE).bind(number).fetch_all(&store.readers).await?;
    let (mut newest, mut wishes) = (number, 0);
    let mut batches = 0;
    let mut touched = Vec::new();
    for row in &rows {
        newest = row.try_get("newest")?;
        wishes = row.try_get("wishes")?;
        if let Some(resources) = row.try_get::<Option<Vec<i64>>, _>("resources")? {
            batches += 1;
            touched.extend(resources.into_iter().map(ResourceId));
        }
    }
    // Numbers have no gaps: fewer rows mean that some are pruned, a lower number that this is another history.
    let is_whole = newest - number == batches;
    Ok(AppliedSince { newest, resources: is_whole.then_some(touched), wishes })
}

const LAST: &str = "SELECT number, tag FROM headpond.change ORDER BY number DESC LIMIT 1";

pub(super) async fn end(store: &PostgresStore) -> Result<Cursor> {
    let last: Option<(i64, i64)> = sqlx::query_as(LAST).fetch_optional(&store.readers).await?;
    Ok(feed_end(last, store.seed))
}
