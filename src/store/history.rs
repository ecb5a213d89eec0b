//! Contents that were replaced and are kept for a while.
//!
//! What is replaced goes into `history` in the transaction that replaces it, where its source keeps such contents; with it the
//! oldest beyond their number go out. [`prune`](super::Store::prune) deletes what is too old, and what a configuration that
//! keeps less has left over.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::columns::{Cells, Record, micros};
use super::plan::Plan;
use super::{StoreError, StoredContent};
use crate::domain::history::History;
use crate::domain::snapshot::decode_headers;

/// A content that was replaced, without its body.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptVersion {
    /// Its version.
    pub version: u64,
    /// Since when it was current.
    pub changed_at: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Whether it was not replaced then, but gone.
    pub is_gone: bool,
    /// Bytes of the body.
    pub size: u64,
    /// All of it but the body, which is empty here.
    pub content: StoredContent,
}

impl KeptVersion {
    /// Of `history`: `version, changed_at, until, gone, size, etag, headers`.
    pub(super) fn of<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "history", "id")?;
        let content = content(&record, bytes::Bytes::new())?;
        Ok(Self {
            version: record.count("version")?,
            changed_at: content.changed_at,
            until: record.time("until")?,
            is_gone: record.integer("gone")? != 0,
            size: record.count("size")?,
            content,
        })
    }
}

/// Of `history`: `changed_at, etag, headers, body`.
pub(super) fn body<R: Cells>(row: &R) -> Result<StoredContent, StoreError> {
    let record = Record::identified_by(row, "history", "id")?;
    let body = record.bytes("body")?;
    content(&record, body)
}

fn content<R: Cells>(record: &Record<'_, R>, body: bytes::Bytes) -> Result<StoredContent, StoreError> {
    let etag = record.maybe_hash("etag")?.ok_or_else(|| record.corrupt("etag", "it is missing"))?;
    let headers = decode_headers(&record.bytes("headers")?)
        .ok_or_else(|| record.corrupt("headers", "these are no header fields"))?;
    Ok(StoredContent { etag, changed_at: record.time("changed_at")?, headers, body })
}

/// What a source keeps of them, as it is stored: versions, and microseconds.
pub(super) fn stored(history: Option<History>) -> (Option<i64>, Option<i64>) {
    let keep = history.map(|history| i64::try_from(history.keep.as_micros()).unwrap_or(i64::MAX));
    (history.map(|history| history.versions.into()), keep)
}

/// The resources of which a plan keeps contents.
pub(super) fn touched(plan: &Plan<'_>) -> Vec<i64> {
    let past = plan.past.iter().map(|(id, _)| id.0);
    plan.replaced.iter().map(|(id, ..)| id.0).chain(past).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The resources whose content a plan replaces, and since when.
pub(super) fn replaced(plan: &Plan<'_>) -> (Vec<i64>, Vec<i64>) {
    plan.replaced.iter().map(|(id, at, _)| (id.0, micros(*at))).unzip()
}
