//! Reaching the server, and how each session is set up.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::Mutex;

use super::error::{Fault, Result};
use super::{PostgresStore, migrate};
use crate::clock::Clock;
use crate::store::{Inspected, StoreError, StoreOptions};

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is tried before it is used; the others save that round trip.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Connections for writing: what waits for one row must not keep the rest from writing, and more than a few writers only
/// wait for `counter`.
const WRITERS: u32 = 4;

/// What every session asks for, whatever the role's or the database's defaults are.
///
/// - A commit is on disk when it returns; `remote_apply`, which promises more, stays.
/// - Each statement sees what was committed before it began: a claim reads leases after it has the upstream's lock.
/// - Nobody waits for ever, and a process that freezes in a transaction soon loses its locks.
/// - Index pages count as nearly as cheap as the others, and nothing is compiled: all statements but a few are short.
const SESSION: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    SET default_transaction_isolation = 'read committed';
    SET lock_timeout = '5s';
    SET statement_timeout = '60s';
    SET idle_in_transaction_session_timeout = '20s';
    SET random_page_cost = 1.1;
    SET jit = off";

impl PostgresStore {
    /// Connects, and brings the schema up to date if asked to.
    pub(in crate::store) async fn connect(
        url: &str,
        options: &StoreOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let server = server(url)?;
        let mut first = first_connection(&server).await?;
        let description = check_server(&mut first).await?;
        let seed = migrate::bring_up(&mut first, options.migrate).await?;
        // Everything is done: a connection that can't say goodbye is no fault.
        _ = first.close().await;
        Ok(Self {
            readers: pool(&server, options.readers.max(1)),
            writers: pool(&server, WRITERS),
            queries: Mutex::new(pool(&server, 1)),
            clock,
            seed,
            description,
        })
    }
}

/// Looks at what is there, and leaves it as it is.
pub(in crate::store) async fn inspect(url: &str) -> Result<Inspected, StoreError> {
    let mut connection = first_connection(&server(url)?).await?;
    let description = check_server(&mut connection).await?;
    let schema = migrate::inspect(&mut connection).await?;
    _ = connection.close().await;
    Ok(Inspected { description, schema })
}

/// Reads the URL. What is wrong with it is told without repeating it, since it may have a password in it.
fn server(url: &str) -> Result<PgConnectOptions> {
    let server = PgConnectOptions::from_str(url)?;
    let is_named = server.get_application_name().is_some();
    Ok(if is_named { server } else { server.application_name("headpond") })
}

/// The first connection is made without a pool, which would hide why it can't be made.
async fn first_connection(server: &PgConnectOptions) -> Result<PgConnection> {
    let Ok(connected) = tokio::time::timeout(PATIENCE, PgConnection::connect_with(server)).await else {
        let problem = format!("there was no answer within {} seconds", PATIENCE.as_secs());
        return Err(unreachable(server, &problem).into());
    };
    let mut connection = connected.map_err(|error| match Fault::from(error).into() {
        StoreError::Unavailable(problem) => unreachable(server, &problem),
        StoreError::Unusable(problem) => StoreError::Unusable(format!("{}: {problem}", no_connection(server))),
        other => other,
    })?;
    connection.execute(SESSION).await?;
    Ok(connection)
}

fn unreachable(server: &PgConnectOptions, problem: &str) -> StoreError {
    StoreError::Unreachable(format!(
        "{}: {problem}; is the server running, and does it listen there?",
        no_connection(server)
    ))
}

/// Names the setting and the place, and neither user nor password.
fn no_connection(server: &PgConnectOptions) -> String {
    let host = match server.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", server.get_host(), server.get_port()),
    };
    let database = server.get_database().unwrap_or(server.get_username());
    format!("database.url: can't connect to {host}/{database}")
}

fn pool(server: &PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            Box::pin(async move {
                if known.idle_for > TRUSTED_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(SESSION).await?;
                Ok(())
            })
        })
        .connect_lazy_with(server.clone())
}

const SERVER: &str = "
    SELECT current_setting('server_version') AS version,
           pg_is_in_recovery() AS is_standby,
           current_setting('transaction_read_only')::boolean AS is_read_only,
           current_setting('fsync')::boolean AS keeps,
           current_setting('synchronous_commit') AS commits";

/// Refuses a server that can't be written to or a session that would lose commits, and describes what is left.
async fn check_server(connection: &mut PgConnection) -> Result<String> {
    let (version, is_standby, is_read_only, keeps, commits): (String, bool, bool, bool, String) =
        sqlx::query_as(SERVER).fetch_one(connection).await?;
    let refuse = |why: String| Err(StoreError::Unusable(why).into());
    if is_standby {
        return refuse(
            "the database server is a standby, which can't be written to: give the primary's address".into(),
        );
    }
    if is_read_only {
        return refuse("the database is read-only for this role (default_transaction_read_only is on)".into());
    }
    if !matches!(commits.as_str(), "on" | "remote_apply") {
        return refuse(format!(
            "synchronous_commit is `{commits}` and could not be set to `on`: commits could be lost"
        ));
    }
    let warning = if keeps { "" } else { "; fsync is off: a power failure can destroy this database" };
    Ok(format!("PostgreSQL {version}, synchronous_commit={commits}{warning}"))
}
