//! What a look at every resource finds.

use super::StoreError;
use super::columns::{Cells, Record};
use crate::domain::resource::SourceName;

/// What [`Store::survey`](super::Store::survey) found of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Its name.
    pub name: SourceName,
    /// The name of its upstream.
    pub upstream: String,
    /// Its keys, those that are no longer polled included.
    pub keys: u64,
    /// Keys with content.
    pub copies: u64,
    /// Keys with content that is fresh.
    pub fresh: u64,
    /// Keys that had content and have none now. As long as the guarantees hold there are none.
    pub lost: u64,
}

impl Surveyed {
    /// From a row of either database.
    pub(super) fn of<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let source = Record::identified_by(row, "source", "id")?;
        Ok(Self {
            name: source.source_name("name")?,
            upstream: source.text("upstream")?,
            keys: source.count("keys")?,
            copies: source.count("copies")?,
            fresh: source.count("fresh")?,
            lost: source.count("lost")?,
        })
    }
}
