//! SQLite's result codes in the store's words. See <https://www.sqlite.org/rescode.html>.

use crate::store::StoreError;

const ERROR_READONLY: i32 = 8;
const ERROR_CORRUPT: i32 = 11;
const ERROR_CANTOPEN: i32 = 14;
const ERROR_NOTADB: i32 = 26;

/// The primary result code of an error that comes from SQLite itself.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// What a failed statement means for the caller.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    let problem = match error.as_database_error() {
        Some(database) => format!("SQLite: {}", database.message()),
        None => error.to_string(),
    };
    match primary_code(&error) {
        // BUSY, LOCKED.
        Some(5 | 6) => StoreError::Busy(problem),
        // NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN.
        Some(7 | 9 | 10 | 13 | ERROR_CANTOPEN) => StoreError::Unavailable(problem),
        // TOOBIG, CONSTRAINT, MISMATCH.
        Some(18..=20) => StoreError::Rejected(problem),
        Some(_) => StoreError::Unusable(problem),
        None if matches!(error, sqlx::Error::Encode(_)) => StoreError::Rejected(problem),
        // The pool timed out or is closed, or a connection's thread is gone.
        None => StoreError::Unavailable(problem),
    }
}

/// What a failure while the file at `path` is opened means.
pub(super) fn failed_to_open(path: &str, error: sqlx::Error) -> StoreError {
    let advice = match primary_code(&error) {
        Some(ERROR_NOTADB) => "it is not a SQLite database; name another file",
        Some(ERROR_CORRUPT) => "it is damaged; restore it from a backup",
        Some(ERROR_READONLY) => "it is read-only; headpond must be able to write to it and to its directory",
        Some(ERROR_CANTOPEN) => "it can't be opened; check that this user may read and write it and its directory",
        _ => {
            let named = |problem: String| format!("{path}: {problem}");
            return match failed(error) {
                StoreError::Busy(problem) => StoreError::Busy(named(problem)),
                StoreError::Unavailable(problem) => StoreError::Unavailable(named(problem)),
                StoreError::Unusable(problem) => StoreError::Unusable(named(problem)),
                other => other,
            };
        }
    };
    StoreError::Unusable(format!("database.url: {path}: {advice}"))
}
