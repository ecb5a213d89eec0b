//! Keys that a query of the operator's finds, row by row.

use std::time::Duration;

use tokio::sync::mpsc;

use super::StoreError;

/// How many rows are handed over at once.
pub(super) const AT_ONCE: usize = 1000;

/// A query for keys: one SELECT, whose first column, or the one called `key`, is the key; the others are its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    /// The statement.
    pub sql: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// A row that it found. Numbers and truth values are texts as JSON writes them; `None` is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedRow {
    /// The key.
    pub key: Option<String>,
    /// The parameters.
    pub params: Vec<(String, Option<String>)>,
}

/// Where rows go. A receiver that is gone ends the query.
pub type Rows = mpsc::Sender<Vec<SelectedRow>>;

impl KeyQuery {
    /// The statement as a part of another one, which can only read.
    pub(super) fn inner(&self) -> &str {
        self.sql.trim().trim_end_matches(';')
    }

    /// The error when it takes too long.
    pub(super) fn too_slow(&self) -> StoreError {
        let within = humantime::format_duration(self.timeout);
        StoreError::Rejected(format!("it took longer than its timeout of {within}"))
    }
}

impl SelectedRow {
    /// Tells the key from the parameters.
    pub(super) fn of(mut columns: Vec<(String, Option<String>)>) -> Self {
        let place = columns.iter().position(|(name, _)| name == "key").unwrap_or(0);
        let key = if columns.is_empty() { None } else { columns.remove(place).1 };
        Self { key, params: columns }
    }
}

/// The error for a column that has no text for a URL.
pub(super) fn not_a_value(column: &str, kind: &str) -> StoreError {
    StoreError::Rejected(format!("the column `{column}` has {kind}: select texts, numbers or truth values"))
}
