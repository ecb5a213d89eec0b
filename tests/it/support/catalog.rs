//! What is anywhere in a database, found by its catalog.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use super::store::Database;

impl Database {
    /// Table and column of each place where this text is, in all tables that there are.
    pub async fn places_of(&self, text: &str) -> Vec<String> {
        let hex: String = text.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).map(char::from).collect();
        let mut places = Vec::new();
        for (table, column) in self.columns().await {
            let sql = match self {
                // instr of bytes, so that texts, numbers and blobs are all searched as they are stored.
                Self::Sqlite { .. } => {
                    format!("SELECT count(*) FROM \"{table}\" WHERE instr(CAST(\"{column}\" AS blob), x'{hex}') > 0")
                }
                // As text, and as the hexadecimal digits that bytes are written in.
                Self::Postgres { .. } => format!(
                    "SELECT count(*) FROM {table} WHERE position('{text}' IN \"{column}\"::text) > 0
                         OR position('{hex}' IN \"{column}\"::text) > 0"
                ),
            };
            if self.number(&sql).await > 0 {
                places.push(format!("{table}.{column}"));
            }
        }
        places
    }

    /// All columns of all tables but the database's own.
    async fn columns(&self) -> Vec<(String, String)> {
        let sql = match self {
            Self::Sqlite { .. } => {
                "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_xinfo(t.name) AS c WHERE t.type = 'table'"
            }
            Self::Postgres { .. } => {
                "SELECT format('%I.%I', table_schema, table_name), column_name::text FROM information_schema.columns
                  JOIN information_schema.tables USING (table_schema, table_name)
                  WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            }
        };
        let sql = AssertSqlSafe(sql);
        let columns: Vec<(String, String)> = match self {
            Self::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
            Self::Postgres { .. } => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        };
        assert!(columns.len() > 100, "{columns:?}");
        columns
    }
}
