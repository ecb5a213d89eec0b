//! Opens the file, and makes sure of everything that the guarantees stand on.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::Mutex;

use super::error::{failed, failed_to_open};
use super::writer::{Durability, Writer};
use super::{SqliteStore, migrate};
use crate::clock::Clock;
use crate::store::columns::parse_seed;
use crate::store::retry::retrying;
use crate::store::{Inspected, SchemaState, StoreError, StoreOptions};

/// SQLite up to 3.51.2 can lose committed pages when a checkpoint resets the log ("WAL-reset bug").
const LEAST_VERSION: [u32; 3] = [3, 51, 3];

/// How long SQLite waits for another process's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SEED: &str = "SELECT value FROM headpond_meta WHERE name = 'seed'";

impl SqliteStore {
    /// Opens the database at `url`, `sqlite://path`.
    pub(crate) async fn connect(url: &str, options: &StoreOptions, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let file = file(url)?;
        let path = file.get_filename().to_path_buf();
        check_file(&path, options.create)?;
        let file = file
            .create_if_missing(options.create)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("journal_size_limit", "67108864");
        let path = path.display().to_string();

        let writing = file
            .clone()
            // Rows on their way from SQLite's thread: as many as a claim reads, so that it need not wait for them to be taken.
            .row_buffer_size(1024)
            // Holds the schedule's pages of some hundred thousand resources.
            .pragma("cache_size", "-65536")
            // A page that many commits rewrite goes to the file once per checkpoint: let more gather. Measured on 100,000
            // schedule rows in batches of 256 whose ids lie anywhere: 8,300 rows/s with the usual 1,000 pages, 13,500 with
            // 4,000, no more with 16,000; and neither is faster with mmap.
            .pragma("wal_autocheckpoint", "4000");
        let connection = retrying(|| open_writer(&path, &writing, options.migrate, &*clock)).await?;
        let mut writer = Writer::new(writing, connection);
        let (version, seed) = verify(&mut writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .connect_with(file.clone().create_if_missing(false).pragma("query_only", "ON"))
            .await
            .map_err(|error| failed_to_open(&path, error))?;
        let description = format!("SQLite {version} (WAL, synchronous=FULL) in {path}");
        Ok(Self { description, seed, clock, file, writer: Arc::new(Mutex::new(writer)), readers })
    }
}

/// Looks at what is there, and leaves it as it is.
pub(in crate::store) async fn inspect(url: &str) -> Result<Inspected, StoreError> {
    let file = file(url)?;
    let path = file.get_filename().to_path_buf();
    check_file(&path, true)?;
    let description = format!("SQLite in {}", path.display());
    if !path.exists() {
        return Ok(Inspected { description, schema: SchemaState::Absent });
    }
    let path = path.display().to_string();
    let at = |error| failed_to_open(&path, error);
    let file = file.read_only(true).busy_timeout(BUSY_TIMEOUT);
    let mut connection = SqliteConnection::connect_with(&file).await.map_err(at)?;
    sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await.map_err(at)?;
    let schema = migrate::inspect(&path, &mut connection).await?;
    connection.close().await.map_err(at)?;
    Ok(Inspected { description, schema })
}

/// Reads the URL.
fn file(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    if url.contains('?') {
        return Err(StoreError::Unusable(
            "database.url: a sqlite:// URL is a path alone: nothing may follow a `?`".into(),
        ));
    }
    SqliteConnectOptions::from_str(url)
        .map_err(|error| StoreError::Unusable(format!("the database URL can't be used: {error}")))
}

/// Says what is wrong with a path while we still know it as one: SQLite's own word for most of it is "unable to open".
fn check_file(path: &Path, may_create: bool) -> Result<(), StoreError> {
    let refuse = |problem: String| Err(StoreError::Unusable(format!("database.url: {}: {problem}", path.display())));
    if path.as_os_str().is_empty() || path.to_string_lossy().starts_with("file:") || path == Path::new(":memory:") {
        return Err(StoreError::Unusable(
            "the database URL must name a file, as in sqlite://headpond.db: a database in memory is lost".into(),
        ));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match directory.metadata() {
        Ok(found) if !found.is_dir() => return refuse(format!("{} is not a directory", directory.display())),
        Ok(found) if found.permissions().readonly() => {
            return refuse(format!("the directory {} is read-only; SQLite makes files beside it", directory.display()));
        }
        Ok(_) => {}
        Err(error) => return refuse(format!("the directory {} can't be used: {error}", directory.display())),
    }
    match path.metadata() {
        Ok(found) if found.is_dir() => refuse("it is a directory; name a file".into()),
        Ok(found) if found.permissions().readonly() => refuse("it is read-only; headpond must write to it".into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_create => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse("there is no such file; run `headpond migrate` to make it".into())
        }
        Err(error) => refuse(error.to_string()),
    }
}

/// Opens the writer's connection: looks before it changes anything, since the file may belong to someone else.
async fn open_writer(
    path: &str,
    options: &SqliteConnectOptions,
    may_migrate: bool,
    clock: &dyn Clock,
) -> Result<SqliteConnection, StoreError> {
    let at = |error| failed_to_open(path, error);
    let mut connection = SqliteConnection::connect_with(options).await.map_err(at)?;
    sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await.map_err(at)?;
    let is_outdated = migrate::inspect(path, &mut connection).await? != SchemaState::UpToDate;
    if is_outdated && !may_migrate {
        return Err(StoreError::Unusable(format!(
            "the database {path} does not have headpond's tables of this version: run `headpond migrate`"
        )));
    }
    sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await.map_err(at)?;
    if is_outdated {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(at)?;
        migrate::migrate(path, &mut transaction, clock.now()).await?;
        transaction.commit().await.map_err(at)?;
    }
    Ok(connection)
}

/// Asserts what the guarantees need, by asking SQLite itself; returns its version and the database's seed.
async fn verify(writer: &mut Writer) -> Result<(String, u64), StoreError> {
    writer.begin(Durability::Full).await?.rollback().await.map_err(failed)?;
    let connection = writer.connection()?;
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut *connection).await.map_err(failed)?;
    if !is_recent(&version) {
        return Err(StoreError::Unusable(format!(
            "SQLite {version} can lose committed data in WAL mode: headpond needs 3.51.3 or newer"
        )));
    }
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await.map_err(failed)?;
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await.map_err(failed)?;
    if journal != "wal" || synchronous != 2 {
        return Err(StoreError::Unusable(format!(
            "SQLite would not keep what is committed: journal_mode is {journal}, not wal, or synchronous is \
             {synchronous}, not 2 (FULL); is the file on a network file system?"
        )));
    }
    let seed: String = sqlx::query_scalar(SEED).fetch_one(connection).await.map_err(failed)?;
    Ok((version, parse_seed(&seed)?))
}

fn is_recent(version: &str) -> bool {
    let numbers: Vec<u32> = version.split('.').map_while(|number| number.parse().ok()).collect();
    numbers.as_slice() >= LEAST_VERSION.as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_wal_reset_bug_are_known() {
        assert!(is_recent("3.51.3"));
        assert!(is_recent("3.52.0"));
        assert!(is_recent("4.0"));
        assert!(!is_recent("3.51.2"));
        assert!(!is_recent("3.9.99"));
        assert!(!is_recent("unknown"));
    }
}
