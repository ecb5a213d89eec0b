//! From a copy to the rows of its source's table.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde_json::{Number, Value};

use super::json_path::JsonPath;
use super::table::{Column, ColumnType, Table};

/// A value of a row. Timestamps, dates, decimal numbers and JSON are texts, each written in one way only.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// None.
    Null,
    /// A text, or what is written as one.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Real(f64),
    /// A truth value.
    Boolean(bool),
}

/// A row: a value for each of [`Table::row`].
pub type Row = Vec<Cell>;

/// The rows of a copy, and the table that they are for.
#[derive(Debug, Clone, PartialEq)]
pub struct Typed {
    /// The table.
    pub table: Arc<Table>,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// Why a copy does not fit its table. As a sentence, it quotes nothing of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The table.
    pub table: String,
    /// The column; `None` where it is about the rows as a whole.
    pub column: Option<String>,
    /// Where it was looked for.
    pub path: String,
    /// In which of the rows, counted from 1, where a copy has many.
    pub row: Option<usize>,
    /// What the column takes.
    pub expected: String,
    /// What was there.
    pub found: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "column {column:?} of table {:?}", self.table)?,
            None => write!(f, "the rows of table {:?}", self.table)?,
        }
        write!(f, " ({}", self.path)?;
        if let Some(row) = self.row {
            write!(f, " in row {row}")?;
        }
        write!(f, "): expected {}, found {}", self.expected, self.found)
    }
}

/// Makes rows of a copy.
///
/// # Errors
/// The first value that does not fit.
pub fn project(table: &Table, body: &[u8]) -> Result<Vec<Row>, Box<Misfit>> {
    let about_rows = |path: &str, expected: &str, found: String| {
        let (table, path, expected) = (table.name.clone(), path.into(), expected.into());
        Box::new(Misfit { table, column: None, path, row: None, expected, found })
    };
    let document: Value = serde_json::from_slice(body).map_err(|_| about_rows("$", "JSON", "something else".into()))?;
    let Some(rows) = &table.rows else { return Ok(vec![row(table, &document, None)?]) };
    let (items, path) = (rows.items.nodes(&document), rows.items.as_str());
    // An empty list is no rows; one that isn't there any more must not take all rows away.
    let parent = rows.items.parent_of_all();
    if items.is_empty() && parent.is_some_and(|parent| parent.nodes(&document).is_empty()) {
        return Err(about_rows(path, "a list", "nothing".into()));
    }
    let mut met = HashSet::with_capacity(items.len());
    let made = items.iter().enumerate().map(|(place, item)| {
        let row = row(table, item, Some(place + 1))?;
        if !met.insert(row.first().map(identity)) {
            let expected = format!("another {:?} in each", rows.key.name);
            return Err(about_rows(path, &expected, format!("the one of row {} twice", place + 1)));
        }
        Ok(row)
    });
    made.collect()
}

