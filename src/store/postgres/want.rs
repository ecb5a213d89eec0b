//! What someone asked for, and what is left to do.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::error::Result;
use super::{PostgresStore, notify};
use crate::domain::schedule::Because;
use crate::store::columns::micros;
use crate::store::{AT_ONCE, Backlog, Selection};

/// The condition on `schedule` that makes a selection; its ids are `$1`.
fn condition(which: &Selection) -> &'static str {
    match which {
        Selection::All => "$1::bigint[] IS NOT NULL",
        Selection::Sources(_) => "source_id = ANY($1)",
        Selection::Resources(_) => "resource_id = ANY($1)",
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

/// Rows are locked in the order of their ids, as applies do; what is wanted since later stays so.
fn want_sql(which: &Selection) -> String {
    format!(
        "UPDATE headpond.schedule s SET due_at = $2, because = $3, wanted_at = greatest(s.wanted_at, $4)
           FROM (SELECT resource_id FROM headpond.schedule
                  WHERE due_at IS NOT NULL AND {} ORDER BY resource_id FOR NO KEY UPDATE) AS wanted
          WHERE s.resource_id = wanted.resource_id AND s.due_at IS NOT NULL",
        condition(which)
    )
}

pub(super) async fn want(store: &PostgresStore, which: &Selection, at: DateTime<Utc>) -> Result<u64> {
    let mut tx = store.begin().await?;
    let wanted = sqlx::query(AssertSqlSafe(want_sql(which)))
        .bind(ids(which))
        .bind(AT_ONCE)
        .bind(Because::Manual.code())
        .bind(micros(at))
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if wanted > 0 {
        notify(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(wanted)
}

fn backlog_sql(which: &Selection) -> String {
    format!(
        "SELECT count(*) FILTER (WHERE leased.id IS NULL) AS waiting, count(leased.id) AS leased
           FROM headpond.schedule s
           LEFT JOIN (SELECT DISTINCT unnest(resources) AS id FROM headpond.lease WHERE expires_at > $3) AS leased
             ON leased.id = s.resource_id
          WHERE s.due_at <= $2 AND {}",
        condition(which)
    )
}

pub(super) async fn backlog(store: &PostgresStore, which: &Selection, due_by: DateTime<Utc>) -> Result<Backlog> {
    let (waiting, leased): (i64, i64) = sqlx::query_as(AssertSqlSafe(backlog_sql(which)))
        .bind(ids(which))
        .bind(micros(due_by))
        .bind(micros(store.clock.now()))
        .fetch_one(&store.readers)
        .await?;
    Ok(Backlog { waiting: waiting.unsigned_abs(), leased: leased.unsigned_abs() })
}
