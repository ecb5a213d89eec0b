//! The views that apps read typed tables from.

use std::fmt::Write;

use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::error::Result;
use super::typed::view_sql;
use crate::config::TableHome;
use crate::store::tables::{KnownTable, mark, quoted};

/// A right that someone had on a view that is made anew.
pub(super) struct Grant {
    /// Whether on the view with rows of what is gone.
    with_gone: bool,
    grantee: String,
    privilege: String,
    passes_on: bool,
}

const HAS_SCHEMA: &str = "SELECT to_regnamespace($1) IS NOT NULL";

/// Not `IF NOT EXISTS`, which asks for the right to make one even where one has been made for us.
pub(super) async fn make_schema(tx: &mut PgConnection, home: &TableHome) -> Result<()> {
    let schema = quoted(&home.schema);
    if !sqlx::query_scalar(HAS_SCHEMA).bind(&schema).fetch_one(&mut *tx).await? {
        tx.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await?;
    }
    Ok(())
}

/// Makes both views or turns them round, and lets roles read them.
pub(super) async fn make(
    tx: &mut PgConnection,
    table: &KnownTable,
    columns: &[String],
    home: &TableHome,
    granted: &[Grant],
) -> Result<()> {
    for (name, with_gone) in names(table) {
        let view = format!("{}.{}", quoted(&home.schema), quoted(&name));
        let query = view_sql(table.id, &table.table, columns, with_gone);
        // A source's name has no quote in it.
        let mut sql = format!(
            "CREATE OR REPLACE VIEW {view} AS {query}; COMMENT ON VIEW {view} IS '{}';",
            mark(&table.source_name)
        );
        for grant in granted.iter().filter(|grant| grant.with_gone == with_gone) {
            let Grant { grantee, privilege, passes_on, .. } = grant;
            let option = if *passes_on { " WITH GRANT OPTION" } else { "" };
            // Writing to a String can't fail.
            _ = write!(sql, "GRANT {privilege} ON {view} TO {grantee}{option};");
        }
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    }
    grant(tx, table, home).await
}

/// Lets roles read both views.
pub(super) async fn grant(tx: &mut PgConnection, table: &KnownTable, home: &TableHome) -> Result<()> {
    let schema = quoted(&home.schema);
    let [(name, _), (all, _)] = names(table).map(|(name, with_gone)| (quoted(&name), with_gone));
    for role in home.grant_select_to.iter().map(|role| quoted(role)) {
        let sql = format!(
            "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.{name}, {schema}.{all} TO {role}"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Whether both views are there and ours.
pub(super) async fn are_there(tx: &mut PgConnection, table: &KnownTable, home: &TableHome) -> Result<bool> {
    for (name, _) in names(table) {
        let is_ours = sqlx::query_scalar(IS_OURS).bind(&home.schema).bind(&name).bind(mark(&table.source_name));
        if !is_ours.fetch_one(&mut *tx).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Who else than its owner has which rights on a view that is ours.
const GRANTS: &str = "
    SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
           a.privilege_type, a.is_grantable
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) AS a
     WHERE n.nspname = $1 AND c.relname = $2 AND a.grantee <> c.relowner";

const IS_OURS: &str = "
    SELECT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2 AND obj_description(c.oid, 'pg_class') = $3)";

/// Drops both views, if they are there and ours, and returns the rights that there were on them. What depends on them stops it.
pub(super) async fn drop(tx: &mut PgConnection, table: &KnownTable) -> Result<Vec<Grant>> {
    let mut granted = Vec::new();
    let schema = table.schema.as_deref().unwrap_or_default();
    for (name, with_gone) in names(table) {
        let is_ours = sqlx::query_scalar(IS_OURS).bind(schema).bind(&name).bind(mark(&table.source_name));
        if !is_ours.fetch_one(&mut *tx).await? {
            continue;
        }
        let grants: Vec<(String, String, bool)> =
            sqlx::query_as(GRANTS).bind(schema).bind(&name).fetch_all(&mut *tx).await?;
        let of = |(grantee, privilege, passes_on)| Grant { with_gone, grantee, privilege, passes_on };
        granted.extend(grants.into_iter().map(of));
        tx.execute(AssertSqlSafe(format!("DROP VIEW {}.{}", quoted(schema), quoted(&name)))).await?;
    }
    Ok(granted)
}

/// The names of both views, and whether they have rows of what is gone.
fn names(table: &KnownTable) -> [(String, bool); 2] {
    [(table.table.name.clone(), false), (table.table.name_of_all(), true)]
}
