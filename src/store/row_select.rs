//! Rows of typed tables as a reader asks for them: the statement, which both databases spell nearly alike, and what comes of
//! it. Values are always bound, and names were checked against the table.

use chrono::{DateTime, Utc};

use super::StoreError;
use super::columns::micros;
use super::tables::{KnownTable, TableId, quoted};
use crate::domain::project::Cell;
use crate::domain::read_state::ReadState;
use crate::domain::row_query::{Field, Filter, Order, RowQuery, Test, is_of_schedule};
use crate::domain::table::ColumnType;

/// Rows that are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct RowRequest {
    /// Which, in which order, and what of them.
    pub query: RowQuery,
    /// Only those that are fresh, or stale, at `now`.
    pub state: Option<ReadState>,
    /// The time by which rows are fresh or stale.
    pub now: DateTime<Utc>,
    /// How many at the most, at least 1.
    pub limit: u32,
    /// Whether to count all that fulfil the filters.
    pub count: bool,
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPage {
    /// The values of the selected columns.
    pub rows: Vec<Vec<Cell>>,
    /// The values of the order's columns in the last row; `None` when no more follow.
    pub next: Option<Vec<Cell>>,
    /// How many fulfil the filters, on this page and others.
    pub count: Option<u64>,
}

/// How many bytes of texts a page has, unless a single row has more.
const MOST_BYTES: usize = 8 << 20;

/// What the databases spell differently.
pub(super) trait Dialect {
    /// The physical table.
    fn table(id: TableId) -> String;
    /// The table of the schedule.
    const SCHEDULE: &'static str;
    /// The Nth argument as a value of this type.
    fn argument(n: usize, kind: ColumnType) -> String;
    /// A column as it is read.
    fn shown(column: &str, kind: ColumnType) -> String;
    /// A column as it is read to go on behind it: to its last digit.
    fn place(column: &str, kind: ColumnType) -> String {
        Self::shown(column, kind)
    }
    /// Whether a column is like the Nth argument.
    fn like(column: &str, n: usize) -> String;
    /// The pattern as that takes it.
    fn pattern(pattern: &str) -> String;
}

/// A statement with its arguments.
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) arguments: Vec<Cell>,
}

/// The statement of a page, one row longer than asked: so it is known whether more follow.
pub(super) fn page<D: Dialect>(table: &KnownTable, request: &RowRequest) -> Statement {
    let RowQuery { filters, select, order, after } = &request.query;
    let mut building = Building::<D>::new();
    let mut columns: Vec<String> = select.iter().map(|field| building.shown(field, request.now)).collect();
    columns.extend(order.iter().map(|order| D::place(&column(&order.field), order.field.kind)));
    let mut wheres = building.wheres(filters, request);
    if let Some(after) = after {
        wheres.push(building.behind(order, after));
    }
    let sorted: Vec<_> = order.iter().map(sorted).collect();
    let schedule = join::<D>(needs_schedule(select, request));
    let sql = format!(
        "SELECT {} FROM {} AS t{schedule} WHERE {} ORDER BY {} LIMIT {}",
        columns.join(", "),
        D::table(table.id),
        wheres.join(" AND "),
        sorted.join(", "),
        request.limit.saturating_add(1)
    );
    Statement { sql, arguments: building.arguments }
}

/// The statement that counts.
pub(super) fn count<D: Dialect>(table: &KnownTable, request: &RowRequest) -> Statement {
    let mut building = Building::<D>::new();
    let wheres = building.wheres(&request.query.filters, request);
    let schedule = join::<D>(request.state.is_some());
    let sql = format!("SELECT count(*) FROM {} AS t{schedule} WHERE {}", D::table(table.id), wheres.join(" AND "));
    Statement { sql, arguments: building.arguments }
}

fn needs_schedule(select: &[Field], request: &RowRequest) -> bool {
    request.state.is_some() || select.iter().any(|field| is_of_schedule(&field.name))
}

fn join<D: Dialect>(is_needed: bool) -> String {
    let join = || format!(" JOIN {} AS s ON s.resource_id = t.headpond_id", D::SCHEDULE);
    if is_needed { join() } else { String::new() }
}

