//! A database of a test's own, on the real thing, with a clock that the test moves.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use headpond::clock::{Clock, ManualClock};
use headpond::domain::fingerprint::Fingerprint;
use headpond::domain::limit::Limits;
use headpond::domain::origin::CONFIG;
use headpond::domain::resource::{Key, Params, ResourceId, SourceId, SourceName, UpstreamId};
use headpond::store::{
    Authority, Claim, ClaimRequest, Claimed, Current, KeysChanged, OriginSpec, Registered, Selection, SourceSpec,
    Store, StoreError, StoreOptions, Together, Wish, connect,
};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tempfile::TempDir;

/// How long the test's leases last.
pub const LEASE: Duration = Duration::from_secs(60);

/// When the test's clock begins.
pub fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// No limit that a test could meet.
pub const UNLIMITED: Limits = Limits {
    requests_per_second: None,
    burst: 1,
    max_concurrent: 1_000_000,
    budgets: headpond::domain::budget::Budgets::NONE,
};

/// A store on a fresh database.
pub struct TestStore {
    pub store: Arc<dyn Store>,
    pub clock: Arc<ManualClock>,
    pub database: Database,
}

/// Where it is.
pub enum Database {
    Sqlite { directory: TempDir },
    Postgres { server: String, name: String },
}

/// The options that tests connect with.
pub fn options() -> StoreOptions {
    StoreOptions { readers: 4, migrate: true, create: true }
}

impl TestStore {
    pub async fn sqlite() -> Self {
        Self::on(Database::sqlite()).await
    }

    pub async fn postgres() -> Self {
        Self::on(Database::on_test_server().await).await
    }

    async fn on(database: Database) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let store = connect(&database.url(), &options(), Arc::clone(&clock) as _).await.unwrap();
        Self { store, clock, database }
    }

    /// Connects to a database of this kind.
    pub async fn connect(&self, database: &Database, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
        connect(&database.url(), options, Arc::clone(&self.clock) as _).await
    }

    /// Another process's view: a handle of its own on the same database, by the same clock.
    pub async fn another(&self) -> Arc<dyn Store> {
        connect(&self.database.url(), &options(), Arc::clone(&self.clock) as _).await.unwrap()
    }

    /// Runs a rule, and drops the database whether it holds or not.
    pub async fn check(self, rule: impl AsyncFnOnce(&Self)) {
        let result = AssertUnwindSafe(rule(&self)).catch_unwind().await;
        self.store.close().await;
        self.database.drop().await;
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// One source on an upstream of its own, both of this name.
    pub async fn source(&self, name: &str, limits: Limits) -> Registered {
        self.store.register(&[spec(name, name, limits)], Authority::Owns).await.unwrap()[0]
    }

    /// A source without limits whose keys are `k0`, `k1`, …
    pub async fn source_with_keys(&self, name: &str, keys: usize) -> Registered {
        let registered = self.source(name, UNLIMITED).await;
        self.add(registered, keys).await;
        registered
    }

    /// Adds the keys `k0`, `k1`, …
    pub async fn add(&self, registered: Registered, keys: usize) -> KeysChanged {
        let keys: Vec<_> = (0..keys).map(|n| (key(&format!("k{n}")), Params::new())).collect();
        self.store.add_keys(registered.source, &keys, Authority::Owns).await.unwrap()
    }

    /// Takes all keys out of the configuration's list but these.
    pub async fn retire_keys_except(&self, source: SourceId, keep: &BTreeSet<Key>) -> Result<u64, StoreError> {
        let config = OriginSpec { name: CONFIG.into(), place: 0, about: String::new() };
        let config = self.store.origins(source, &[config]).await?.remove(0).id;
        let keep: Vec<Key> = keep.iter().cloned().collect();
        let keep: Vec<_> = self.store.find(source, &keep).await?.into_iter().flatten().collect();
        let round = self.store.begin_round(config).await?;
        let mut listed = self.store.listed(config, None, u32::MAX).await?;
        listed.retain(|id| !keep.contains(id));
        self.store.drop_keys(round, &listed).await
    }

    /// Claims all that there is.
    pub async fn claim(&self, upstream: UpstreamId) -> Vec<Claim> {
        self.store.claim(&ask(upstream, 1_000_000)).await.unwrap().claims
    }

    /// Claims at most one.
    pub async fn claim_one(&self, upstream: UpstreamId) -> Claim {
        self.store.claim(&ask(upstream, 1)).await.unwrap().claims.remove(0)
    }

    /// What a reader sees.
    pub async fn current(&self, source: &str, name: &str) -> Current {
        self.store.current(&SourceName::new(source).unwrap(), &key(name)).await.unwrap().unwrap()
    }

    /// Runs statements on the database past the store; `{name}` stands for our table of that name.
    pub async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        self.database.execute(sql).await
    }

    /// A number that a query finds past the store; `{name}` stands for our table of that name.
    pub async fn number(&self, sql: &str) -> i64 {
        self.database.number(sql).await
    }

    /// See [`Database::refuse`].
    pub async fn refuse(&self, table: &str, when: &str) {
        self.database.refuse(table, when).await;
    }
}

