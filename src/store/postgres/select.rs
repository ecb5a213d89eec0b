//! Queries for keys, in a transaction that can only read.

use std::fmt;

use futures_util::TryStreamExt;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::begin::begin_reading;
use super::error::{Fault, Result};
use super::{PostgresStore, within};
use crate::domain::resource::scalar;
use crate::store::StoreError;
use crate::store::select::{AT_ONCE, KeyQuery, Rows, SelectedRow, not_a_value};

/// How much longer than its timeout to wait for the server to say that the query took too long.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) async fn select(store: &PostgresStore, query: &KeyQuery, rows: Rows) -> Result<(), StoreError> {
    let queries = store.queries.lock().await;
    match within(query.timeout + GRACE, send_all(&queries, query, rows)).await {
        Err(StoreError::Busy(said)) if said.contains("57014") => Err(query.too_slow()),
        Err(StoreError::Unusable(said)) => Err(StoreError::Rejected(said)),
        other => other,
    }
}

async fn send_all(queries: &PgPool, query: &KeyQuery, rows: Rows) -> Result<()> {
    let mut tx = begin_reading(queries).await?;
    let timeout = format!("SET LOCAL statement_timeout = {}", query.timeout.as_millis().max(1));
    tx.execute(AssertSqlSafe(timeout)).await?;
    // As a part of a SELECT it can be nothing but one itself. What is asked is the operator's own word. The server makes a
    // text of each value, whatever its type is.
    let sql = AssertSqlSafe(format!("SELECT row_to_json(q)::text FROM (\n{}\n) AS q", query.inner()));
    {
        let mut found = sqlx::query(sql).persistent(false).fetch(&mut *tx);
        let mut batch = Vec::with_capacity(AT_ONCE);
        while let Some(row) = found.try_next().await? {
            batch.push(selected(row.try_get(0)?).map_err(Fault::from)?);
            if batch.len() == AT_ONCE && rows.send(std::mem::take(&mut batch)).await.is_err() {
                return Ok(());
            }
        }
        // Who is gone wants none.
        _ = rows.send(batch).await;
    }
    tx.rollback().await?;
    Ok(())
}

/// A row, whose columns come in their order.
fn selected(json: &str) -> Result<SelectedRow, StoreError> {
    let mut row = serde_json::Deserializer::from_str(json);
    let columns = row.deserialize_map(Columns).map_err(|error| StoreError::Rejected(error.to_string()))?;
    let texts = columns.into_iter().map(|(name, value)| {
        let text = match value {
            Value::Array(_) => return Err(not_a_value(&name, "a list")),
            Value::Object(_) => return Err(not_a_value(&name, "an object")),
            value => scalar(&value),
        };
        Ok((name, text))
    });
    texts.collect::<Result<_, StoreError>>().map(SelectedRow::of)
}

struct Columns;

impl<'de> Visitor<'de> for Columns {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut columns = Vec::new();
        while let Some(column) = map.next_entry()? {
            columns.push(column);
        }
        Ok(columns)
    }
}
