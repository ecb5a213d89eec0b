//! Making typed tables, filling them from stored copies, and opening them to readers.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::begin::begin_reading;
use super::error::Result;
use super::typed::{put, table_sql};
use super::{PostgresStore, bounded, views};
use crate::config::TableHome;
use crate::domain::resource::{SourceId, SourceName};
use crate::domain::table::Table;
use crate::store::StoreError;
use crate::store::tables::{Filled, KnownTable, Page, TableId, TableState, depends, mark, not_filling};

const KNOWN: &str = "
    SELECT t.id, t.source_id, s.name AS source, t.state, t.definition, t.columns, t.schema, t.filled, t.misfits, t.misfit
      FROM headpond.typed t JOIN headpond.source s ON s.id = t.source_id ORDER BY t.id";

/// All that its source has, locked: no batch writes them meanwhile.
const OF_ITS_SOURCE: &str = "
    SELECT t.id, t.source_id, s.name AS source, t.state, t.definition, t.columns, t.schema, t.filled, t.misfits, t.misfit
      FROM headpond.typed t JOIN headpond.source s ON s.id = t.source_id
     WHERE t.source_id = (SELECT source_id FROM headpond.typed WHERE id = $1) ORDER BY t.id FOR UPDATE OF t";

pub(super) async fn known(store: &PostgresStore) -> Result<Vec<KnownTable>> {
    let rows = sqlx::query(KNOWN).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(KnownTable::of).collect::<Result<_, _>>()?)
}

/// What has this name, and the comment on it.
const TAKEN: &str = "
    SELECT obj_description(c.oid, 'pg_class')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2";

const MISSING_ROLES: &str = "
    SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)";

/// Views and rules that read a view.
const DEPENDENTS: &str = "
    SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
      FROM pg_depend d
      JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
      JOIN pg_class c ON c.oid = w.ev_class
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_class v ON v.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
      JOIN pg_namespace vn ON vn.oid = v.relnamespace
     WHERE vn.nspname = $1 AND v.relname = ANY($2) AND c.oid <> v.oid ORDER BY 1";

pub(super) async fn obstacles(
    store: &PostgresStore,
    source: &SourceName,
    table: &Table,
    home: &TableHome,
    live: Option<&KnownTable>,
) -> Result<Vec<String>> {
    let mut obstacles = Vec::new();
    let mut tx = begin_reading(&store.readers).await?;
    for name in [table.name.clone(), table.name_of_all()] {
        let taken: Option<Option<String>> =
            sqlx::query_scalar(TAKEN).bind(&home.schema).bind(&name).fetch_optional(&mut *tx).await?;
        if taken.is_some_and(|comment| comment.as_deref() != Some(mark(source).as_str())) {
            obstacles.push(format!(
                "the database has a {}.{name} already, which Headpond did not make for this source",
                home.schema
            ));
        }
    }
    let missing: Vec<String> =
        sqlx::query_scalar(MISSING_ROLES).bind(&home.grant_select_to).fetch_all(&mut *tx).await?;
    obstacles.extend(missing.iter().map(|role| format!("grant_select_to: the database has no role {role:?}")));
    if let Some(live) = live.filter(|live| must_be_made_anew(live, table, home)) {
        let views = dependents(&mut tx, live).await?;
        obstacles.extend(views.iter().map(|view| depends(view, &live.table.name)));
    }
    Ok(obstacles)
}

/// The views that read those of a table.
async fn dependents(tx: &mut PgConnection, live: &KnownTable) -> Result<Vec<String>> {
    let own = [live.table.name.clone(), live.table.name_of_all()];
    let views = sqlx::query_scalar(DEPENDENTS).bind(&live.schema).bind(&own[..]).fetch_all(tx).await?;
    Ok(views)
}

fn must_be_made_anew(live: &KnownTable, next: &Table, home: &TableHome) -> bool {
    live.schema.as_ref() != Some(&home.schema) || live.continued_by(next).is_none()
}

const BEGIN: &str = "INSERT INTO headpond.typed (source_id, state, definition) VALUES ($1, 'filling', $2) RETURNING id";

const BEGUN: &str = "SELECT id, definition FROM headpond.typed WHERE source_id = $1 AND state = 'filling' FOR UPDATE";

const BEGIN_AGAIN: &str =
    "UPDATE headpond.typed SET filled = 0, misfits = 0, misfit = NULL WHERE id = $1 AND misfits > 0";

