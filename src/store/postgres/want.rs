//! What someone asked for, and what is left to do.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::error::Result;
use super::{PostgresStore, bounded, wish};
use crate::domain::schedule::Because;
use crate::store::columns::micros;
use crate::store::retry::retrying;
use crate::store::{Backlog, Selection, wished_due};

/// How many rows become wanted in one transaction, so that no apply waits long for them.
const CHUNK: i64 = 20_000;

/// The condition on `schedule` that makes a selection; its ids are `$1`.
fn condition(which: &Selection) -> &'static str {
    match which {
        Selection::All => "$1::bigint[] IS NOT NULL",
        Selection::Sources(_) => "s.source_id = ANY($1)",
        Selection::Resources(_) => "s.resource_id = ANY($1)",
    }
}

/// The ids of a selection, of whichever kind.
pub(super) fn ids(which: &Selection) -> Vec<i64> {
    match which {
        Selection::All => Vec::new(),
        Selection::Sources(ids) => ids.iter().map(|id| id.0).collect(),
        Selection::Resources(ids) => ids.iter().map(|id| id.0).collect(),
    }
}

/// The last id of the next part.
const NEXT_PART: &str = "
    SELECT max(resource_id)
      FROM (SELECT resource_id FROM headpond.schedule WHERE resource_id > $1 ORDER BY resource_id LIMIT $2) AS part";

/// Nothing becomes due later than it is, and no member of a collection (11) by itself. Rows are locked in the order of their
/// ids, as applies do. A wish keeps the mark of what was never fetched (1):
/// readiness counts those.
pub(super) fn want_sql(which: &Selection) -> String {
    format!(
        "UPDATE headpond.schedule s
            SET due_at = least(s.due_at, $2), because = CASE s.because WHEN 1 THEN 1 ELSE $3 END, wanted_at = greatest(s.wanted_at, $4)
           FROM (SELECT s.resource_id FROM headpond.schedule s
                  WHERE s.resource_id > $5 AND s.resource_id <= $6 AND s.due_at IS NOT NULL AND s.because <> 11 AND {}
                  ORDER BY s.resource_id FOR NO KEY UPDATE) AS wanted
          WHERE s.resource_id = wanted.resource_id AND s.due_at IS NOT NULL",
        condition(which)
    )
}

pub(super) async fn want(store: &PostgresStore, which: &Selection, at: DateTime<Utc>) -> Result<u64> {
    let (sql, ids, times) = (&want_sql(which), &ids(which), (wished_due(which, at), micros(at)));
    let mut wanted = 0;
    let mut after = i64::MIN;
    loop {
        let next = sqlx::query_scalar(NEXT_PART).bind(after).bind(CHUNK).fetch_one(&store.writers);
        let Some(last) = bounded(async { Ok(next.await?) }).await? else { return Ok(wanted) };
        wanted += retrying(|| bounded(want_part(store, sql, ids, times, (after, last)))).await?;
        after = last;
    }
}

async fn want_part(
    store: &PostgresStore,
    sql: &str,
    ids: &[i64],
    (due, at): (i64, i64),
    (after, last): (i64, i64),
) -> Result<u64> {
    let mut tx = store.begin().await?;
    let update = sqlx::query(AssertSqlSafe(sql))
        .bind(ids)
        .bind(due)
        .bind(Because::Manual.code())
        .bind(at)
        .bind(after)
        .bind(last);
    let wanted = update.execute(&mut *tx).await?.rows_affected();
    if wanted > 0 {
        wish(&mut tx).await?;
        tx.commit().await?;
    }
    Ok(wanted)
}

/// Both counts of one moment; the due index is searched once for each upstream.
pub(super) fn backlog_sql(which: &Selection) -> String {
    let which = condition(which);
    format!(
        "SELECT (SELECT count(*)
                   FROM headpond.upstream u JOIN headpond.schedule s ON s.upstream_id = u.id AND s.due_at <= $2
                  WHERE {which}),
                (SELECT count(*)
                   FROM (SELECT DISTINCT unnest(resources) AS id FROM headpond.lease WHERE expires_at > $3) AS leased
                   JOIN headpond.schedule s ON s.resource_id = leased.id AND s.due_at <= $2
                  WHERE {which})"
    )
}

pub(super) async fn backlog(store: &PostgresStore, which: &Selection, due_by: DateTime<Utc>) -> Result<Backlog> {
    let (due, leased): (i64, i64) = sqlx::query_as(AssertSqlSafe(backlog_sql(which)))
        .bind(ids(which))
        .bind(micros(due_by))
        .bind(micros(store.clock.now()))
        // Planned for this time: how much is due decides whether the index or the table is the shorter way.
        .persistent(false)
        .fetch_one(&store.readers)
        .await?;
    Ok(Backlog { waiting: (due - leased).unsigned_abs(), leased: leased.unsigned_abs() })
}
