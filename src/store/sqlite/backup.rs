//! A consistent copy of the file, taken while others write.

use std::fs::File;
use std::io;
use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use super::SqliteStore;
use super::error::failed;
use crate::store::StoreError;

/// Everything as one read transaction sees it, in a file of its own. Writers go on beside it: what they write meanwhile stays
/// in the log until it is done.
pub(super) const COPY: &str = "VACUUM INTO ?1";

impl SqliteStore {
    /// The copy is made under another name in the same directory and is on the disk before it gets its own: whatever
    /// happens, there is a whole backup of that name or none.
    pub(super) async fn copy_to(&self, file: &Path) -> Result<u64, StoreError> {
        let at = |problem: String| format!("{}: {problem}", file.display());
        let failed_at = |error: io::Error| StoreError::Unavailable(at(error.to_string()));
        if same_file(file, self.file.get_filename()) {
            return Err(StoreError::Rejected(at("it is the database itself; name another file".into())));
        }
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let copy = tempfile::Builder::new().prefix(".headpond-backup-").tempfile_in(directory).map_err(failed_at)?;
        let path = copy.path().to_str().ok_or_else(|| StoreError::Rejected(at("its path is not UTF-8".into())))?;

        let options = self.file.clone().create_if_missing(false).read_only(false);
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let copied = sqlx::query(COPY).bind(path).execute(&mut connection).await.map_err(failed);
        connection.close().await.map_err(failed)?;
        copied.map_err(|error| StoreError::Unavailable(at(error.to_string())))?;

        let size = copy.as_file().metadata().map_err(failed_at)?.len();
        copy.as_file().sync_all().map_err(failed_at)?;
        copy.persist(file).map_err(|error| failed_at(error.error))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed_at)?;
        Ok(size)
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