/// Waits for all batches that are under way, for each holds the tables that it saw, and if there were none. Those that come
/// then wait behind it, so it gives way again and again ([`NO_LONG_WAIT`]) as long as one of the others takes its time.
const SEEN_BY_ALL: &str = "LOCK TABLE headpond.typed IN EXCLUSIVE MODE";

/// How often it is tried before the whole is begun again.
const TRIES: u32 = 10;

const FORGET: &str = "DELETE FROM headpond.typed WHERE id = $1";

/// When it returns, whoever commits a copy from now on writes its rows too: a batch that began before there was the table would be
/// seen neither by who fills it, nor would it write it.
pub(super) async fn begin(store: &PostgresStore, source: SourceId, table: &Table) -> Result<TableId> {
    let id = begun(store, source, table).await?;
    let mut tried = 1;
    loop {
        match seen_by_all(store).await.map_err(StoreError::from) {
            Err(StoreError::Busy(_)) if tried < TRIES => tried += 1,
            seen => {
                seen?;
                return Ok(id);
            }
        }
    }
}

async fn seen_by_all(store: &PostgresStore) -> Result<()> {
    let mut tx = store.begin().await?;
    tx.execute(NO_LONG_WAIT).await?;
    tx.execute(SEEN_BY_ALL).await?;
    tx.commit().await?;
    Ok(())
}

/// One transaction takes the source's lock, so that of two processes that begin at once the second goes on with what the
/// first has begun.
async fn begun(store: &PostgresStore, source: SourceId, table: &Table) -> Result<TableId> {
    let definition = serde_json::to_string(table).map_err(|error| StoreError::Rejected(error.to_string()))?;
    let mut tx = store.begin().await?;
    sqlx::query("SELECT FROM headpond.source WHERE id = $1 FOR NO KEY UPDATE").bind(source.0).execute(&mut *tx).await?;
    let begun: Option<(i64, String)> = sqlx::query_as(BEGUN).bind(source.0).fetch_optional(&mut *tx).await?;
    if let Some((id, _)) = begun.as_ref().filter(|(_, begun)| *begun == definition) {
        sqlx::query(BEGIN_AGAIN).bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        return Ok(TableId(*id));
    }
    if let Some((id, _)) = begun {
        tx.execute(AssertSqlSafe(format!("DROP TABLE headpond.typed_{id}"))).await?;
        sqlx::query(FORGET).bind(id).execute(&mut *tx).await?;
    }
    let id = TableId(sqlx::query_scalar(BEGIN).bind(source.0).bind(definition).fetch_one(&mut *tx).await?);
    sqlx::raw_sql(AssertSqlSafe(table_sql(id, table))).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(id)
}

/// A page of a source's resources, with the copies that there are.
pub(super) const COPIES: &str = "
    SELECT r.id, r.key, r.version, r.gone_since, c.changed_at, c.body
      FROM (SELECT id, key, version, gone_since FROM headpond.resource
             WHERE source_id = $1 AND key > $2 ORDER BY key LIMIT $3) AS r
      LEFT JOIN headpond.content c ON c.resource_id = r.id
     ORDER BY r.key";

const STILL_FILLING: &str = "
    SELECT t.source_id, t.definition, t.filled FROM headpond.typed t WHERE t.id = $1 AND t.state = 'filling'";

/// Makes rows of the next copies. They are read and looked at without a lock; written are those that are as they were read:
/// the others have been written by whatever changed them.
pub(super) async fn fill(store: &PostgresStore, id: TableId, at_most: u32) -> Result<Filled, StoreError> {
    let page = bounded(page(store, id, at_most)).await?;
    let mut page = page.look_at().await?;
    let filled = Filled { copies: page.looked_at, is_all: page.is_all };
    bounded(async {
        let mut tx = store.begin().await?;
        let ids: Vec<i64> = page.fits.iter().map(|copy| copy.resource.0).collect();
        sqlx::query(HOLD).bind(&ids).execute(&mut *tx).await?;
        let now: Vec<(i64, i64, Option<i64>)> = sqlx::query_as(VERSIONS).bind(&ids).fetch_all(&mut *tx).await?;
        let fits = page.unchanged(&now);
        put(&mut tx, id, &page.table, &fits).await?;
        let misfits = i64::try_from(page.misfits.len()).unwrap_or(i64::MAX);
        let note = sqlx::query(NOTE).bind(id.0).bind(&page.filled).bind(misfits).bind(page.misfits.first());
        note.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    })
    .await?;
    Ok(filled)
}

