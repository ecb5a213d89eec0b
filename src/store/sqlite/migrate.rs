//! Makes Headpond's tables, and refuses databases that it must not touch.
//!
//! The app may keep its own `_sqlx_migrations` in the same file, so ours are counted in a table of our own. sqlx's
//! migrator could use another table's name, but it takes no lock on SQLite: two processes that start at the same moment
//! would both try. Here the whole run is one transaction that holds the write lock.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::error::failed;
use crate::store::columns::{check_format, micros};
use crate::store::migrations::{self, Migration};
use crate::store::{SchemaState, StoreError};

/// All names that begin as ours do. GLOB, because `_` is a wildcard of LIKE.
const TAKEN_NAMES: &str = "SELECT name FROM sqlite_schema WHERE name GLOB 'headpond_*' ORDER BY name";

/// Ours has these three columns.
const IS_OURS: &str = "
    SELECT count(*) FROM pragma_table_info('headpond_migration') WHERE name IN ('version', 'name', 'applied_at')";

const NEEDS_FORMAT: &str = "SELECT value FROM headpond_meta WHERE name = 'needs_format'";

const MIGRATION_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS headpond_migration (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        applied_at integer NOT NULL
    )";

const APPLIED: &str = "SELECT version FROM headpond_migration";

const REMEMBER: &str = "INSERT INTO headpond_migration (version, name, applied_at) VALUES (?1, ?2, ?3)";

/// Checks what is there without changing it.
///
/// # Errors
/// [`StoreError::Unusable`] when a name of ours is taken or the database needs a newer program.
pub(super) async fn inspect(path: &str, connection: &mut SqliteConnection) -> Result<SchemaState, StoreError> {
    let taken: Vec<String> = sqlx::query_scalar(TAKEN_NAMES).fetch_all(&mut *connection).await.map_err(failed)?;
    let Some(first) = taken.first() else { return Ok(SchemaState::Absent) };
    let has = |name: &str| taken.iter().any(|taken| taken == name);
    let marks: i64 = sqlx::query_scalar(IS_OURS).fetch_one(&mut *connection).await.map_err(failed)?;
    if marks != 3 || !has("headpond_meta") {
        return Err(StoreError::Unusable(format!(
            "the database {path} has a table, view or index `{first}` that headpond did not make: rename it, or name \
             another database"
        )));
    }
    let needs: Option<String> =
        sqlx::query_scalar(NEEDS_FORMAT).fetch_optional(&mut *connection).await.map_err(failed)?;
    check_format(&needs.unwrap_or_default())?;
    Ok(if missing(connection).await?.is_empty() { SchemaState::UpToDate } else { SchemaState::Outdated })
}

/// Brings the schema up to date, with the write lock held by the caller's transaction.
pub(super) async fn migrate(
    path: &str,
    connection: &mut SqliteConnection,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    // Another process may have been here since the first look.
    inspect(path, connection).await?;
    sqlx::query(MIGRATION_TABLE).execute(&mut *connection).await.map_err(failed)?;
    for migration in missing(connection).await? {
        sqlx::raw_sql(migration.sqlite).execute(&mut *connection).await.map_err(failed)?;
        sqlx::query(REMEMBER)
            .bind(migration.version)
            .bind(migration.name)
            .bind(micros(now))
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

async fn missing(connection: &mut SqliteConnection) -> Result<Vec<&'static Migration>, StoreError> {
    let made: Vec<i64> = sqlx::query_scalar(APPLIED).fetch_all(connection).await.map_err(failed)?;
    Ok(migrations::missing(&made).collect())
}
