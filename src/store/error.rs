//! What can go wrong.

/// A fault of the database or in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer was in the way for longer than we wait, or a transaction had to give way: the same call may succeed.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The database can't be reached, is full, or is failing: the same call may succeed later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// No connection could be made to it when it was to be opened. A sentence that says where, and what to do: the same
    /// call may succeed later.
    #[error("{0}")]
    Unreachable(String),
    /// The database refused this data: the same call will fail again.
    #[error("the database refused the data: {0}")]
    Rejected(String),
    /// What is stored makes no sense.
    #[error("corrupt data in table {table}, column {column}, row {row}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        row: i64,
        /// What is wrong with it.
        problem: String,
    },
    /// The database can't be used as it is, and what to do about it.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anyone changing the data.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_) | Self::Unreachable(_))
    }
}
