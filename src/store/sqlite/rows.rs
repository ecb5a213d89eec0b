//! Rows of typed tables, as a reader asks for them.

use futures_util::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite};

use super::SqliteStore;
use super::error::failed;
use crate::domain::project::Cell;
use crate::domain::resource::SourceName;
use crate::domain::table::ColumnType;
use crate::store::StoreError;
use crate::store::row_select::{self, Dialect, Gathering, RowPage, RowRequest, Statement, has_all, read};
use crate::store::tables::{KnownTable, TableId};

const LIVE: &str = "
    SELECT t.id, t.source_id, source.name AS source, t.state, t.definition, t.columns, t.schema, t.filled, t.misfits,
        t.misfit
    FROM headpond_source AS source CROSS JOIN headpond_typed AS t ON t.source_id = source.id
    WHERE source.name = ?1 AND t.state = 'live'";

struct AsSqlite;

impl Dialect for AsSqlite {
    const SCHEDULE: &'static str = "headpond_schedule";

    fn table(TableId(id): TableId) -> String {
        format!("headpond_typed_{id}")
    }

    /// A text would not compare with a number.
    fn argument(n: usize, kind: ColumnType) -> String {
        if kind == ColumnType::Numeric { format!("CAST(?{n} AS numeric)") } else { format!("?{n}") }
    }

    fn shown(column: &str, kind: ColumnType) -> String {
        if kind == ColumnType::Numeric { format!("CAST({column} AS text)") } else { column.to_owned() }
    }

    fn place(column: &str, kind: ColumnType) -> String {
        match kind {
            ColumnType::Numeric => format!(
                "CASE typeof({column}) WHEN 'real' THEN printf('%!.17g', {column}) ELSE CAST({column} AS text) END"
            ),
            _ => Self::shown(column, kind),
        }
    }

    /// LIKE would not tell upper from lower case.
    fn like(column: &str, n: usize) -> String {
        format!("{column} GLOB ?{n}")
    }

    fn pattern(pattern: &str) -> String {
        let glob = |character| match character {
            '%' => "*".to_owned(),
            '_' => "?".to_owned(),
            '*' | '?' | '[' => format!("[{character}]"),
            other => other.to_string(),
        };
        pattern.chars().map(glob).collect()
    }
}

impl SqliteStore {
    pub(super) async fn read_rows(
        &self,
        source: &SourceName,
        request: &RowRequest,
    ) -> Result<Option<RowPage>, StoreError> {
        let mut tx = self.readers.begin().await.map_err(failed)?;
        let live = sqlx::query(LIVE).bind(source.as_str()).fetch_optional(&mut *tx).await.map_err(failed)?;
        let Some(live) = live.map(|row| KnownTable::of(&row)).transpose()? else { return Ok(None) };
        if !has_all(&live, &request.query) {
            return Ok(None);
        }
        let mut gathering = Gathering::new(request);
        let kinds = gathering.kinds();
        let page = row_select::page::<AsSqlite>(&live, request);
        {
            let mut found = query(&page).fetch(&mut *tx);
            while let Some(row) = found.try_next().await.map_err(failed)? {
                if !gathering.take(cells(&row, &kinds)?) {
                    break;
                }
            }
        }
        let count = if request.count {
            let count = row_select::count::<AsSqlite>(&live, request);
            let counted = query(&count).fetch_one(&mut *tx).await.map_err(failed)?;
            u64::try_from(counted.try_get::<i64, _>(0).map_err(failed)?).ok()
        } else {
            None
        };
        tx.commit().await.map_err(failed)?;
        Ok(Some(gathering.page(count)))
    }
}

fn query(Statement { sql, arguments }: &Statement) -> Query<'_, Sqlite, SqliteArguments> {
    let query = sqlx::query(AssertSqlSafe(sql.clone())).persistent(false);
    arguments.iter().fold(query, |query, cell| match cell {
        Cell::Null => query.bind(None::<String>),
        Cell::Text(text) => query.bind(text.clone()),
        Cell::Integer(integer) => query.bind(*integer),
        Cell::Real(real) => query.bind(*real),
        Cell::Boolean(flag) => query.bind(*flag),
    })
}

fn cells(row: &SqliteRow, kinds: &[ColumnType]) -> Result<Vec<Cell>, StoreError> {
    let cell = |(place, kind): (usize, &ColumnType)| match kind {
        ColumnType::Integer => integer(row, place).map(|value| value.map_or(Cell::Null, Cell::Integer)),
        ColumnType::Boolean => {
            integer(row, place).map(|value| value.map_or(Cell::Null, |flag| Cell::Boolean(flag != 0)))
        }
        ColumnType::Real => {
            let real: Option<f64> = row.try_get_unchecked(place).map_err(failed)?;
            Ok(real.map_or(Cell::Null, Cell::Real))
        }
        kind => read(*kind, row.try_get_unchecked(place).map_err(failed)?),
    };
    kinds.iter().enumerate().map(cell).collect()
}

fn integer(row: &SqliteRow, place: usize) -> Result<Option<i64>, StoreError> {
    row.try_get_unchecked(place).map_err(failed)
}