impl Database {
    /// Makes the database refuse to insert or update rows of our table whose text column has this value.
    pub async fn refuse(&self, table: &str, when: &str) {
        let sql = match self {
            Self::Sqlite { .. } => format!(
                "CREATE TRIGGER refuse_{table}_insert BEFORE INSERT ON {{{table}}} WHEN {when}
                 BEGIN SELECT raise(ABORT, 'refused by the test'); END;
                 CREATE TRIGGER refuse_{table}_update BEFORE UPDATE ON {{{table}}} WHEN {when}
                 BEGIN SELECT raise(ABORT, 'refused by the test'); END;"
            ),
            Self::Postgres { .. } => format!(
                "CREATE FUNCTION refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN RAISE check_violation USING MESSAGE = 'refused by the test'; END $$;
                 CREATE TRIGGER refuse_{table} BEFORE INSERT OR UPDATE ON {{{table}}} FOR EACH ROW WHEN ({when})
                 EXECUTE FUNCTION refuse_{table}();"
            ),
        };
        self.execute(&sql).await.unwrap();
    }

    /// A place for a file that isn't there yet.
    pub fn sqlite() -> Self {
        Self::Sqlite { directory: TempDir::new().unwrap() }
    }

    /// An empty database on the server that tests are told of.
    pub async fn on_test_server() -> Self {
        let server = std::env::var("HEADPOND_TEST_POSTGRES").expect(
            "no Postgres to test on: run `tests/run`, or set HEADPOND_TEST_POSTGRES to the postgres:// URL of a server \
             where databases may be created",
        );
        Self::postgres(server).await
    }

    /// Runs a rule on the bare database, and drops it whether the rule holds or not.
    pub async fn check(self, rule: impl AsyncFnOnce(&Self)) {
        let result = AssertUnwindSafe(rule(&self)).catch_unwind().await;
        self.drop().await;
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    }

    /// Whether SQLite finds nothing wrong with the file. (Postgres has no such question.)
    pub async fn is_sound(&self) -> bool {
        match self {
            Self::Sqlite { .. } => {
                self.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'").await == 1
            }
            Self::Postgres { .. } => true,
        }
    }

    /// An empty database on this server.
    pub async fn postgres(server: String) -> Self {
        let name = format!("headpond_test_{:016x}", fastrand::u64(..));
        let mut connection = PgConnection::connect(&server).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        Self::Postgres { server, name }
    }

    /// Another empty one of the same kind, where headpond has never been.
    pub async fn empty(&self) -> Self {
        match self {
            Self::Sqlite { .. } => {
                let empty = Self::sqlite();
                std::fs::File::create(empty.path()).unwrap();
                empty
            }
            Self::Postgres { server, .. } => Self::postgres(server.clone()).await,
        }
    }