async fn page(store: &PostgresStore, id: TableId, at_most: u32) -> Result<Page> {
    let filling: Option<(i64, String, String)> =
        sqlx::query_as(STILL_FILLING).bind(id.0).fetch_optional(&store.readers).await?;
    let (source, definition, filled) = filling.ok_or_else(|| not_filling(id))?;
    let mut page = Page::new(id, &definition, filled, at_most)?;
    let mut rows =
        sqlx::query(COPIES).bind(source).bind(page.filled.clone()).bind(i64::from(at_most)).fetch(&store.readers);
    while let Some(row) = rows.try_next().await? {
        if !page.take(&row)? {
            break;
        }
    }
    Ok(page)
}

/// Locks the resources as an apply does, which waits for this and then writes over it.
pub(super) const HOLD: &str = "
    SELECT FROM headpond.schedule WHERE resource_id = ANY($1) ORDER BY resource_id FOR SHARE";

pub(super) const VERSIONS: &str = "SELECT id, version, gone_since FROM headpond.resource WHERE id = ANY($1)";

const NOTE: &str = "
    UPDATE headpond.typed SET filled = $2, misfits = misfits + $3, misfit = coalesce(misfit, $4) WHERE id = $1";

const LEAVE: &str = "UPDATE headpond.typed SET state = 'left' WHERE id = $1";

const OPENED: &str = "UPDATE headpond.typed SET state = 'live', columns = $2, schema = $3 WHERE id = $1";

/// Whoever reads a view now, or writes a batch, is waited for, and whoever comes then waits too: not for long.
const NO_LONG_WAIT: &str = "SET LOCAL lock_timeout = '1s'";

/// Lets apps read a table in place of the one before, in one transaction.
pub(super) async fn open(store: &PostgresStore, id: TableId, home: &TableHome) -> Result<()> {
    let mut tx = store.begin().await?;
    tx.execute(NO_LONG_WAIT).await?;
    let of_source = sqlx::query(OF_ITS_SOURCE).bind(id.0).fetch_all(&mut *tx).await?;
    let of_source = of_source.iter().map(KnownTable::of).collect::<Result<Vec<_>, _>>()?;
    let opened = of_source.iter().find(|known| known.id == id && known.state != TableState::Left);
    let opened = opened.ok_or_else(|| not_filling(id))?;
    let live = of_source.iter().find(|known| known.state == TableState::Live);
    if opened.state == TableState::Live && views::are_there(&mut tx, opened, home).await? {
        views::grant(&mut tx, opened, home).await?;
        tx.commit().await?;
        return Ok(());
    }
    views::make_schema(&mut tx, home).await?;
    let columns = match live {
        Some(live) if !must_be_made_anew(live, &opened.table, home) => live.continued_by(&opened.table),
        _ => None,
    };
    let granted = match live {
        Some(live) if columns.is_none() => views::drop(&mut tx, live).await?,
        _ => Vec::new(),
    };
    let columns = columns.unwrap_or_else(|| opened.table.columns.iter().map(|column| column.name.clone()).collect());
    views::make(&mut tx, opened, &columns, home, &granted).await?;
    if let Some(live) = live.filter(|live| live.id != id) {
        sqlx::query(LEAVE).bind(live.id.0).execute(&mut *tx).await?;
    }
    let columns = serde_json::to_string(&columns).map_err(|error| StoreError::Rejected(error.to_string()))?;
    sqlx::query(OPENED).bind(id.0).bind(columns).bind(&home.schema).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Takes a table away, with its views if they are still there.
pub(super) async fn drop(store: &PostgresStore, id: TableId) -> Result<()> {
    let mut tx = store.begin().await?;
    let mut found = sqlx::query(KNOWN).fetch_all(&mut *tx).await?;
    // What is left already, no batch writes any more.
    if found.iter().map(KnownTable::of).any(|known| known.is_ok_and(|it| it.id == id && it.state != TableState::Left)) {
        found = sqlx::query(OF_ITS_SOURCE).bind(id.0).fetch_all(&mut *tx).await?;
    }
    let known = found.iter().map(KnownTable::of).collect::<Result<Vec<_>, _>>()?;
    let Some(dropped) = known.iter().find(|known| known.id == id) else { return Ok(()) };
    if dropped.state == TableState::Live {
        if let Some(view) = dependents(&mut tx, dropped).await?.first() {
            return Err(StoreError::Unusable(depends(view, &dropped.table.name)).into());
        }
        views::drop(&mut tx, dropped).await?;
    }
    tx.execute(NO_LONG_WAIT).await?;
    tx.execute(AssertSqlSafe(format!("DROP TABLE headpond.typed_{}", id.0))).await?;
    sqlx::query(FORGET).bind(id.0).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}
