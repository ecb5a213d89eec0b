//! Making typed tables, filling them from stored copies, and opening them to readers.

use futures_util::TryStreamExt;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::error::failed;
use super::typed::{put, table_sql};
use super::writer::Durability;
use super::{SqliteStore, json, views};
use crate::domain::resource::{SourceId, SourceName};
use crate::domain::table::Table;
use crate::store::StoreError;
use crate::store::tables::{Filled, KnownTable, Page, TableId, TableState, depends, not_filling};

const KNOWN: &str = "
    SELECT t.id, t.source_id, source.name AS source, t.state, t.definition, t.columns, t.schema, t.filled, t.misfits,
        t.misfit
    FROM headpond_typed AS t CROSS JOIN headpond_source AS source ON source.id = t.source_id ORDER BY t.id";

const BEGUN: &str = "SELECT id, definition FROM headpond_typed WHERE source_id = ?1 AND state = 'filling'";

const BEGIN: &str = "INSERT INTO headpond_typed (source_id, state, definition) VALUES (?1, 'filling', ?2) RETURNING id";

const BEGIN_AGAIN: &str =
    "UPDATE headpond_typed SET filled = '', misfits = 0, misfit = NULL WHERE id = ?1 AND misfits > 0";

const FORGET: &str = "DELETE FROM headpond_typed WHERE id = ?1";

/// A page of a source's resources, with the copies that there are.
pub(super) const COPIES: &str = "
    SELECT r.id, r.key, r.version, r.gone_since, b.changed_at, b.body
    FROM headpond_resource AS r LEFT JOIN headpond_content AS b ON b.resource_id = r.id
    WHERE r.source_id = ?1 AND r.key > ?2 ORDER BY r.key LIMIT ?3";

const STILL_FILLING: &str =
    "SELECT source_id, definition, filled FROM headpond_typed WHERE id = ?1 AND state = 'filling'";

pub(super) const VERSIONS: &str = "
    SELECT r.id, r.version, r.gone_since
    FROM json_each(?1) AS j CROSS JOIN headpond_resource AS r ON r.id = j.value";

const NOTE: &str = "
    UPDATE headpond_typed SET filled = ?2, misfits = misfits + ?3, misfit = coalesce(misfit, ?4)
    WHERE id = ?1 AND state = 'filling'";

const LEAVE: &str = "UPDATE headpond_typed SET state = 'left' WHERE id = ?1";

const OPENED: &str = "UPDATE headpond_typed SET state = 'live', columns = ?2 WHERE id = ?1";

