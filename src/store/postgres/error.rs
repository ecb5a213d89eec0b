//! What a fault of the database means to whoever called.

use sqlx::error::DatabaseError;

use crate::store::StoreError;

/// A [`StoreError`] that `?` makes of sqlx's errors inside this module.
#[derive(Debug)]
pub(super) struct Fault(StoreError);

/// What functions of this module return.
pub(super) type Result<T, E = Fault> = std::result::Result<T, E>;

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        fault.0
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self(match error {
            sqlx::Error::Database(error) => by_code(error.as_ref()),
            sqlx::Error::Configuration(error) => {
                StoreError::Unusable(format!("the database URL can't be used: {error}"))
            }
            sqlx::Error::PoolTimedOut => {
                StoreError::Unavailable("no connection became free or could be made in time".into())
            }
            // A statement that doesn't fit its tables is caught by the tests; what is left of these kinds is data.
            sqlx::Error::Encode(error) => StoreError::Rejected(error.to_string()),
            error => StoreError::Unavailable(error.to_string()),
        })
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn by_code(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let said = format!("{} (SQLSTATE {code})", error.message());
    match code.as_ref() {
        // Serialization failure, deadlock, lock timeout, statement timeout; and a row that was deleted, once its retention had
        // ended, while it was to be referred to: the next attempt finds it gone.
        "40001" | "40P01" | "55P03" | "57014" | "23503" => return StoreError::Busy(said),
        // Too slow within a transaction: the server ended it.
        "25P03" => return StoreError::Unavailable(said),
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        // Connections; resources (disk full, memory, too many connections); shutdown, crash; I/O errors.
        "08" | "53" | "57" | "58" | "XX" => StoreError::Unavailable(said),
        // Data that no column can hold, violated constraints, program limits.
        "22" | "23" | "54" => StoreError::Rejected(said),
        _ => StoreError::Unusable(format!("{}{said}", advice(&code))),
    }
}

fn advice(code: &str) -> &'static str {
    match code {
        "25006" => "the database is read-only, and Headpond must write: ",
        "42501" => {
            "the database role may not do this; it needs to own the schema `headpond` or to be allowed to make it: "
        }
        "28000" | "28P01" => "the server does not let this user in; check user and password: ",
        "3D000" => "the database must be made first (`createdb`): ",
        _ => "the database can't be used: ",
    }
}
