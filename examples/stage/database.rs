//! The app's database, in which Headpond keeps its copies too. Your own app has one kind and needs none of this: it writes
//! `sqlx::query(SQL).fetch_all(&pool)`.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
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

impl Database {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)?.create_if_missing(true);
            let pool = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Wal)).await?;
            return Ok(Self::Sqlite(pool));
        }
        // With this, an app finds Headpond's views as it finds its own tables.
        let options = PgConnectOptions::from_str(url)?.options([("search_path", "public,headpond_data")]);
        Ok(Self::Postgres(PgPoolOptions::new().max_connections(4).connect_with(options).await?))
    }
}
