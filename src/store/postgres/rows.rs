//! Rows of typed tables, as a reader asks for them.

use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};

use super::PostgresStore;
use super::begin::begin_reading;
use super::error::Result;
use super::typed::sql_type;
use crate::domain::project::Cell;
use crate::domain::resource::SourceName;
use crate::domain::table::ColumnType;
use crate::store::row_select::{self, Dialect, Gathering, RowPage, RowRequest, Statement, has_all, read};
use crate::store::tables::{KnownTable, TableId};

const LIVE: &str = "
    SELECT t.id, t.source_id, s.name AS source, t.state, t.definition, t.columns, t.schema, t.filled, t.misfits, t.misfit
      FROM headpond.source s JOIN headpond.typed t ON t.source_id = s.id WHERE s.name = $1 AND t.state = 'live'";

struct AsPostgres;

impl Dialect for AsPostgres {
    const SCHEDULE: &'static str = "headpond.schedule";

    fn table(TableId(id): TableId) -> String {
        format!("headpond.typed_{id}")
    }

    fn argument(n: usize, kind: ColumnType) -> String {
        format!("${n}::text::{}", sql_type(kind))
    }

    fn shown(column: &str, kind: ColumnType) -> String {
        match kind {
            ColumnType::Timestamp => {
                format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
            }
            ColumnType::Date => format!("to_char({column}, 'YYYY-MM-DD')"),
            _ => format!("{column}::text"),
        }
    }

    fn like(column: &str, n: usize) -> String {
        format!("{column} LIKE ${n}::text ESCAPE ''")
    }

    fn pattern(pattern: &str) -> String {
        pattern.to_owned()
    }
}

pub(super) async fn rows(store: &PostgresStore, source: &SourceName, request: &RowRequest) -> Result<Option<RowPage>> {
    let mut tx = begin_reading(&store.readers).await?;
    let live = sqlx::query(LIVE).bind(source.as_str()).fetch_optional(&mut *tx).await?;
    let Some(live) = live.map(|row| KnownTable::of(&row)).transpose()? else { return Ok(None) };
    if !has_all(&live, &request.query) {
        return Ok(None);
    }
    let mut gathering = Gathering::new(request);
    let kinds = gathering.kinds();
    let page = row_select::page::<AsPostgres>(&live, request);
    {
        let mut found = query(&page).fetch(&mut *tx);
        while let Some(row) = found.try_next().await? {
            if !gathering.take(cells(&row, &kinds)?) {
                break;
            }
        }
    }
    let count = if request.count {
        let count = row_select::count::<AsPostgres>(&live, request);
        let counted: i64 = query(&count).fetch_one(&mut *tx).await?.try_get(0)?;
        u64::try_from(counted).ok()
    } else {
        None
    };
    tx.commit().await?;
    Ok(Some(gathering.page(count)))
}

fn query(Statement { sql, arguments }: &Statement) -> Query<'_, Postgres, PgArguments> {
    let query = sqlx::query(AssertSqlSafe(sql.clone())).persistent(false);
    arguments.iter().fold(query, |query, cell| match cell {
        Cell::Null => query.bind(None::<String>),
        Cell::Text(text) => query.bind(text.clone()),
        Cell::Integer(integer) => query.bind(integer.to_string()),
        Cell::Real(real) => query.bind(format!("{real:?}")),
        Cell::Boolean(flag) => query.bind(flag.to_string()),
    })
}

fn cells(row: &PgRow, kinds: &[ColumnType]) -> Result<Vec<Cell>> {
    let mut cells = Vec::with_capacity(kinds.len());
    for (place, kind) in kinds.iter().enumerate() {
        cells.push(read(*kind, row.try_get(place)?)?);
    }
    Ok(cells)
}
