//! The one connection that writes.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{Connection, Sqlite, Transaction};

use super::error::failed;
use super::script::Script;
use crate::store::StoreError;

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// It does: what was served or announced stays.
    Full,
    /// It doesn't, so that a power failure (not a crash of this process) may take it back. For claims, releases,
    /// confirmations and webhooks: losing one means that a request is made, or a message sent, again. The WAL keeps the order of commits, so no later
    /// one survives without it, and the next full commit makes it durable too.
    Relaxed,
}

impl Durability {
    /// Sets it. Inside a transaction this would do nothing.
    fn pragma(self) -> &'static str {
        match self {
            Self::Full => "PRAGMA synchronous = FULL",
            Self::Relaxed => "PRAGMA synchronous = NORMAL",
        }
    }
}

/// SQLite has one writer at a time. Those of this process wait for each other here, in turn, and not in SQLite's busy
/// handler, which sleeps and is unfair.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    // `None` once it is closed.
    connection: Option<SqliteConnection>,
    // What `PRAGMA synchronous` is set to; `None` while that is not known.
    durability: Option<Durability>,
    is_broken: bool,
}

impl Writer {
    /// Takes a connection made with these options.
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        Self { options, connection: Some(connection), durability: None, is_broken: false }
    }

    /// Begins a transaction that may write from its first statement on.
    ///
    /// One that reads first and writes later could be told SQLITE_BUSY_SNAPSHOT, which no waiting cures.
    pub(super) async fn begin(&mut self, durability: Durability) -> Result<Transaction<'_, Sqlite>, StoreError> {
        self.repair().await?;
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        if self.durability != Some(durability) {
            self.durability = None;
            sqlx::query(durability.pragma()).execute(&mut *connection).await.map_err(failed)?;
            self.durability = Some(durability);
        }
        match connection.begin_with("BEGIN IMMEDIATE").await {
            Ok(transaction) => Ok(transaction),
            Err(error) => {
                self.is_broken = matches!(error, sqlx::Error::WorkerCrashed);
                Err(failed(error))
            }
        }
    }

    /// Replaces a connection that can't begin a transaction any more. When SQLite itself rolls one back (disk full, I/O
    /// error), sqlx goes on counting it as open.
    async fn repair(&mut self) -> Result<(), StoreError> {
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        if connection.is_in_transaction() {
            // One that was dropped is rolled back before this returns.
            self.is_broken |= connection.ping().await.is_err() || connection.is_in_transaction();
        }
        if self.is_broken {
            self.durability = None;
            *connection = SqliteConnection::connect_with(&self.options).await.map_err(failed)?;
            self.is_broken = false;
        }
        Ok(())
    }

    /// Runs what begins, continues or ends a transaction of this durability. After an error there is none any more.
    pub(super) async fn run(
        &mut self,
        script: &mut Script,
        durability: Durability,
    ) -> Result<Vec<Vec<SqliteRow>>, StoreError> {
        self.durability = None;
        let answers = script.run(self.connection()?).await;
        match answers {
            Ok(answers) => {
                self.durability = Some(durability);
                Ok(answers)
            }
            Err(error) => {
                self.is_broken |= matches!(error, sqlx::Error::WorkerCrashed);
                self.roll_back().await;
                Err(failed(error))
            }
        }
    }

    /// What has to go before the first statement of a transaction.
    pub(super) async fn opening(&mut self, durability: Durability) -> Result<Vec<&'static str>, StoreError> {
        self.repair().await?;
        let pragma = (self.durability != Some(durability)).then(|| durability.pragma());
        Ok(pragma.into_iter().chain(["BEGIN IMMEDIATE"]).collect())
    }

    /// Ends a transaction that [`run`](Self::run) has begun, if there is one.
    pub(super) async fn roll_back(&mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        if let Err(error) = sqlx::raw_sql("ROLLBACK").execute(connection).await {
            // Where SQLite has rolled back by itself, or never begun, there is nothing to end.
            self.is_broken |= matches!(error, sqlx::Error::WorkerCrashed);
        }
    }

    /// The connection, outside of any transaction.
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.connection.as_mut().ok_or_else(closed)
    }

    /// Moves what is in the write-ahead log into the database file, and closes it.
    pub(super) async fn shut_down(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        // Another process may be reading; what stays in the log is safe there and moved by the next checkpoint.
        let checkpointed = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.map(drop);
        if let Err(error) = checkpointed.and(connection.close().await) {
            tracing::debug!(%error, "the database was not closed cleanly; nothing is lost");
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}