fn column(field: &Field) -> String {
    format!("t.{}", quoted(&field.name))
}

fn sorted(order: &Order) -> String {
    let direction = if order.descending { "DESC" } else { "ASC" };
    // Only where there can be NULLs: else an index that sorts them elsewhere would not serve.
    let nulls = if order.field.nullable { " NULLS LAST" } else { "" };
    format!("{} {direction}{nulls}", column(&order.field))
}

struct Building<D> {
    arguments: Vec<Cell>,
    dialect: std::marker::PhantomData<D>,
}

impl<D: Dialect> Building<D> {
    fn new() -> Self {
        Self { arguments: Vec::new(), dialect: std::marker::PhantomData }
    }

    fn bind(&mut self, cell: Cell, kind: ColumnType) -> String {
        self.arguments.push(cell);
        D::argument(self.arguments.len(), kind)
    }

    /// A column as it is read. Times of the schedule are read as they are stored.
    fn shown(&mut self, field: &Field, now: DateTime<Utc>) -> String {
        match field.name.as_str() {
            "state" => format!("CASE WHEN {} THEN 'fresh' ELSE 'stale' END", self.is_fresh(now)),
            name @ ("fetched_at" | "stale_after") => D::shown(&format!("s.{name}"), ColumnType::Integer),
            _ => D::shown(&column(field), field.kind),
        }
    }

    fn is_fresh(&mut self, now: DateTime<Utc>) -> String {
        format!("s.stale_after > {}", self.bind(Cell::Integer(micros(now)), ColumnType::Integer))
    }

    fn wheres(&mut self, filters: &[Filter], request: &RowRequest) -> Vec<String> {
        let mut wheres = vec!["t.gone_at IS NULL".to_owned()];
        wheres.extend(filters.iter().map(|filter| self.condition(filter)));
        if let Some(state) = request.state {
            let is_fresh = self.is_fresh(request.now);
            wheres.push(if state == ReadState::Fresh { is_fresh } else { format!("NOT ({is_fresh})") });
        }
        wheres
    }

    fn condition(&mut self, filter: &Filter) -> String {
        let (kind, column) = (filter.field.kind, column(&filter.field));
        let condition = match &filter.test {
            Test::Compare(comparison, cell) => {
                format!("{column} {} {}", comparison.as_sql(), self.bind(cell.clone(), kind))
            }
            Test::In(cells) => {
                let list: Vec<_> = cells.iter().map(|cell| self.bind(cell.clone(), kind)).collect();
                format!("{column} IN ({})", list.join(", "))
            }
            Test::IsNull => format!("{column} IS NULL"),
            Test::Is(flag) => format!("{column} = {}", self.bind(Cell::Boolean(*flag), kind)),
            Test::Like(pattern) => {
                self.arguments.push(Cell::Text(D::pattern(pattern)));
                D::like(&column, self.arguments.len())
            }
        };
        if filter.not { format!("NOT ({condition})") } else { condition }
    }

    /// What comes behind the row with these values: for some column of the order it has the same values before it, and a later
    /// one in it.
    fn behind(&mut self, order: &[Order], after: &[Cell]) -> String {
        let places: Vec<_> = order.iter().zip(after).collect();
        let mut ways = Vec::new();
        for (n, (order, cell)) in places.iter().enumerate() {
            let Some(later) = self.later(order, cell) else { continue };
            let mut all: Vec<String> = Vec::new();
            for (order, cell) in places.iter().take(n) {
                all.push(self.same(order, cell));
            }
            all.push(later);
            ways.push(format!("({})", all.join(" AND ")));
        }
        let any = if ways.is_empty() { "1 = 0".to_owned() } else { ways.join(" OR ") };
        // Of this much an index makes use.
        let first = places.first().filter(|(order, cell)| !order.field.nullable && **cell != Cell::Null);
        match first {
            Some((order, cell)) => {
                let (column, than) = (column(&order.field), if order.descending { "<=" } else { ">=" });
                format!("{column} {than} {} AND ({any})", self.bind((*cell).clone(), order.field.kind))
            }
            None => format!("({any})"),
        }
    }

