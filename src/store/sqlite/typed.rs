//! The rows of typed tables, written in the transaction of their copies.

use chrono::{DateTime, SecondsFormat};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe};

use super::error::failed;
use super::json;
use crate::domain::project::{Cell, Row};
use crate::domain::resource::{ResourceId, SourceId};
use crate::domain::table::{Column, ColumnType, Table};
use crate::store::StoreError;
use crate::store::columns::micros;
use crate::store::plan::Plan;
use crate::store::tables::{self, CopyRows, KnownTable, SourceOf, TableId, TableRows, joined, names, quoted};

/// All tables that have rows.
pub(super) const OPEN: &str = "
    SELECT t.id, t.source_id, source.name AS source, t.state, t.definition, t.columns, t.schema, t.filled, t.misfits,
        t.misfit
    FROM headpond_typed AS t CROSS JOIN headpond_source AS source ON source.id = t.source_id
    WHERE t.state <> 'left' ORDER BY t.id";

/// The sources of a batch's resources.
pub(super) const SOURCES: &str = "
    SELECT s.resource_id, s.source_id
    FROM json_each(?1) AS j CROSS JOIN headpond_schedule AS s ON s.resource_id = j.value";

/// How many values are bound to one statement: SQLite takes 32,766.
const MOST_VALUES: usize = 16_384;

/// The tables that there are, and the sources of these resources; nothing where there are no tables.
pub(super) async fn open(
    connection: &mut SqliteConnection,
    ids: Vec<i64>,
) -> Result<(Vec<KnownTable>, SourceOf), StoreError> {
    if ids.is_empty() {
        return Ok((Vec::new(), SourceOf::new()));
    }
    let tables = sqlx::query(OPEN).fetch_all(&mut *connection).await.map_err(failed)?;
    let tables = tables.iter().map(KnownTable::of).collect::<Result<Vec<_>, _>>()?;
    if tables.is_empty() {
        return Ok((tables, SourceOf::new()));
    }
    let source_of = sqlx::query_as(SOURCES).bind(json(&ids)?).fetch_all(connection).await;
    let source_of: Vec<(i64, i64)> = source_of.map_err(failed)?;
    Ok((tables, source_of.into_iter().map(|(id, source)| (ResourceId(id), SourceId(source))).collect()))
}

