//! Typed tables of sources in tests.

use std::sync::Arc;

use headpond::config::TableHome;
use headpond::domain::content::{BodyRules, JsonPath};
use headpond::domain::observation::{Seen, Via};
use headpond::domain::policy::Policy;
use headpond::domain::resource::SourceId;
use headpond::domain::table::{Column, ColumnType, Rows, Table};
use headpond::store::{Claim, Fate, TableId};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use super::outcomes::policy;
use super::store::{Database, TestStore};

pub fn home() -> TableHome {
    TableHome { schema: "headpond_data".into(), grant_select_to: Vec::new() }
}

/// A column; a name that ends with `?` may have no value.
pub fn column(name: &str, path: &str, kind: ColumnType) -> Column {
    let nullable = name.ends_with('?');
    let paths = vec![JsonPath::new(path).unwrap()];
    Column { name: name.trim_end_matches('?').into(), paths, kind, nullable, index: false }
}

/// A table with one row for each copy.
pub fn table(name: &str, mut columns: Vec<Column>) -> Arc<Table> {
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    Arc::new(Table { name: name.into(), columns, rows: None })
}

/// `users` with `name text` and `age integer`, which may be missing.
pub fn users() -> Arc<Table> {
    table("users", vec![column("name", "$.name", ColumnType::Text), column("age?", "$.age", ColumnType::Integer)])
}

/// `hours` with a row for each element of `$.hours`.
pub fn hours() -> Arc<Table> {
    let rows = Rows { items: JsonPath::new("$.hours[*]").unwrap(), key: column("at", "$.at", ColumnType::Timestamp) };
    let columns = vec![column("celsius", "$.celsius", ColumnType::Real)];
    Arc::new(Table { name: "hours".into(), columns, rows: Some(rows) })
}

/// The rules of a source with this table.
pub fn typed(table: &Arc<Table>) -> Policy {
    Policy { body: BodyRules { table: Some(Arc::clone(table)), ..BodyRules::default() }, ..policy() }
}

impl TestStore {
    /// Makes a table, fills it and opens it.
    pub async fn open_table(&self, source: SourceId, table: &Table) -> TableId {
        let id = self.store.begin_table(source, table).await.unwrap();
        while !self.store.fill_table(id, 2).await.unwrap().is_all {}
        self.store.open_table(id, &home()).await.unwrap();
        id
    }

    /// Commits an answer for a source with this table.
    pub async fn settle_typed(&self, table: &Arc<Table>, claim: &Claim, seen: Seen) -> Fate {
        let settled = self.settled_by(&typed(table), claim, seen, Via::default());
        self.store.apply(&[settled]).await.unwrap().fates[0]
    }

    /// The rows of a query as texts; `[name]` stands for the view of that name.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        self.database.rows(sql).await
    }
}

impl Database {
    /// The rows of a query as texts, with `|` between columns and `-` for NULL; `[name]` stands for the view of that name.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let sql = self.with_views(sql);
        match self {
            Self::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
                let text = |row: &sqlx::sqlite::SqliteRow, at: usize| row.get_unchecked::<Option<String>, _>(at);
                rows.iter().map(|row| joined((0..row.len()).map(|at| text(row, at)))).collect()
            }
            Self::Postgres { .. } => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                sqlx::query("SET TIME ZONE 'UTC'").execute(&mut connection).await.unwrap();
                // Of the simple protocol, all values are texts.
                let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
                let text = |row: &sqlx::postgres::PgRow, at: usize| row.get_unchecked::<Option<String>, _>(at);
                rows.iter().map(|row| joined((0..row.len()).map(|at| text(row, at)))).collect()
            }
        }
    }

    /// `[name]` stands for the view of that name.
    pub fn with_views(&self, sql: &str) -> String {
        let schema = match self {
            Self::Sqlite { .. } => "",
            Self::Postgres { .. } => "headpond_data.",
        };
        sql.replace('[', schema).replace(']', "")
    }

    /// Runs statements; `[name]` stands for the view of that name.
    pub async fn run(&self, sql: &str) {
        self.execute_as_it_is(self.with_views(sql)).await.unwrap();
    }
}

fn joined(cells: impl Iterator<Item = Option<String>>) -> String {
    cells.map(|cell| cell.unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join("|")
}