    fn same(&mut self, order: &Order, cell: &Cell) -> String {
        let column = column(&order.field);
        match cell {
            Cell::Null => format!("{column} IS NULL"),
            cell => format!("{column} = {}", self.bind(cell.clone(), order.field.kind)),
        }
    }

    /// A later value; `None` behind NULL, which is last.
    fn later(&mut self, order: &Order, cell: &Cell) -> Option<String> {
        if *cell == Cell::Null {
            return None;
        }
        let (column, than) = (column(&order.field), if order.descending { "<" } else { ">" });
        let later = format!("{column} {than} {}", self.bind(cell.clone(), order.field.kind));
        Some(if order.field.nullable { format!("({later} OR {column} IS NULL)") } else { later })
    }
}

/// The rows of a page, as they are read.
pub(super) struct Gathering<'r> {
    request: &'r RowRequest,
    rows: Vec<Vec<Cell>>,
    last: Option<Vec<Cell>>,
    bytes: usize,
    has_more: bool,
}

impl<'r> Gathering<'r> {
    pub(super) fn new(request: &'r RowRequest) -> Self {
        Self { request, rows: Vec::new(), last: None, bytes: 0, has_more: false }
    }

    /// The types of the columns of a row, in their order.
    pub(super) fn kinds(&self) -> Vec<ColumnType> {
        let kind = |field: &Field| match field.name.as_str() {
            "fetched_at" | "stale_after" => ColumnType::Integer,
            _ => field.kind,
        };
        let RowQuery { select, order, .. } = &self.request.query;
        select.iter().map(kind).chain(order.iter().map(|order| order.field.kind)).collect()
    }

    /// Takes a row, and says whether there is room for more.
    pub(super) fn take(&mut self, mut cells: Vec<Cell>) -> bool {
        let is_full = self.rows.len() >= self.request.limit as usize || self.bytes >= MOST_BYTES;
        if is_full {
            self.has_more = true;
            return false;
        }
        let select = &self.request.query.select;
        self.last = Some(cells.split_off(select.len().min(cells.len())));
        for (field, cell) in select.iter().zip(&mut cells) {
            if let (true, Cell::Integer(at)) = (is_of_schedule(&field.name), &*cell) {
                let at = DateTime::from_timestamp_micros(*at).unwrap_or_default();
                *cell = Cell::Text(at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
            }
        }
        let size = |cell: &Cell| if let Cell::Text(text) = cell { text.len() } else { 8 };
        self.bytes += cells.iter().map(size).sum::<usize>();
        self.rows.push(cells);
        true
    }

    pub(super) fn page(self, count: Option<u64>) -> RowPage {
        RowPage { rows: self.rows, next: self.last.filter(|_| self.has_more), count }
    }
}

/// Whether a table has all the columns that are asked for: while it is made anew, those that it is to have aren't there yet.
pub(super) fn has_all(table: &KnownTable, query: &RowQuery) -> bool {
    let known = crate::domain::row_query::fields(&table.table);
    let is_known = |field: &Field| known.iter().any(|known| known.name == field.name && known.kind == field.kind);
    let filtered = query.filters.iter().map(|filter| &filter.field);
    filtered.chain(&query.select).chain(query.order.iter().map(|order| &order.field)).all(is_known)
}

/// A text that a database gave as a value of this type.
pub(super) fn read(kind: ColumnType, text: Option<String>) -> Result<Cell, StoreError> {
    let Some(text) = text else { return Ok(Cell::Null) };
    let bad = |problem: String| StoreError::Corrupt { table: "typed", column: "value", row: 0, problem };
    match kind {
        ColumnType::Integer => text.parse().map(Cell::Integer).map_err(|error| bad(format!("{error}"))),
        ColumnType::Real => text.parse().map(Cell::Real).map_err(|error| bad(format!("{error}"))),
        ColumnType::Boolean => Ok(Cell::Boolean(text == "true" || text == "1")),
        ColumnType::Text | ColumnType::Timestamp | ColumnType::Date | ColumnType::Numeric | ColumnType::Json => {
            Ok(Cell::Text(text))
        }
    }
}
