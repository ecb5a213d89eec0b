//! Opening a database, and looking at one.

use std::sync::Arc;

use super::{Store, StoreError, measure, postgres, sqlite};
use crate::clock::Clock;

/// How to reach a database.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Connections for reading; writes of one process go through one more on SQLite.
    pub readers: u32,
    /// Whether to bring the schema up to date. Without it, an out-of-date schema is an error.
    pub migrate: bool,
    /// Whether a SQLite file that isn't there is made.
    pub create: bool,
}

/// Connects to the database at `url` (`sqlite://path` or `postgres://…`).
///
/// # Errors
/// [`StoreError::Unusable`] when the database isn't ours, is read-only, too new, or not migrated; or when it doesn't keep
/// what it committed (`synchronous` too low). [`StoreError::Unreachable`] when it can't be reached.
pub async fn connect(url: &str, options: &StoreOptions, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    let store: Arc<dyn Store> = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Arc::new(sqlite::SqliteStore::connect(url, options, clock).await?),
        Some("postgres" | "postgresql") => Arc::new(postgres::PostgresStore::connect(url, options, clock).await?),
        _ => return Err(not_a_database()),
    };
    Ok(Arc::new(measure::Measured(store)))
}

/// What [`inspect`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// What the database is.
    pub description: String,
    /// What is in it of ours.
    pub schema: SchemaState,
}

/// How far a database is from what this program works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// Nothing of ours is there.
    Absent,
    /// It was made by an older program: migrations are missing.
    Outdated,
    /// Nothing is missing.
    UpToDate,
}

/// Looks at the database at `url`, and makes and changes nothing.
///
/// # Errors
/// As [`connect`], as far as that can be told without writing.
pub async fn inspect(url: &str) -> Result<Inspected, StoreError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => sqlite::inspect(url).await,
        Some("postgres" | "postgresql") => postgres::inspect(url).await,
        _ => Err(not_a_database()),
    }
}

fn not_a_database() -> StoreError {
    StoreError::Unusable("the database URL must begin with sqlite:// or postgres://".into())
}
