//! News from other connections and processes: SQLite counts their commits in `data_version`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::error::failed;
use crate::store::{Follower, News, StoreError};

/// How often to look. One look takes microseconds: SQLite compares a number in shared memory.
const INTERVAL: Duration = Duration::from_millis(50);

/// Changes when another connection commits, be it of this process or of another.
const DATA_VERSION: &str = "PRAGMA data_version";

/// Watches through a connection of its own, since a connection's own commits don't count there.
pub(super) struct DataVersion {
    file: SqliteConnectOptions,
    connection: SqliteConnection,
    seen: i64,
    // A failed look is told as an error once; the next call opens the file again.
    is_broken: bool,
}

impl DataVersion {
    /// Watches from now on.
    pub(super) async fn watch(file: &SqliteConnectOptions) -> Result<Self, StoreError> {
        let file = file.clone().create_if_missing(false).pragma("query_only", "ON");
        let mut connection = SqliteConnection::connect_with(&file).await.map_err(failed)?;
        let seen = look(&mut connection).await?;
        Ok(Self { file, connection, seen, is_broken: false })
    }
}

async fn look(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar(DATA_VERSION).fetch_one(connection).await.map_err(failed)
}

#[async_trait]
impl Follower for DataVersion {
    async fn news(&mut self) -> Result<News, StoreError> {
        if self.is_broken {
            *self = Self::watch(&self.file).await?;
            return Ok(News::Resync);
        }
        loop {
            let version = look(&mut self.connection).await.inspect_err(|_| self.is_broken = true)?;
            if version != self.seen {
                self.seen = version;
                return Ok(News::Something);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