/// Writes the rows of a plan, and marks those of what is gone.
pub(super) async fn write(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), StoreError> {
    let (tables, source_of) = open(&mut *connection, tables::concerned(plan)).await?;
    for TableRows { table, copies } in tables::rows_of(plan, &tables, &source_of) {
        put(&mut *connection, table.id, &table.table, &copies).await?;
        let of_table = plan.gone.iter().filter(|(id, _)| source_of.get(id) == Some(&table.source));
        let gone: Vec<_> = of_table.map(|(id, since)| (id.0, time(micros(*since)))).collect();
        if !gone.is_empty() {
            let mark = sqlx::query(AssertSqlSafe(gone_sql(table.id))).bind(json(&gone)?);
            mark.execute(&mut *connection).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Puts the rows of copies in place of those that they had.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    id: TableId,
    table: &Table,
    copies: &[CopyRows<'_>],
) -> Result<(), StoreError> {
    if copies.is_empty() {
        return Ok(());
    }
    // A single row is overwritten, unless there is none to write.
    let cleared = copies.iter().filter(|copy| table.rows.is_some() || copy.rows.is_empty());
    let ids: Vec<_> = cleared.map(|copy| copy.resource).collect();
    if !ids.is_empty() {
        let clear = sqlx::query(AssertSqlSafe(clear_sql(id))).bind(json(&ids)?);
        clear.execute(&mut *connection).await.map_err(failed)?;
    }
    let rows: Vec<_> = copies.iter().flat_map(|copy| copy.rows.iter().map(move |row| (copy, row))).collect();
    let mut rest = &rows[..];
    // Chunks of a power of two, so that few statements have to be prepared.
    let most = MOST_VALUES / (4 + table.row().count());
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at((1 << rest.len().ilog2()).min(1 << most.ilog2()));
        let arguments = arguments(chunk).map_err(|error| StoreError::Rejected(error.to_string()))?;
        let put = sqlx::query_with(AssertSqlSafe(put_sql(id, table, chunk.len())), arguments);
        put.execute(&mut *connection).await.map_err(failed)?;
        rest = more;
    }
    Ok(())
}

fn arguments(rows: &[(&CopyRows<'_>, &Row)]) -> Result<SqliteArguments, sqlx::error::BoxDynError> {
    let mut all = SqliteArguments::default();
    for (copy, row) in rows {
        all.add(copy.resource.0)?;
        all.add(i64::try_from(copy.version).unwrap_or(i64::MAX))?;
        all.add(time(copy.changed_at))?;
        all.add(copy.gone_since.map(time))?;
        for cell in *row {
            match cell {
                Cell::Null => all.add(None::<String>)?,
                Cell::Text(text) => all.add(text.clone())?,
                Cell::Integer(integer) => all.add(*integer)?,
                Cell::Real(real) => all.add(*real)?,
                Cell::Boolean(flag) => all.add(*flag)?,
            }
        }
    }
    Ok(all)
}

/// A time as rows have it: a text that sorts like the times.
fn time(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// What SQLite calls a type. Decimal numbers are numbers to it, of which it keeps 15 digits: as texts they would not sort.
pub(super) const fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Integer | ColumnType::Boolean => "integer",
        ColumnType::Real => "real",
        ColumnType::Numeric => "numeric",
        ColumnType::Text | ColumnType::Timestamp | ColumnType::Date | ColumnType::Json => "text",
    }
}

/// Only for resources that are still there. What a single row was before is overwritten; sets have been cleared.
pub(super) fn put_sql(TableId(id): TableId, table: &Table, rows: usize) -> String {
    let columns: Vec<_> = names(table).collect();
    let list = joined(columns.iter().map(|name| format!(", {name}")));
    let values = joined((5..5 + columns.len()).map(|n| format!(", v.column{n}")));
    let row = format!("({})", vec!["?"; 4 + columns.len()].join(", "));
    let set = joined(columns.iter().map(|name| format!(", {name} = excluded.{name}")));
    let conflict = match &table.rows {
        Some(rows) => format!("ON CONFLICT (key, {}) DO UPDATE SET", quoted(&rows.key.name)),
        None => "ON CONFLICT (key) DO UPDATE SET".into(),
    };
    format!(
        "INSERT INTO headpond_typed_{id} (headpond_id, key, version, changed_at, gone_at{list})
         SELECT r.id, r.key, v.column2, v.column3, v.column4{values}
         FROM (VALUES {}) AS v CROSS JOIN headpond_resource AS r WHERE r.id = v.column1
         {conflict} headpond_id = excluded.headpond_id, version = excluded.version,
             changed_at = excluded.changed_at, gone_at = excluded.gone_at{set}",
        vec![row; rows].join(", ")
    )
}

pub(super) fn clear_sql(TableId(id): TableId) -> String {
    format!("DELETE FROM headpond_typed_{id} WHERE headpond_id IN (SELECT value FROM json_each(?1))")
}

pub(super) fn gone_sql(TableId(id): TableId) -> String {
    format!(
        "UPDATE headpond_typed_{id} AS t SET gone_at = j.value ->> 1
         FROM jsonb_each(?1) AS j WHERE t.headpond_id = j.value ->> 0 AND t.gone_at IS NULL"
    )
}

/// The statements that make a physical table.
pub(super) fn table_sql(TableId(id): TableId, table: &Table) -> String {
    let column = |column: &Column| {
        let null = if column.nullable { "" } else { " NOT NULL" };
        format!("{} {}{null}, ", quoted(&column.name), sql_type(column.kind))
    };
    let columns = joined(table.row().map(column));
    let key = joined(table.rows.iter().map(|rows| format!(", {}", quoted(&rows.key.name))));
    let index = |(n, column): (usize, &Column)| {
        format!("CREATE INDEX headpond_typed_{id}_{n} ON headpond_typed_{id} ({});", quoted(&column.name))
    };
    let indexes = joined(tables::indexed(table).map(index));
    format!(
        "CREATE TABLE headpond_typed_{id} (
             headpond_id integer NOT NULL REFERENCES headpond_resource ON DELETE CASCADE,
             key text NOT NULL, {columns}
             version integer NOT NULL, changed_at text NOT NULL, gone_at text,
             PRIMARY KEY (key{key})
         );
         CREATE INDEX headpond_typed_{id}_resource ON headpond_typed_{id} (headpond_id);
         {indexes}"
    )
}
