//! Making the schema and bringing it up to date.

use std::collections::HashMap;

use sqlx::migrate::Migrator;
use sqlx::{Connection, Executor, PgConnection};

use super::error::Result;
use crate::store::StoreError;
use crate::store::columns::{check_format, parse_seed};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Where it is noted which migrations were made: in our own schema, since `_sqlx_migrations` may be the app's.
const TABLE: &str = "headpond.migration";

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
    if pending && !migrate {
        return unusable("the database's schema is not up to date: run `headpond migrate`");
    }
    if pending {
        create_schema(&mut tx).await?;
        migrator().run_direct(None, &mut *tx, false).await?;
    }
    check_privileges(&mut tx).await?;
    let seed = parse_seed(&meta(&mut tx, "seed").await?)?;
    tx.commit().await?;
    Ok(seed)
}

fn migrator() -> Migrator {
    Migrator {
        migrations: MIGRATIONS.migrations.clone(),
        // A newer program's additions are none of our business: `needs_format` says whether we can work with them.
        ignore_missing: true,
        // The lock is held already.
        locking: false,
        table_name: TABLE.into(),
        ..Migrator::DEFAULT
    }
}

const SCHEMA: &str = "
    SELECT count(*), coalesce(bool_or(relname = 'migration'), false), coalesce(bool_or(relname = 'meta'), false)
      FROM pg_class
     WHERE relnamespace = to_regnamespace('headpond')";

const MADE: &str = "SELECT version, checksum FROM headpond.migration";

/// Whether some of our migrations have not been made. Refuses a schema that isn't ours, that needs a newer program, or
/// that was made by other migrations of the same names.
async fn pending(tx: &mut PgConnection) -> Result<bool> {
    let (things, has_migrations, has_meta): (i64, bool, bool) = sqlx::query_as(SCHEMA).fetch_one(&mut *tx).await?;
    if things == 0 {
        return Ok(true);
    }
    if !(has_migrations && has_meta) {
        return unusable(
            "the database has a schema `headpond` that this program did not make: \
             rename it, or give Headpond another database",
        );
    }
    check_format(&meta(&mut *tx, "needs_format").await?)?;
    let made: HashMap<i64, Vec<u8>> = sqlx::query_as(MADE).fetch_all(tx).await?.into_iter().collect();
    let mut pending = false;
    for migration in MIGRATIONS.iter() {
        match made.get(&migration.version) {
            None => pending = true,
            Some(checksum) if *checksum == *migration.checksum => {}
            Some(_) => {
                return unusable(&format!(
                    "migration {} of the database is another than this program's: \
                     its tables were made by a program that was never released, or its record was changed by hand",
                    migration.version
                ));
            }
        }
    }
    Ok(pending)
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
     WHERE relnamespace = to_regnamespace('headpond') AND relkind = 'r' AND relname NOT IN ('migration', 'meta')";

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
