//! Making the schema and bringing it up to date.
//!
//! sqlx's migrator is not used for it: its macro would build sqlx and SQLite a second time, for the compiler.

use sqlx::{Connection, Executor, PgConnection};

use super::error::Result;
use crate::store::columns::{check_format, parse_seed};
use crate::store::migrations::{self, Migration};
use crate::store::{SchemaState, StoreError};

/// Where it is noted which migrations were made: in our own schema, since `_sqlx_migrations` may be the app's.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS headpond.migration (
        version    bigint PRIMARY KEY,
        name       text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

const REMEMBER: &str = "INSERT INTO headpond.migration (version, name) VALUES ($1, $2)";

/// One migrator at a time, of any version: a number of our own ("headpond" in ASCII), not sqlx's, which is the app's too.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'68656164706f6e64'::bigint)";

/// Brings the schema up to date, or says that it isn't, and returns the seed.
///
/// It is one transaction: a schema is never half made, and the lock goes with it however it ends.
pub(super) async fn bring_up(connection: &mut PgConnection, migrate: bool) -> Result<u64> {
    let mut tx = connection.begin().await?;
    if migrate {
        // Others may migrate a large database, and so may we.
        tx.execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0").await?;
        tx.execute(LOCK).await?;
    }
    let pending = pending(&mut tx).await?;
    if !pending.is_empty() && !migrate {
        return unusable("the database's schema is not up to date: run `headpond migrate`");
    }
    if !pending.is_empty() {
        create_schema(&mut tx).await?;
        tx.execute(TABLE).await?;
    }
    for migration in pending {
        sqlx::raw_sql(migration.postgres).execute(&mut *tx).await?;
        sqlx::query(REMEMBER).bind(migration.version).bind(migration.name).execute(&mut *tx).await?;
    }
    check_privileges(&mut tx).await?;
    let seed = parse_seed(&meta(&mut tx, "seed").await?)?;
    tx.commit().await?;
    Ok(seed)
}

/// What is there, in a transaction that writes nothing.
pub(super) async fn inspect(connection: &mut PgConnection) -> Result<SchemaState> {
    let mut tx = connection.begin().await?;
    let pending = pending(&mut tx).await?;
    if pending.len() == migrations::missing(&[]).count() {
        return Ok(SchemaState::Absent);
    }
    check_privileges(&mut tx).await?;
    Ok(if pending.is_empty() { SchemaState::UpToDate } else { SchemaState::Outdated })
}

const SCHEMA: &str = "
    SELECT count(*), coalesce(bool_or(relname = 'migration'), false), coalesce(bool_or(relname = 'meta'), false)
      FROM pg_class
     WHERE relnamespace = to_regnamespace('headpond')";

const MADE: &str = "SELECT version FROM headpond.migration";

/// Our migrations that have not been made. Refuses a schema that isn't ours, or that needs a newer program.
async fn pending(tx: &mut PgConnection) -> Result<Vec<&'static Migration>> {
    let (things, has_migrations, has_meta): (i64, bool, bool) = sqlx::query_as(SCHEMA).fetch_one(&mut *tx).await?;
    if things == 0 {
        return Ok(migrations::missing(&[]).collect());
    }
    if !(has_migrations && has_meta) {
        return unusable(
            "the database has a schema `headpond` that this program did not make: \
             rename it, or give Headpond another database",
        );
    }
    check_format(&meta(&mut *tx, "needs_format").await?)?;
    let made: Vec<i64> = sqlx::query_scalar(MADE).fetch_all(tx).await?;
    Ok(migrations::missing(&made).collect())
}

const HAS_SCHEMA: &str = "SELECT to_regnamespace('headpond') IS NOT NULL";

/// Not `IF NOT EXISTS`, which asks for the right to make one even where one has been made for us.
async fn create_schema(tx: &mut PgConnection) -> Result<()> {
    if !sqlx::query_scalar(HAS_SCHEMA).fetch_one(&mut *tx).await? {
        tx.execute("CREATE SCHEMA headpond").await?;
    }
    Ok(())
}

const PRIVILEGES: &str = "
    SELECT coalesce(bool_and(has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                         AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')), false)
      FROM pg_class
     WHERE relnamespace = to_regnamespace('headpond') AND relkind = 'r' AND relname <> 'migration'";

/// One clear error at the start instead of one for each write.
async fn check_privileges(tx: &mut PgConnection) -> Result<()> {
    if sqlx::query_scalar(PRIVILEGES).fetch_one(tx).await? {
        return Ok(());
    }
    unusable(
        "the database role may not write to Headpond's tables: \
         connect as the role that made the schema `headpond`, or grant it \
         SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA headpond",
    )
}

const META: &str = "SELECT value FROM headpond.meta WHERE name = $1";

async fn meta(tx: &mut PgConnection, name: &'static str) -> Result<String> {
    let value: Option<String> = sqlx::query_scalar(META).bind(name).fetch_optional(tx).await?;
    value.ok_or_else(|| {
        let problem = format!("there is no `{name}`");
        StoreError::Corrupt { table: "meta", column: "name", row: 0, problem }.into()
    })
}

fn unusable<T>(why: &str) -> Result<T> {
    Err(StoreError::Unusable(why.into()).into())
}
