//! What of a typed table a reader asks for, in the grammar of PostgREST: `age=gte.18`, `select=name,age`, `order=age.desc`.
//!
//! Names are checked against the table and values against their columns' types before any SQL is made of them.

use std::fmt;

use super::project::{Cell, date, decimal, timestamp};
use super::table::{Column, ColumnType, Table};

/// A checked question.
#[derive(Debug, Clone, PartialEq)]
pub struct RowQuery {
    /// What rows must fulfil, all of it.
    pub filters: Vec<Filter>,
    /// The columns of the answer, in this order.
    pub select: Vec<Field>,
    /// The order of the rows. It ends with what tells all rows apart.
    pub order: Vec<Order>,
    /// The values of the order's columns in the row after which to go on.
    pub after: Option<Vec<Cell>>,
}

/// A column that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: ColumnType,
    /// Whether it may have none.
    pub nullable: bool,
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// On what.
    pub field: Field,
    /// Whether it must not hold. As in SQL, what has no value fulfils neither.
    pub not: bool,
    /// What must hold.
    pub test: Test,
}

/// What must hold of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It compares so with this one.
    Compare(Comparison, Cell),
    /// It is one of these.
    In(Vec<Cell>),
    /// It has no value.
    IsNull,
    /// It is this truth value.
    Is(bool),
    /// It is like this pattern, in which `%` stands for anything and `_` for one character.
    Like(String),
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    Neq,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `<`
    Lt,
    /// `<=`
    Lte,
}

impl Comparison {
    const ALL: [(&'static str, Self); 6] = [
        ("eq", Self::Eq),
        ("neq", Self::Neq),
        ("gt", Self::Gt),
        ("gte", Self::Gte),
        ("lt", Self::Lt),
        ("lte", Self::Lte),
    ];

    /// As SQL has it.
    #[must_use]
    pub const fn as_sql(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Neq => "<>",
            Self::Gt => ">",
            Self::Gte => ">=",
            Self::Lt => "<",
            Self::Lte => "<=",
        }
    }
}

/// By what rows are sorted. Those without a value come last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub field: Field,
    /// From the largest.
    pub descending: bool,
}

/// What is wrong with a parameter, as a sentence that says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn wrong<T>(sentence: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(sentence.into()))
}

/// How many values `in` takes.
const MOST_VALUES: usize = 1000;

/// Columns that answers have without being configured, and that are of the row itself.
fn own_fields() -> [Field; 3] {
    let own = |name: &str, kind| Field { name: name.into(), kind, nullable: false };
    [own("key", ColumnType::Text), own("version", ColumnType::Integer), own("changed_at", ColumnType::Timestamp)]
}

/// Columns that tell how fresh a row is.
fn freshness_fields() -> [Field; 3] {
    let own = |name: &str, kind| Field { name: name.into(), kind, nullable: true };
    [
        own("fetched_at", ColumnType::Timestamp),
        own("stale_after", ColumnType::Timestamp),
        own("state", ColumnType::Text),
    ]
}

fn field(column: &Column) -> Field {
    Field { name: column.name.clone(), kind: column.kind, nullable: column.nullable }
}

/// All columns of a table's rows, in the order in which they are answered.
#[must_use]
pub fn fields(table: &Table) -> Vec<Field> {
    let [key, version, changed_at] = own_fields();
    let row_key = table.rows.iter().map(|rows| field(&rows.key));
    let columns = table.columns.iter().map(field);
    [key].into_iter().chain(row_key).chain([version, changed_at]).chain(freshness_fields()).chain(columns).collect()
}

/// The column of that name.
///
/// # Errors
/// Which columns there are.
fn find(table: &Table, name: &str) -> Result<Field, Wrong> {
    let all = fields(table);
    let found = all.iter().find(|field| field.name == name).cloned();
    found.ok_or_else(|| {
        let names: Vec<_> = all.into_iter().map(|field| field.name).collect();
        Wrong(format!("there is no such column; the columns are `{}`.", names.join("`, `")))
    })
}

/// Whether a column is told by the schedule and not by the row: it can be selected and not filtered or sorted by.
#[must_use]
pub fn is_of_schedule(name: &str) -> bool {
    freshness_fields().iter().any(|field| field.name == name)
}

/// A column that rows can be chosen or sorted by.
fn find_stored(table: &Table, name: &str) -> Result<Field, Wrong> {
    let field = find(table, name)?;
    if is_of_schedule(name) {
        return wrong(
            "rows can't be chosen or sorted by this column; `state=fresh` and `state=stale` choose by freshness.",
        );
    }
    Ok(field)
}

/// The columns of `select=`.
///
/// # Errors
/// What is wrong with it.
pub fn select(table: &Table, text: Option<&str>) -> Result<Vec<Field>, Wrong> {
    let Some(text) = text.filter(|text| *text != "*") else { return Ok(fields(table)) };
    let mut selected: Vec<Field> = Vec::new();
    for name in text.split(',') {
        let field = find(table, name).map_err(|Wrong(why)| Wrong(format!("{name:?}: {why}")))?;
        if selected.contains(&field) {
            return wrong(format!("{name:?}: each column may be named once."));
        }
        selected.push(field);
    }
    Ok(selected)
}

