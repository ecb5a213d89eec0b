//! The rows of typed tables, written in the transaction of their copies.

use sqlx::{AssertSqlSafe, PgConnection};

use super::apply::SOURCES_OF;
use super::error::Result;
use crate::domain::project::{Cell, Row};
use crate::domain::resource::{ResourceId, SourceId};
use crate::domain::table::{Column, ColumnType, Table};
use crate::store::columns::micros;
use crate::store::plan::Plan;
use crate::store::tables;
use crate::store::tables::{CopyRows, KnownTable, SourceOf, TableId, TableRows, joined, names, quoted};

/// All tables that have rows, held: nothing turns a view round while a batch writes what is behind it.
pub(super) const OPEN: &str = "
    SELECT t.id, t.source_id, s.name AS source, t.state, t.definition, t.columns, t.schema, t.filled, t.misfits, t.misfit
      FROM headpond.typed t JOIN headpond.source s ON s.id = t.source_id
     WHERE t.state <> 'left' ORDER BY t.id FOR KEY SHARE OF t";

/// How many rows go into one statement.
const AT_ONCE: usize = 5_000;

/// The tables that there are, and the sources of these resources; nothing where there are no tables.
pub(super) async fn open(tx: &mut PgConnection, ids: Vec<i64>) -> Result<(Vec<KnownTable>, SourceOf)> {
    if ids.is_empty() {
        return Ok((Vec::new(), SourceOf::new()));
    }
    let tables = sqlx::query(OPEN).fetch_all(&mut *tx).await?;
    let tables = tables.iter().map(KnownTable::of).collect::<Result<Vec<_>, _>>()?;
    if tables.is_empty() {
        return Ok((tables, SourceOf::new()));
    }
    let source_of: Vec<(i64, i64)> = sqlx::query_as(SOURCES_OF).bind(ids).fetch_all(tx).await?;
    Ok((tables, source_of.into_iter().map(|(id, source)| (ResourceId(id), SourceId(source))).collect()))
}

