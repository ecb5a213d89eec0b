//! The typed table of a source: which parts of its copies become columns.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::json_path::JsonPath;

/// Columns that every table has of itself, besides those that are configured.
pub const OWN_COLUMNS: [&str; 7] = ["key", "version", "changed_at", "gone_at", "fetched_at", "stale_after", "state"];

/// What names of columns and tables of ours begin with.
pub const OWN_PREFIX: &str = "headpond_";

/// What is added to a table's name for the view that has rows of what is gone, too.
pub const ALL_SUFFIX: &str = "_all";

/// A table as it is configured. It is stored beside its rows, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The name of the view that apps read.
    pub name: String,
    /// Its columns, in the order of their names.
    pub columns: Vec<Column>,
    /// Where a copy has many rows. `None`: each copy is one row.
    pub rows: Option<Rows>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Where its value is in the copy, or in the item that is the row: the first of these that names anything but `null`.
    pub paths: Vec<JsonPath>,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether it may have none.
    pub nullable: bool,
    /// Whether rows are looked up by it.
    pub index: bool,
}

/// The rows of one copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The items that become rows.
    pub items: JsonPath,
    /// The column that tells the rows of one copy apart.
    pub key: Column,
}

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// A JSON string.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// A number in double precision.
    Real,
    /// `true` or `false`.
    Boolean,
    /// A text by RFC 3339, with its zone.
    Timestamp,
    /// A text like `2026-05-01`.
    Date,
    /// A decimal number with all of its digits: a number, or one that is written as text.
    Numeric,
    /// Any JSON.
    Json,
}

impl ColumnType {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Text, Self::Integer, Self::Real, Self::Boolean, Self::Timestamp, Self::Date, Self::Numeric, Self::Json];

    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Numeric => "numeric",
            Self::Json => "json",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether rows of a copy can be told apart by it: its values are exact, and equal ones are written alike.
    #[must_use]
    pub const fn can_be_row_key(self) -> bool {
        matches!(self, Self::Text | Self::Integer | Self::Timestamp | Self::Date)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Table {
    /// The columns in which a row has values: what tells rows of one copy apart comes first.
    pub fn row(&self) -> impl Iterator<Item = &Column> {
        self.rows.iter().map(|rows| &rows.key).chain(&self.columns)
    }

    /// The name of the view with rows of what is gone, too.
    #[must_use]
    pub fn name_of_all(&self) -> String {
        format!("{}{ALL_SUFFIX}", self.name)
    }
}

/// Why a text can't be the name of a table or column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It has other characters, or begins with a digit, or is empty.
    #[error("a name has letters of a to z, digits and `_`, and does not begin with a digit")]
    Characters,
    /// Postgres would cut it off.
    #[error("a name has at most {MOST_BYTES} characters")]
    TooLong,
    /// It is one of ours.
    #[error("names that begin with `headpond_` or `sqlite_` are taken")]
    Taken,
    /// It is one that every table has.
    #[error("every table has a column of this name already")]
    Own,
    /// It is one of Postgres' own columns.
    #[error("every table of Postgres has a column of this name already")]
    System,
}

/// Postgres knows 63 bytes of a name; a table's has `_all` added to it.
const MOST_BYTES: usize = 59;

/// What Postgres calls columns that all tables have.
const SYSTEM_COLUMNS: [&str; 7] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid"];

/// Checks the name of a table. Words of SQL are good names: names are always quoted.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_word) {
        return Err(BadName::Characters);
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(OWN_PREFIX) || lower.starts_with("sqlite_") {
        return Err(BadName::Taken);
    }
    if name.len() > MOST_BYTES { Err(BadName::TooLong) } else { Ok(()) }
}

/// Checks the name of a column.
///
/// # Errors
/// What is wrong with it.
pub fn check_column_name(name: &str) -> Result<(), BadName> {
    let is = |names: &[&str]| names.iter().any(|own| own.eq_ignore_ascii_case(name));
    check_name(name)?;
    match () {
        () if is(&OWN_COLUMNS) => Err(BadName::Own),
        () if is(&SYSTEM_COLUMNS) => Err(BadName::System),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_sql_are_good_names_and_ours_are_not() {
        for name in ["order", "select", "Group", "a", "_x9", "temperature_2m"] {
            assert_eq!(check_column_name(name), Ok(()), "{name}");
        }
        for (name, wrong) in [
            ("", BadName::Characters),
            ("9a", BadName::Characters),
            ("a b", BadName::Characters),
            ("a\"b", BadName::Characters),
            ("größe", BadName::Characters),
            ("a;--", BadName::Characters),
            ("Headpond_x", BadName::Taken),
            ("sqlite_x", BadName::Taken),
            ("State", BadName::Own),
            ("key", BadName::Own),
            ("xmin", BadName::System),
            (&"x".repeat(60), BadName::TooLong),
        ] {
            assert_eq!(check_column_name(name), Err(wrong), "{name}");
        }
        assert_eq!(check_name("state"), Ok(()), "a table may be called like a column");
    }

    #[test]
    fn a_table_is_stored_as_json_and_read_again() {
        let column = |name: &str, kind| Column {
            name: name.into(),
            paths: vec![JsonPath::new("$.a").unwrap(), JsonPath::new("$['b c']").unwrap()],
            kind,
            nullable: true,
            index: false,
        };
        let columns = ColumnType::ALL.map(|kind| column(kind.as_str(), kind)).to_vec();
        let rows = Rows { items: JsonPath::new("$.list[*]").unwrap(), key: column("at", ColumnType::Timestamp) };
        let table = Table { name: "weather".into(), columns, rows: Some(rows) };
        let stored = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<Table>(&stored).unwrap(), table);
        assert!(serde_json::from_str::<Table>(&stored.replace("$.list[*]", "$.list[")).is_err());
    }
}
