//! A new database of each kind, and how many bytes it has written so far.

use std::path::Path;
use std::sync::Arc;

use headpond::clock::{Clock, SystemClock};
use headpond::store::{self, Store, StoreOptions};
use sqlx::{Connection, Executor, PgConnection, Row};

/// A database to measure.
pub(crate) enum Database {
    Sqlite(tempfile::TempDir),
    Postgres { server: String, name: String },
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temp dir"))
    }

    /// A database of its own on the server that HEADPOND_TEST_POSTGRES names.
    pub(crate) async fn postgres(name: &str) -> Self {
        let server = std::env::var("HEADPOND_TEST_POSTGRES")
            .expect("HEADPOND_TEST_POSTGRES: run this by `tests/run -- cargo bench --bench refresh`");
        let name = format!("headpond_bench_{name}_{}", std::process::id());
        let mut connection = PgConnection::connect(&server).await.expect("the server");
        connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database");
        Self::Postgres { server, name }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres { .. } => "Postgres",
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(dir) => format!("sqlite://{}", dir.path().join("bench.db").display()),
            Self::Postgres { server, name } => {
                let mut url = url::Url::parse(server).expect("a URL");
                url.set_path(name);
                url.into()
            }
        }
    }

    pub(crate) async fn connect(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let options = StoreOptions { readers: 4, migrate: true, create: true };
        store::connect(&self.url(), &options, clock).await.expect("a store")
    }

    /// A place to count written bytes from.
    pub(crate) async fn mark(&self) -> Mark {
        match self {
            Self::Sqlite(_) => Mark::File(written_by_this_process()),
            Self::Postgres { .. } => {
                let mut keeper = PgConnection::connect(&self.url()).await.expect("the database");
                // The slot keeps the WAL until it has been read, and goes with its connection, however this process ends.
                let name = format!("headpond_bench_{}", std::process::id());
                let slot = format!(
                    "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint
                       FROM pg_create_physical_replication_slot('{name}', immediately_reserve => true, temporary => true)"
                );
                let from = number(&mut keeper, &slot).await;
                Mark::Log { from, keeper }
            }
        }
    }

    /// Bytes written since then: what this process handed to SQLite's files, or Postgres's WAL. Full-page images are left
    /// out: how many there are depends on when a checkpoint came last.
    pub(crate) async fn bytes_since(&self, mark: Mark) -> u64 {
        match mark {
            Mark::File(before) => written_by_this_process() - before,
            Mark::Log { from, mut keeper } => {
                keeper
                    .execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
                    .await
                    .expect("PostgreSQL 15 with contrib");
                let query = format!(
                    "SELECT sum(record_size)::bigint
                       FROM pg_get_wal_stats('0/0'::pg_lsn + {from}::numeric, pg_current_wal_flush_lsn())"
                );
                number(&mut keeper, &query).await.unsigned_abs()
            }
        }
    }

    pub(crate) async fn drop(self) {
        if let Self::Postgres { server, name } = self {
            let mut connection = PgConnection::connect(&server).await.expect("the server");
            let statement = format!("DROP DATABASE {name} WITH (FORCE)");
            connection.execute(sqlx::AssertSqlSafe(statement)).await.expect("to drop the database");
        }
    }
}

/// Where counting began.
pub(crate) enum Mark {
    /// So many bytes had this process written to files.
    File(u64),
    /// The WAL was so long; the connection keeps what comes after it.
    Log { from: i64, keeper: PgConnection },
}

async fn number(connection: &mut PgConnection, query: &str) -> i64 {
    let row = connection.fetch_one(sqlx::AssertSqlSafe(query.to_owned())).await.expect("a number");
    row.try_get(0).expect("a number")
}

/// Bytes that this process has handed to write calls on files (sockets are written by other calls).
fn written_by_this_process() -> u64 {
    let io = std::fs::read_to_string(Path::new("/proc/self/io")).expect("Linux's /proc");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a wchar line");
    line.trim().parse().expect("a number")
}

/// The real clock.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}