/// Writes the rows of a plan, and marks those of what is gone.
pub(super) async fn write(
    tx: &mut PgConnection,
    plan: &Plan<'_>,
    (tables, source_of): &(Vec<KnownTable>, SourceOf),
) -> Result<()> {
    for TableRows { table, copies } in tables::rows_of(plan, tables, source_of) {
        put(&mut *tx, table.id, &table.table, &copies).await?;
        let gone = plan.gone.iter().filter(|(id, _)| source_of.get(id) == Some(&table.source));
        let (ids, since): (Vec<_>, Vec<_>) = gone.map(|(id, since)| (id.0, micros(*since))).unzip();
        if !ids.is_empty() {
            sqlx::query(AssertSqlSafe(gone_sql(table.id))).bind(ids).bind(since).execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// Puts the rows of copies in place of those that they had.
pub(super) async fn put(tx: &mut PgConnection, id: TableId, table: &Table, copies: &[CopyRows<'_>]) -> Result<()> {
    if copies.is_empty() {
        return Ok(());
    }
    // A single row is overwritten, unless there is none to write.
    let cleared = copies.iter().filter(|copy| table.rows.is_some() || copy.rows.is_empty());
    let ids: Vec<i64> = cleared.map(|copy| copy.resource.0).collect();
    if !ids.is_empty() {
        sqlx::query(AssertSqlSafe(clear_sql(id))).bind(ids).execute(&mut *tx).await?;
    }
    let rows: Vec<_> = copies.iter().flat_map(|copy| copy.rows.iter().map(move |row| (copy, row))).collect();
    for part in rows.chunks(AT_ONCE) {
        insert(&mut *tx, id, table, part).await?;
    }
    Ok(())
}

async fn insert(tx: &mut PgConnection, id: TableId, table: &Table, rows: &[(&CopyRows<'_>, &Row)]) -> Result<()> {
    let of = |part: fn(&CopyRows<'_>) -> i64| rows.iter().map(|(copy, _)| part(copy)).collect::<Vec<_>>();
    let mut query = sqlx::query(AssertSqlSafe(put_sql(id, table)))
        .bind(of(|copy| copy.resource.0))
        .bind(of(|copy| i64::try_from(copy.version).unwrap_or(i64::MAX)))
        .bind(of(|copy| copy.changed_at))
        .bind(rows.iter().map(|(copy, _)| copy.gone_since).collect::<Vec<_>>());
    for place in 0..table.row().count() {
        query = query.bind(rows.iter().map(|(_, row)| row.get(place).and_then(text)).collect::<Vec<_>>());
    }
    query.execute(tx).await?;
    Ok(())
}

/// A value as Postgres reads it.
fn text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Null => None,
        Cell::Text(text) => Some(text.clone()),
        Cell::Integer(integer) => Some(integer.to_string()),
        // The shortest text that is this number and no other.
        Cell::Real(real) => Some(format!("{real:?}")),
        Cell::Boolean(flag) => Some(flag.to_string()),
    }
}

/// What Postgres calls a type.
pub(super) const fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "text",
        ColumnType::Integer => "bigint",
        ColumnType::Real => "double precision",
        ColumnType::Boolean => "boolean",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Date => "date",
        ColumnType::Numeric => "numeric",
        ColumnType::Json => "jsonb",
    }
}

/// Only for resources that are still there. What a single row was before is overwritten; sets have been cleared.
pub(super) fn put_sql(TableId(id): TableId, table: &Table) -> String {
    let columns: Vec<_> = names(table).collect();
    let arrays = joined((5..5 + columns.len()).map(|n| format!(", ${n}::text[]")));
    let aliases = joined((0..columns.len()).map(|n| format!(", c{n}")));
    let values = joined(table.row().enumerate().map(|(n, column)| format!(", n.c{n}::{}", sql_type(column.kind))));
    let list = joined(columns.iter().map(|name| format!(", {name}")));
    let conflict = if table.rows.is_some() {
        String::new()
    } else {
        let set = joined(columns.iter().map(|name| format!(", {name} = excluded.{name}")));
        format!(
            "ON CONFLICT (key) DO UPDATE SET headpond_id = excluded.headpond_id, version = excluded.version,
             changed_at = excluded.changed_at, gone_at = excluded.gone_at{set}"
        )
    };
    format!(
        "INSERT INTO headpond.typed_{id} (headpond_id, key, version, changed_at, gone_at{list})
         SELECT r.id, r.key, n.version, {}, {}{values}
           FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]{arrays})
                AS n (id, version, changed_at, gone_at{aliases})
           JOIN headpond.resource r ON r.id = n.id
         {conflict}",
        time("n.changed_at"),
        time("n.gone_at")
    )
}

/// To the microsecond, which `to_timestamp` would round.
fn time(micros: &str) -> String {
    format!("timestamptz 'epoch' + {micros} * interval '1 microsecond'")
}

pub(super) fn clear_sql(TableId(id): TableId) -> String {
    format!("DELETE FROM headpond.typed_{id} WHERE headpond_id = ANY($1)")
}

fn gone_sql(TableId(id): TableId) -> String {
    format!(
        "UPDATE headpond.typed_{id} t SET gone_at = {}
           FROM unnest($1::bigint[], $2::bigint[]) AS n (id, since)
          WHERE t.headpond_id = n.id AND t.gone_at IS NULL",
        time("n.since")
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
    let indexes =
        joined(tables::indexed(table).map(|(n, column)| {
            format!("CREATE INDEX typed_{id}_{n} ON headpond.typed_{id} ({});", quoted(&column.name))
        }));
    format!(
        "CREATE TABLE headpond.typed_{id} (
             headpond_id bigint NOT NULL REFERENCES headpond.resource ON DELETE CASCADE,
             key text NOT NULL, {columns}
             version bigint NOT NULL, changed_at timestamptz NOT NULL, gone_at timestamptz,
             PRIMARY KEY (key{key}));
         CREATE INDEX typed_{id}_resource ON headpond.typed_{id} (headpond_id);
         {indexes}"
    )
}

/// The query of a view. A join with what is unique, and of which nothing is asked for, is no part of a plan: so who does not
/// ask for freshness reads no bookkeeping.
pub(super) fn view_sql(TableId(id): TableId, table: &Table, columns: &[String], with_gone: bool) -> String {
    let row_key = joined(table.rows.iter().map(|rows| format!(" t.{},", quoted(&rows.key.name))));
    let columns = joined(columns.iter().map(|name| format!(", t.{}", quoted(name))));
    let (gone_at, only) = if with_gone { (" t.gone_at,", "") } else { ("", "WHERE t.gone_at IS NULL") };
    format!(
        "SELECT t.key,{row_key} t.version, t.changed_at,{gone_at}
                to_timestamp(s.fetched_at / 1000000.0) AS fetched_at,
                to_timestamp(s.stale_after / 1000000.0) AS stale_after,
                CASE WHEN t.gone_at IS NOT NULL THEN 'gone'
                     WHEN s.stale_after > extract(epoch FROM now()) * 1000000 THEN 'fresh'
                     ELSE 'stale' END AS state{columns}
           FROM headpond.typed_{id} t
           LEFT JOIN headpond.schedule s ON s.resource_id = t.headpond_id {only}"
    )
}
