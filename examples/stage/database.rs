//! The app's database, in which Headpond keeps its copies too. Your own app has one kind and needs none of this: it writes
//! `sqlx::query(SQL).fetch_all(&pool)`.

use std::str::FromStr;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};

use super::Result;

/// A pool of connections.
#[derive(Clone)]
pub enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Does the same with the pool of either kind: `on!(database, pool => sqlx::query(SQL).fetch_all(pool).await?)`.
macro_rules! on {
    ($database:expr, $pool:ident => $what:expr) => {
        match $database {
            $crate::stage::Database::Sqlite($pool) => $what,
            $crate::stage::Database::Postgres($pool) => $what,
        }
    };
}
pub(crate) use on;

const SQLITE_HAS: &str = "SELECT count(*) FROM sqlite_schema";
const POSTGRES_HAS: &str = "
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'";

impl Database {
    /// Connects to one that is empty: what is in another is somebody's.
    pub(super) async fn connect(url: &str) -> Result<Self> {
        let (database, has) = match url.split_once(':') {
            Some(("sqlite", _)) => {
                let options = SqliteConnectOptions::from_str(url)?.create_if_missing(true);
                let pool = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Wal)).await?;
                (Self::Sqlite(pool), SQLITE_HAS)
            }
            Some(("postgres" | "postgresql", _)) => {
                // With this, an app finds Headpond's views as it finds its own tables.
                let options = PgConnectOptions::from_str(url)?.options([("search_path", "public,headpond_data")]);
                // A pool would not say why it has no connection.
                PgConnection::connect_with(&options).await?.close().await?;
                let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await?;
                (Self::Postgres(pool), POSTGRES_HAS)
            }
            _ => return Err("it is neither sqlite://PATH nor postgres://…".into()),
        };
        let has: i64 = on!(&database, pool => sqlx::query_scalar(has).fetch_one(pool).await?);
        if has > 0 {
            return Err("it is not empty; give the example a database of its own".into());
        }
        Ok(database)
    }
}
