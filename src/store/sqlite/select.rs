//! Queries for keys, on a connection of their own that can only read and that ends with the query.

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo, ValueRef};

use super::SqliteStore;
use super::error::failed;
use crate::clock::monotonic;
use crate::store::StoreError;
use crate::store::select::{AT_ONCE, KeyQuery, Rows, SelectedRow, not_a_value};

/// After so many steps of its machine SQLite looks whether time is up: some times in a millisecond.
const STEPS: i32 = 10_000;

impl SqliteStore {
    pub(super) async fn select(&self, query: &KeyQuery, rows: Rows) -> Result<(), StoreError> {
        let file = self.file.clone().create_if_missing(false).read_only(true).pragma("query_only", "ON");
        let mut connection = SqliteConnection::connect_with(&file).await.map_err(failed)?;
        let ends_at = monotonic() + query.timeout;
        // A statement that finds nothing is interrupted too, not only between rows.
        let mut handle = connection.lock_handle().await.map_err(failed)?;
        handle.set_progress_handler(STEPS, move || monotonic() < ends_at);
        drop(handle);
        let selected = send_all(&mut connection, query, rows).await;
        if selected.is_err() && monotonic() >= ends_at {
            return Err(query.too_slow());
        }
        // Everything is read: a connection that does not close well is no fault.
        _ = connection.close().await;
        selected
    }
}

async fn send_all(connection: &mut SqliteConnection, query: &KeyQuery, rows: Rows) -> Result<(), StoreError> {
    // As a part of a SELECT it can be nothing but one itself. What is asked is the operator's own word.
    let sql = AssertSqlSafe(format!("SELECT * FROM (\n{}\n)", query.inner()));
    let mut found = sqlx::query(sql).persistent(false).fetch(connection);
    let mut batch = Vec::with_capacity(AT_ONCE);
    while let Some(row) = found.try_next().await.map_err(refused)? {
        batch.push(selected(&row)?);
        if batch.len() == AT_ONCE && rows.send(std::mem::take(&mut batch)).await.is_err() {
            return Ok(());
        }
    }
    // Who is gone wants none.
    _ = rows.send(batch).await;
    Ok(())
}

fn selected(row: &SqliteRow) -> Result<SelectedRow, StoreError> {
    let texts = row.columns().iter().map(|column| Ok((column.name().to_owned(), text(row, column)?)));
    texts.collect::<Result<_, StoreError>>().map(SelectedRow::of)
}

fn text(row: &SqliteRow, column: &impl Column) -> Result<Option<String>, StoreError> {
    let at = column.ordinal();
    let value = row.try_get_raw(at).map_err(failed)?;
    if value.is_null() {
        return Ok(None);
    }
    let kind = value.type_info();
    let text = match kind.name() {
        "INTEGER" => row.try_get_unchecked::<i64, _>(at).map(|number| number.to_string()),
        "REAL" => row.try_get_unchecked::<f64, _>(at).map(|number| number.to_string()),
        "BLOB" => return Err(not_a_value(column.name(), "bytes")),
        _ => row.try_get_unchecked::<String, _>(at),
    };
    text.map(Some).map_err(failed)
}

/// What SQLite has to say of the operator's statement is not about the database.
fn refused(error: sqlx::Error) -> StoreError {
    match failed(error) {
        StoreError::Unusable(problem) => StoreError::Rejected(problem),
        other => other,
    }
}