/// What tells a row's key from others.
fn identity(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

fn row(table: &Table, item: &Value, place: Option<usize>) -> Result<Row, Box<Misfit>> {
    table.row().map(|column| cell(table, column, item, place)).collect()
}

fn cell(table: &Table, column: &Column, item: &Value, place: Option<usize>) -> Result<Cell, Box<Misfit>> {
    let misfit = |path: &JsonPath, found: String| {
        Box::new(Misfit {
            table: table.name.clone(),
            column: Some(column.name.clone()),
            path: path.as_str().into(),
            row: place,
            expected: column.kind.to_string(),
            found,
        })
    };
    let mut found = "nothing";
    for path in &column.paths {
        match path.nodes(item)[..] {
            [] => {}
            [Value::Null] => found = "null",
            [value] => return read(column.kind, value).map_err(|found| misfit(path, found)),
            ref many => return Err(misfit(path, format!("{} values", many.len()))),
        }
    }
    match column.paths.first() {
        Some(first) if !column.nullable => Err(misfit(first, found.into())),
        _ => Ok(Cell::Null),
    }
}

/// The value as the column takes it, or what it is instead.
fn read(kind: ColumnType, value: &Value) -> Result<Cell, String> {
    match (kind, value) {
        (ColumnType::Text, Value::String(text)) => storable(text.clone()),
        (ColumnType::Integer, Value::Number(number)) => integer(number),
        (ColumnType::Real, Value::Number(number)) => match number.as_str().parse::<f64>() {
            Ok(real) if real.is_finite() => Ok(Cell::Real(real)),
            _ => Err("a number beyond double precision".into()),
        },
        (ColumnType::Boolean, Value::Bool(flag)) => Ok(Cell::Boolean(*flag)),
        (ColumnType::Timestamp, Value::String(text)) => timestamp(text).map(Cell::Text).map_err(Into::into),
        (ColumnType::Date, Value::String(text)) => date(text).map(Cell::Text).map_err(Into::into),
        (ColumnType::Numeric, Value::Number(number)) => decimal(number.as_str()).map(Cell::Text).map_err(Into::into),
        (ColumnType::Numeric, Value::String(text)) => decimal(text).map(Cell::Text).map_err(Into::into),
        (ColumnType::Json, _) => {
            let text = value.to_string();
            if has_nul(value) { Err("text with a NUL character".into()) } else { Ok(Cell::Text(text)) }
        }
        _ => Err(what(value).into()),
    }
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Postgres can't store NUL, so SQLite doesn't either.
fn storable(text: String) -> Result<Cell, String> {
    if text.contains('\0') { Err("text with a NUL character".into()) } else { Ok(Cell::Text(text)) }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(elements) => elements.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, member)| name.contains('\0') || has_nul(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `5`, and `5.0`, which is the same number.
fn integer(number: &Number) -> Result<Cell, String> {
    let digits = number.as_str();
    let whole = digits.split_once('.').map_or(digits, |(whole, fraction)| match fraction.trim_start_matches('0') {
        "" => whole,
        _ => digits,
    });
    if let Ok(integer) = whole.parse() {
        return Ok(Cell::Integer(integer));
    }
    let is_whole = whole.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    Err(if is_whole { "a number beyond 64 bits" } else { "a number that is not whole" }.into())
}

/// A timestamp in the one way in which rows have it: in UTC, to the microsecond, so that texts sort like times.
///
/// # Errors
/// What it is instead.
pub fn timestamp(text: &str) -> Result<String, &'static str> {
    let at = DateTime::parse_from_rfc3339(text).map_err(|_| "text that is no timestamp with a zone (RFC 3339)")?;
    let at = at.with_timezone(&Utc);
    // Moved to UTC, it may have left the years of four digits.
    let years = DateTime::from_timestamp(-62_135_596_800, 0)..=DateTime::from_timestamp(253_402_300_799, 0);
    if !years.contains(&Some(at)) {
        return Err("a timestamp outside of the years 1 to 9999");
    }
    let at = DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at);
    Ok(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// A date in the one way in which rows have it.
///
/// # Errors
/// What it is instead.
pub fn date(text: &str) -> Result<String, &'static str> {
    let is_shaped = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let date = is_shaped.then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()).flatten();
    match date {
        Some(date) if text >= "0001" => Ok(date.format("%Y-%m-%d").to_string()),
        _ => Err("text that is no date (like 2026-05-01)"),
    }
}

/// How many digits a decimal number may have before and behind its point.
const MOST_DIGITS: usize = 1000;

/// A decimal number with all of its digits, as it is written.
///
/// # Errors
/// What it is instead.
pub fn decimal(text: &str) -> Result<String, &'static str> {
    const NONE: &str = "text that is no decimal number";
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let exponent: i32 = exponent.parse().map_err(|_| NONE)?;
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(NONE);
    }
    let digits = whole.len() + fraction.len() + exponent.unsigned_abs() as usize;
    if digits > MOST_DIGITS { Err("a number of more than 1000 digits") } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests;
