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
            .expect("HEADPOND_TEST_POSTGRES: run this by `tests/with-postgres cargo bench --bench refresh`");
        let name = format!("headpond_bench_{name}_{}", std::process::id());
        let mut connection = PgConnection::connect(&server).await.expect("the server");
        // Full-page images depend on when a checkpoint came last: they would drown what a row costs.
        for statement in ["ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"] {
            connection.execute(statement).await.expect("a superuser");
        }
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

    /// Bytes written since the database began: SQLite's writes by this process, Postgres's WAL.
    pub(crate) async fn bytes_written(&self) -> u64 {
        match self {
            Self::Sqlite(_) => written_by_this_process(),
            Self::Postgres { server, .. } => {
                let mut connection = PgConnection::connect(server).await.expect("the server");
                let row = connection
                    .fetch_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
                    .await
                    .expect("the WAL's position");
                row.get::<i64, _>(0).unsigned_abs()
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