    /// Runs statements; `{name}` stands for our table of that name.
    pub async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        self.execute_as_it_is(self.with_table_names(sql)).await
    }

    /// Runs statements as they are written.
    pub async fn execute_as_it_is(&self, sql: String) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
            Self::Postgres { .. } => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
        }
    }

    /// What a program that knows only the first migration makes of an empty database.
    pub fn first_migration(&self) -> String {
        match self {
            Self::Sqlite { .. } => format!(
                "CREATE TABLE headpond_migration (version integer PRIMARY KEY, name text NOT NULL, applied_at integer NOT NULL);
                 INSERT INTO headpond_migration VALUES (1, 'init', 0);
                 {}",
                include_str!("../../../migrations/sqlite/0001_init.sql")
            ),
            Self::Postgres { .. } => format!(
                "CREATE SCHEMA headpond;
                 CREATE TABLE headpond.migration (version bigint PRIMARY KEY, name text NOT NULL,
                     applied_at timestamptz NOT NULL DEFAULT now());
                 INSERT INTO headpond.migration VALUES (1, 'init');
                 {}",
                include_str!("../../../migrations/postgres/0001_init.sql")
            ),
        }
    }

    /// The number that a query finds; `{name}` stands for our table of that name.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(self.with_table_names(sql));
        match self {
            Self::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
            }
            Self::Postgres { .. } => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
            }
        }
    }

    /// The rows of a query for integers (`bigint` on Postgres); `{name}` stands for our table of that name.
    pub async fn integers(&self, sql: &str) -> Vec<Vec<Option<i64>>> {
        let sql = AssertSqlSafe(self.with_table_names(sql));
        match self {
            Self::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
            }
            Self::Postgres { .. } => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
            }
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite { .. } => format!("sqlite://{}", self.path().display()),
            Self::Postgres { server, name } => {
                let options: PgConnectOptions = server.parse().unwrap();
                sqlx::ConnectOptions::to_url_lossy(&options.database(name)).to_string()
            }
        }
    }

    /// The SQLite file.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite { directory } => directory.path().join("headpond.db"),
            Self::Postgres { .. } => panic!("a Postgres database has no file"),
        }
    }

    fn with_table_names(&self, sql: &str) -> String {
        let prefix = match self {
            Self::Sqlite { .. } => "headpond_",
            Self::Postgres { .. } => "headpond.",
        };
        sql.replace('{', prefix).replace('}', "")
    }

    /// Takes it away.
    pub async fn drop(self) {
        match self {
            Self::Sqlite { directory } => directory.close().unwrap(),
            Self::Postgres { server, name } => {
                let mut connection = PgConnection::connect(&server).await.unwrap();
                let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
                sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
            }
        }
    }
}

/// A source by name on an upstream by name.
pub fn spec(name: &str, upstream: &str, limits: Limits) -> SourceSpec {
    let name = SourceName::new(name).unwrap();
    SourceSpec {
        name,
        upstream: upstream.into(),
        limits,
        fingerprint: Fingerprint(1),
        is_walked: false,
        history: None,
        erase_gone: false,
    }
}

pub fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// A request for what is due now.
pub fn ask(upstream: UpstreamId, at_most: u32) -> ClaimRequest {
    ClaimRequest {
        worker: "test".into(),
        upstream,
        at_most,
        which: Selection::All,
        due_by: None,
        lease_for: LEASE,
        together: Together::new(),
    }
}

/// Of a reader who has seen what was fetched then, and is content with nothing that came before him.
pub fn wish(seen: Option<DateTime<Utc>>, at: DateTime<Utc>) -> Wish {
    Wish { seen, at, echo: Duration::ZERO, gone_for: None }
}

/// The keys of what was claimed.
pub fn keys_of(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.key.as_str()).collect()
}

/// The ids of what was claimed.
pub fn ids_of(claims: &[Claim]) -> Vec<ResourceId> {
    claims.iter().map(|claim| claim.resource).collect()
}

/// Nothing was claimed; when to ask again.
pub fn nothing_until(claimed: &Claimed) -> Option<DateTime<Utc>> {
    assert_eq!(keys_of(&claimed.claims), Vec::<&str>::new());
    claimed.ask_again_at
}

/// The call was refused because of the data.
pub fn is_rejected<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Rejected(_)))
}

/// Makes each rule about a store a test on each database.
macro_rules! on_each_database {
    ($($rule:ident),+ $(,)?) => {
        $crate::support::store::on_database!(on_sqlite, $crate::support::store::TestStore::sqlite().await, $($rule),+);
        $crate::support::store::on_database!(on_postgres, $crate::support::store::TestStore::postgres().await, $($rule),+);
    };
}

/// Makes each rule about the whole program a test on each database, which is empty at first.
macro_rules! on_each_empty_database {
    ($($rule:ident),+ $(,)?) => {
        $crate::support::store::on_database!(on_sqlite, $crate::support::store::Database::sqlite(), $($rule),+);
        $crate::support::store::on_database!(
            on_postgres,
            $crate::support::store::Database::on_test_server().await,
            $($rule),+
        );
    };
}

/// Makes each rule a test on one database.
macro_rules! on_database {
    ($module:ident, $database:expr, $($rule:ident),+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                $database.check(super::$rule).await;
            })+
        }
    };
}
pub(crate) use {on_database, on_each_database, on_each_empty_database};