impl SqliteStore {
    pub(super) async fn known_tables(&self) -> Result<Vec<KnownTable>, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(failed)?;
        known(&mut connection).await
    }

    pub(super) async fn find_obstacles(
        &self,
        source: &SourceName,
        table: &Table,
        live: Option<&KnownTable>,
    ) -> Result<Vec<String>, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(failed)?;
        let mut obstacles = Vec::new();
        for (name, _) in views::names(table) {
            if !views::is_free(&mut connection, &name, source).await? {
                obstacles.push(views::taken(&name));
            }
        }
        if let Some(live) = live.filter(|live| live.continued_by(table).is_none()) {
            let views = views::dependents(&mut connection, &live.table).await?;
            obstacles.extend(views.iter().map(|view| depends(view, &live.table.name)));
        }
        Ok(obstacles)
    }

    pub(super) async fn begin_table_of(&self, source: SourceId, table: &Table) -> Result<TableId, StoreError> {
        let definition = json(table)?;
        let mut writer = self.writer().await;
        let mut tx = writer.begin(Durability::Full).await?;
        let begun = sqlx::query_as(BEGUN).bind(source.0).fetch_optional(&mut *tx).await;
        let begun: Option<(i64, String)> = begun.map_err(failed)?;
        let id = match begun {
            Some((id, begun)) if begun == definition => {
                sqlx::query(BEGIN_AGAIN).bind(id).execute(&mut *tx).await.map_err(failed)?;
                TableId(id)
            }
            begun => {
                if let Some((id, _)) = begun {
                    forget(&mut tx, TableId(id)).await?;
                }
                let id = sqlx::query_scalar(BEGIN).bind(source.0).bind(definition).fetch_one(&mut *tx).await;
                let id = TableId(id.map_err(failed)?);
                sqlx::raw_sql(AssertSqlSafe(table_sql(id, table))).execute(&mut *tx).await.map_err(failed)?;
                id
            }
        };
        tx.commit().await.map_err(failed)?;
        Ok(id)
    }

    /// Copies are read and looked at without the writer. Written are those that are as they were read: the others have been
    /// written by whatever changed them.
    pub(super) async fn fill_table_on(&self, id: TableId, at_most: u32) -> Result<Filled, StoreError> {
        let mut page = self.page_for(id, at_most).await?.look_at().await?;
        let filled = Filled { copies: page.looked_at, is_all: page.is_all };
        let ids: Vec<_> = page.fits.iter().map(|copy| copy.resource).collect();
        let mut writer = self.writer().await;
        let mut tx = writer.begin(Durability::Full).await?;
        let misfits = i64::try_from(page.misfits.len()).unwrap_or(i64::MAX);
        let note = sqlx::query(NOTE).bind(id.0).bind(&page.filled).bind(misfits).bind(page.misfits.first());
        if note.execute(&mut *tx).await.map_err(failed)?.rows_affected() == 0 {
            return Err(not_filling(id));
        }
        let now = sqlx::query_as(VERSIONS).bind(json(&ids)?).fetch_all(&mut *tx).await.map_err(failed)?;
        let fits = page.unchanged(&now);
        put(&mut tx, id, &page.table, &fits).await?;
        tx.commit().await.map_err(failed)?;
        Ok(filled)
    }

    async fn page_for(&self, id: TableId, at_most: u32) -> Result<Page, StoreError> {
        let filling = sqlx::query_as(STILL_FILLING).bind(id.0).fetch_optional(&self.readers).await;
        let filling: Option<(i64, String, String)> = filling.map_err(failed)?;
        let (source, definition, filled) = filling.ok_or_else(|| not_filling(id))?;
        let mut page = Page::new(id, &definition, filled, at_most)?;
        let query = sqlx::query(COPIES).bind(source).bind(page.filled.clone()).bind(at_most);
        let mut rows = query.fetch(&self.readers);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            if !page.take::<SqliteRow>(&row)? {
                break;
            }
        }
        Ok(page)
    }

    pub(super) async fn open_table_to_apps(&self, id: TableId) -> Result<(), StoreError> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin(Durability::Full).await?;
        let all = known(&mut tx).await?;
        let opened = all.iter().find(|known| known.id == id && known.state != TableState::Left);
        let opened = opened.ok_or_else(|| not_filling(id))?;
        let live = all.iter().find(|known| known.source == opened.source && known.state == TableState::Live);
        let columns = live.and_then(|live| live.continued_by(&opened.table));
        let columns =
            columns.unwrap_or_else(|| opened.table.columns.iter().map(|column| column.name.clone()).collect());
        if opened.state == TableState::Live && views::are_there(&mut tx, opened).await? {
            return Ok(());
        }
        if let Some(live) = live {
            views::drop(&mut tx, live).await?;
        }
        views::make(&mut tx, opened, &columns).await?;
        if let Some(live) = live.filter(|live| live.id != id) {
            sqlx::query(LEAVE).bind(live.id.0).execute(&mut *tx).await.map_err(failed)?;
        }
        sqlx::query(OPENED).bind(id.0).bind(json(&columns)?).execute(&mut *tx).await.map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    pub(super) async fn drop_table_with_views(&self, id: TableId) -> Result<(), StoreError> {
        let mut writer = self.writer().await;
        let mut tx = writer.begin(Durability::Full).await?;
        let all = known(&mut tx).await?;
        let Some(dropped) = all.iter().find(|known| known.id == id) else { return Ok(()) };
        if dropped.state == TableState::Live {
            if let Some(view) = views::dependents(&mut tx, &dropped.table).await?.first() {
                return Err(StoreError::Unusable(depends(view, &dropped.table.name)));
            }
            views::drop(&mut tx, dropped).await?;
        }
        forget(&mut tx, id).await?;
        tx.commit().await.map_err(failed)
    }
}

async fn known(connection: &mut SqliteConnection) -> Result<Vec<KnownTable>, StoreError> {
    let rows = sqlx::query(KNOWN).fetch_all(connection).await.map_err(failed)?;
    rows.iter().map(KnownTable::of).collect()
}

async fn forget(connection: &mut SqliteConnection, TableId(id): TableId) -> Result<(), StoreError> {
    let drop = AssertSqlSafe(format!("DROP TABLE headpond_typed_{id}"));
    sqlx::query(drop).execute(&mut *connection).await.map_err(failed)?;
    sqlx::query(FORGET).bind(id).execute(connection).await.map_err(failed)?;
    Ok(())
}