/// The order of `order=`, made total.
///
/// # Errors
/// What is wrong with it.
pub fn order(table: &Table, text: Option<&str>) -> Result<Vec<Order>, Wrong> {
    let mut order: Vec<Order> = Vec::new();
    for term in text.into_iter().flat_map(|text| text.split(',')) {
        let (name, direction) = term.split_once('.').unwrap_or((term, "asc"));
        let named = |Wrong(why)| Wrong(format!("{name:?}: {why}"));
        let field = find_stored(table, name).map_err(named)?;
        let descending = match direction {
            "asc" | "asc.nullslast" => false,
            "desc" | "desc.nullslast" => true,
            _ => return wrong(format!("{term:?}: write a column, or one with `.asc` or `.desc`; NULL comes last.")),
        };
        if field.kind == ColumnType::Json {
            return wrong(format!("{name:?}: JSON has no order."));
        }
        if order.iter().any(|other| other.field == field) {
            return wrong(format!("{name:?}: each column may be named once."));
        }
        order.push(Order { field, descending });
    }
    let [key, ..] = own_fields();
    for field in [key].into_iter().chain(table.rows.iter().map(|rows| self::field(&rows.key))) {
        if !order.iter().any(|other| other.field == field) {
            order.push(Order { field, descending: false });
        }
    }
    Ok(order)
}

/// The condition `column=operator.value`.
///
/// # Errors
/// What is wrong with it.
pub fn filter(table: &Table, name: &str, condition: &str) -> Result<Filter, Wrong> {
    let field = find_stored(table, name)?;
    let (not, condition) = match condition.strip_prefix("not.") {
        Some(rest) => (true, rest),
        None => (false, condition),
    };
    let Some((operator, value)) = condition.split_once('.') else { return wrong(OPERATORS) };
    Ok(Filter { test: test(&field, operator, value)?, field, not })
}

const OPERATORS: &str = "write an operator and a value, like `eq.5`; the operators are `eq`, `neq`, `gt`, `gte`, `lt`, \
                         `lte`, `in`, `is` and `like`, each also behind `not.`.";

fn test(field: &Field, operator: &str, value: &str) -> Result<Test, Wrong> {
    if let Some((_, comparison)) = Comparison::ALL.into_iter().find(|(name, _)| *name == operator) {
        if field.kind == ColumnType::Boolean && !matches!(comparison, Comparison::Eq | Comparison::Neq) {
            return wrong("truth values have no order; use `eq`, `neq` or `is`.");
        }
        return Ok(Test::Compare(comparison, cell(field, value)?));
    }
    match (operator, value) {
        ("is", "null") => Ok(Test::IsNull),
        ("is", "true" | "false") if field.kind == ColumnType::Boolean => Ok(Test::Is(value == "true")),
        ("is", _) => wrong("`is` takes `null`, and for a boolean column `true` or `false`."),
        ("like", pattern) if field.kind == ColumnType::Text && !pattern.contains('\0') => {
            // As PostgREST has it: `*` is easier to write in a URL than `%`.
            Ok(Test::Like(pattern.replace('*', "%")))
        }
        ("like", _) => wrong("`like` is for columns of text."),
        ("in", list) => {
            let inner = list.strip_prefix('(').and_then(|list| list.strip_suffix(')'));
            let Some(members) = inner.and_then(members) else {
                return wrong(
                    "`in` takes a list in brackets, like `in.(1,2)`; texts with `,` `(` `)` in double quotes.",
                );
            };
            if members.len() > MOST_VALUES {
                return wrong(format!("`in` takes at most {MOST_VALUES} values."));
            }
            members.iter().map(|member| cell(field, member)).collect::<Result<_, _>>().map(Test::In)
        }
        _ => wrong(OPERATORS),
    }
}

/// The members of a list, of which those in double quotes may have commas, and `\"` and `\\`; `None` when quotes don't match.
fn members(list: &str) -> Option<Vec<String>> {
    let (mut all, mut member, mut is_quoted, mut characters) = (Vec::new(), String::new(), false, list.chars());
    let mut was_quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_quoted => member.push(characters.next()?),
            '"' if is_quoted => (is_quoted, was_quoted) = (false, true),
            '"' if member.is_empty() && !was_quoted => is_quoted = true,
            ',' if !is_quoted => {
                all.push(std::mem::take(&mut member));
                was_quoted = false;
            }
            _ if was_quoted => return None,
            character => member.push(character),
        }
    }
    all.push(member);
    (!is_quoted).then_some(all)
}

/// A value as its column has it.
///
/// # Errors
/// What would be right.
pub fn cell(field: &Field, text: &str) -> Result<Cell, Wrong> {
    let bad = |what: &str| Wrong(format!("the column is {}, and this is {what}.", field.kind));
    match field.kind {
        ColumnType::Text if text.contains('\0') => Err(bad("text with a NUL character")),
        ColumnType::Text => Ok(Cell::Text(text.into())),
        ColumnType::Integer => text.parse().map(Cell::Integer).map_err(|_| bad("no whole number of 64 bits")),
        ColumnType::Real => match text.parse::<f64>() {
            Ok(real) if real.is_finite() => Ok(Cell::Real(real)),
            _ => Err(bad("no finite number")),
        },
        ColumnType::Boolean => text.parse().map(Cell::Boolean).map_err(|_| bad("neither true nor false")),
        ColumnType::Timestamp => timestamp(text).map(Cell::Text).map_err(bad),
        ColumnType::Date => date(text).map(Cell::Text).map_err(bad),
        ColumnType::Numeric => decimal(text).map(Cell::Text).map_err(bad),
        ColumnType::Json => wrong("JSON can only be asked whether it `is.null`."),
    }
}

#[cfg(test)]
mod tests;
