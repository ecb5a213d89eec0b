//! Who owns the configuration.

use chrono::{DateTime, Utc};
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

use super::SqliteStore;
use super::error::failed;
use super::writer::Durability;
use crate::store::StoreError;
use crate::store::columns::{CONFIG_OWNER, config_owner, parse_config_owner};

const OWN: &str = "
    INSERT INTO headpond_meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

const RENEW: &str = "
    UPDATE headpond_meta SET value = ?3 WHERE name = ?1 AND substr(value, instr(value, ' ') + 1) = ?2";

const DISOWN: &str = "DELETE FROM headpond_meta WHERE name = ?1 AND substr(value, instr(value, ' ') + 1) = ?2";

pub(super) const OWNER: &str = "SELECT value FROM headpond_meta WHERE name = ?1";

impl SqliteStore {
    pub(super) async fn set_config_owner(&self, worker: &str, until: DateTime<Utc>) -> Result<(), StoreError> {
        self.write_owner(sqlx::query(OWN).bind(CONFIG_OWNER).bind(config_owner(worker, until))).await.map(drop)
    }

    pub(super) async fn renew_config_owner(&self, worker: &str, until: DateTime<Utc>) -> Result<bool, StoreError> {
        let renew = sqlx::query(RENEW).bind(CONFIG_OWNER).bind(worker).bind(config_owner(worker, until));
        Ok(self.write_owner(renew).await? > 0)
    }

    pub(super) async fn remove_config_owner(&self, worker: &str) -> Result<(), StoreError> {
        self.write_owner(sqlx::query(DISOWN).bind(CONFIG_OWNER).bind(worker)).await.map(drop)
    }

    /// Returns how many rows it wrote.
    async fn write_owner(&self, write: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, StoreError> {
        let mut writer = self.writer().await;
        // A power failure ends the owner too.
        let mut transaction = writer.begin(Durability::Relaxed).await?;
        let rows = write.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
        transaction.commit().await.map_err(failed)?;
        Ok(rows)
    }

    pub(super) async fn read_config_owner(&self, now: DateTime<Utc>) -> Result<Option<String>, StoreError> {
        let stored = sqlx::query_scalar(OWNER).bind(CONFIG_OWNER).fetch_optional(&self.readers).await;
        let stored: Option<String> = stored.map_err(failed)?;
        stored.map_or(Ok(None), |stored| parse_config_owner(&stored, now))
    }
}
