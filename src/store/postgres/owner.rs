//! Who owns the configuration.

use chrono::{DateTime, Utc};

use super::PostgresStore;
use super::error::Result;
use crate::store::columns::{CONFIG_OWNER, config_owner, parse_config_owner};

const OWN: &str = "
    INSERT INTO headpond.meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

pub(super) async fn own(store: &PostgresStore, worker: &str, until: DateTime<Utc>) -> Result<()> {
    sqlx::query(OWN).bind(CONFIG_OWNER).bind(config_owner(worker, until)).execute(&store.writers).await?;
    Ok(())
}

const RENEW: &str = "
    UPDATE headpond.meta SET value = $3 WHERE name = $1 AND substr(value, strpos(value, ' ') + 1) = $2";

pub(super) async fn renew(store: &PostgresStore, worker: &str, until: DateTime<Utc>) -> Result<bool> {
    let renew = sqlx::query(RENEW).bind(CONFIG_OWNER).bind(worker).bind(config_owner(worker, until));
    Ok(renew.execute(&store.writers).await?.rows_affected() > 0)
}

const DISOWN: &str = "DELETE FROM headpond.meta WHERE name = $1 AND substr(value, strpos(value, ' ') + 1) = $2";

pub(super) async fn disown(store: &PostgresStore, worker: &str) -> Result<()> {
    sqlx::query(DISOWN).bind(CONFIG_OWNER).bind(worker).execute(&store.writers).await?;
    Ok(())
}

pub(super) const OWNER: &str = "SELECT value FROM headpond.meta WHERE name = $1";

pub(super) async fn owner(store: &PostgresStore, now: DateTime<Utc>) -> Result<Option<String>> {
    let stored: Option<String> = sqlx::query_scalar(OWNER).bind(CONFIG_OWNER).fetch_optional(&store.readers).await?;
    Ok(stored.map_or(Ok(None), |stored| parse_config_owner(&stored, now))?)
}
