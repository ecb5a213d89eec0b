//! The views that apps read typed tables from.

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::error::failed;
use crate::domain::resource::SourceName;
use crate::domain::table::Table;
use crate::store::StoreError;
use crate::store::tables::{KnownTable, TableId, joined, mark, quoted};

/// What has a name, of whatever kind: tables, views and indexes share theirs.
pub(super) const NAMED: &str = "SELECT type, coalesce(sql, '') FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";

/// Views and triggers, to look for those that read one of ours.
const READERS: &str = "SELECT name, sql FROM sqlite_schema WHERE type IN ('view', 'trigger') ORDER BY name";

/// Whether a view is ours, and of this source: SQLite keeps the text that made it.
fn is_ours(kind: &str, sql: &str, source: &SourceName) -> bool {
    kind == "view" && sql.contains(&format!("/* {} */", mark(source)))
}

/// Whether a name is free for a view of this source, or is that view already.
pub(super) async fn is_free(
    connection: &mut SqliteConnection,
    name: &str,
    source: &SourceName,
) -> Result<bool, StoreError> {
    let found: Option<(String, String)> =
        sqlx::query_as(NAMED).bind(name).fetch_optional(connection).await.map_err(failed)?;
    Ok(found.is_none_or(|(kind, sql)| is_ours(&kind, &sql, source)))
}

/// Whether both views are there and ours.
pub(super) async fn are_there(connection: &mut SqliteConnection, table: &KnownTable) -> Result<bool, StoreError> {
    for (name, _) in names(&table.table) {
        let found: Option<(String, String)> =
            sqlx::query_as(NAMED).bind(&name).fetch_optional(&mut *connection).await.map_err(failed)?;
        if !found.is_some_and(|(kind, sql)| is_ours(&kind, &sql, &table.source_name)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes both views.
pub(super) async fn make(
    connection: &mut SqliteConnection,
    table: &KnownTable,
    columns: &[String],
) -> Result<(), StoreError> {
    for (name, with_gone) in names(&table.table) {
        if !is_free(&mut *connection, &name, &table.source_name).await? {
            return Err(StoreError::Unusable(taken(&name)));
        }
        let query = view_sql(table.id, &table.table, columns, with_gone);
        let (view, mark) = (quoted(&name), mark(&table.source_name));
        let sql = format!("DROP VIEW IF EXISTS {view}; CREATE VIEW {view} AS /* {mark} */ {query}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

/// Drops both views, if they are there and ours.
pub(super) async fn drop(connection: &mut SqliteConnection, table: &KnownTable) -> Result<(), StoreError> {
    for (name, _) in names(&table.table) {
        let found: Option<(String, String)> =
            sqlx::query_as(NAMED).bind(&name).fetch_optional(&mut *connection).await.map_err(failed)?;
        if found.is_some_and(|(kind, sql)| is_ours(&kind, &sql, &table.source_name)) {
            let drop = AssertSqlSafe(format!("DROP VIEW {}", quoted(&name)));
            sqlx::query(drop).execute(&mut *connection).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Views and triggers whose text has the name of a table's view in it. SQLite knows no more of what they depend on.
pub(super) async fn dependents(connection: &mut SqliteConnection, table: &Table) -> Result<Vec<String>, StoreError> {
    let readers: Vec<(String, String)> = sqlx::query_as(READERS).fetch_all(connection).await.map_err(failed)?;
    let own = names(table).map(|(name, _)| name.to_ascii_lowercase());
    let is_own = |name: &str| own.iter().any(|own| own.eq_ignore_ascii_case(name));
    let others = readers.into_iter().filter(|(name, _)| !is_own(name) && !name.starts_with("headpond_"));
    Ok(others.filter(|(_, sql)| words(sql).any(&is_own)).map(|(name, _)| name).collect())
}

fn words(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(|c: char| !c.is_alphanumeric() && c != '_')
}

pub(super) fn taken(name: &str) -> String {
    format!("the database has a {name} already, which Headpond did not make for this source")
}

/// The names of both views, and whether they have rows of what is gone.
pub(super) fn names(table: &Table) -> [(String, bool); 2] {
    [(table.name.clone(), false), (table.name_of_all(), true)]
}

/// The query of a view. Of the bookkeeping it has what each column asks for by itself, so that who asks for none of these
/// reads none of it: a join would only be left out of queries that don't aggregate.
pub(super) fn view_sql(TableId(id): TableId, table: &Table, columns: &[String], with_gone: bool) -> String {
    let row_key = joined(table.rows.iter().map(|rows| format!(" t.{},", quoted(&rows.key.name))));
    let columns = joined(columns.iter().map(|name| format!(", t.{}", quoted(name))));
    let (gone_at, only) = if with_gone { (" t.gone_at,", "") } else { ("", " WHERE t.gone_at IS NULL") };
    let scheduled =
        |what: &str| format!("(SELECT {what} FROM headpond_schedule AS s WHERE s.resource_id = t.headpond_id)");
    let time =
        |column: &str| scheduled(&format!("strftime('%Y-%m-%dT%H:%M:%fZ', s.{column} / 1000000.0, 'unixepoch')"));
    let is_fresh = scheduled("s.stale_after > (julianday('now') - 2440587.5) * 86400000000.0");
    format!(
        "SELECT t.key,{row_key} t.version, t.changed_at,{gone_at} {} AS fetched_at, {} AS stale_after,
         CASE WHEN t.gone_at IS NOT NULL THEN 'gone' WHEN {is_fresh} THEN 'fresh' ELSE 'stale' END AS state{columns}
         FROM headpond_typed_{id} AS t{only}",
        time("fetched_at"),
        time("stale_after")
    )
}
