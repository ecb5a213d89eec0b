//! Bodies that were refused, one for each resource: the latest, until something usable comes.

use chrono::{DateTime, Utc};

use super::StoreError;
use super::columns::{Cells, Record};
use crate::domain::refused::Refused;

/// How many such bodies are kept in all, the newest: an upstream that answers every key with a long error page must not
/// fill the disk.
pub const MOST_REFUSED: u32 = 1000;

/// A stored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When it was refused.
    pub at: DateTime<Utc>,
    /// What.
    pub refused: Refused,
}

impl Refusal {
    /// Of `refused`: `resource_id, at, status, content_type, size, body`.
    pub(super) fn of<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "refused", "resource_id")?;
        let refused = Refused {
            status: record.count("status")?,
            content_type: record.maybe_bytes("content_type")?,
            size: record.count("size")?,
            body: record.maybe_bytes("body")?,
        };
        Ok(Self { at: record.time("at")?, refused })
    }
}
