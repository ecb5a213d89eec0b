//! Many resources of a source at once: pages in the order of keys, and batches of named keys.
//!
//! Both databases answer the same few questions ([`Snapshot`]) within one transaction, so that all of an answer is of one
//! moment; what is asked, in which order and how much, is decided here.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::StoreError;
use super::columns::{Cells, Record};
use crate::domain::decision::Freshness;
use crate::domain::failure::Failing;
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, ResourceId};
use crate::domain::snapshot::{ContentHash, decode_headers};
use crate::domain::terms::Terms;

/// Rows that are read at once when the first ones had too few that belong on the page.
const CHUNK: u32 = 1_000;

/// Rows that one page looks at, at the most: it can end before it is full, but never takes long.
pub const MOST_SCANNED: u32 = 10_000;

/// Which part of a source to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys after this one, in the order of their UTF-8 bytes.
    pub after: Option<Key>,
    /// How many at the most; at least 1.
    pub limit: u32,
    /// Only those that are in this state at that time.
    pub state: Option<(ReadState, DateTime<Utc>)>,
    /// Whether their bodies come too.
    pub bodies: Bodies,
}

/// Whether an answer has bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// It has none.
    LeftOut,
    /// So many bytes of them, and one at least: what goes beyond is left for another answer.
    UpTo(u64),
}

/// A page of a source: of its keys that are polled.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// In the order of keys.
    pub items: Vec<Listed>,
    /// After which key to go on; `None` at the end. A page that is short, or empty, need not be the last one.
    pub next: Option<Key>,
}

/// The resources under keys that were named.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// In the order in which they were named.
    pub items: Vec<Listed>,
    /// Keys that there are none for.
    pub absent: Vec<Key>,
    /// Keys whose bodies would have been too many bytes: to be asked for again.
    pub rest: Vec<Key>,
}

/// A resource as it stands among others.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its id.
    pub resource: ResourceId,
    /// Its key.
    pub key: Key,
    /// The snapshot's version; 0 when there never was one.
    pub version: u64,
    /// Its freshness; `None` when there never was a snapshot.
    pub freshness: Option<Freshness>,
    /// Since when it is gone.
    pub gone_since: Option<DateTime<Utc>>,
    /// The upstream's terms for answering with it; `None` where it is always answered.
    pub terms: Option<Terms>,
    /// The run of failures that it is in.
    pub failing: Option<Failing>,
    /// The snapshot; `None` when there never was one.
    pub content: Option<ListedContent>,
}

/// A snapshot, perhaps without its body.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedContent {
    /// Our strong ETag.
    pub etag: ContentHash,
    /// When this content was first seen.
    pub changed_at: DateTime<Utc>,
    /// Kept header fields.
    pub headers: HeaderMap,
    /// The body; `None` when it was not asked for, or the resource is gone.
    pub body: Option<Bytes>,
}

/// A resource without its content, as it is scanned.
pub(super) struct Row {
    id: i64,
    key: Key,
    version: u64,
    freshness: Option<Freshness>,
    gone_since: Option<DateTime<Utc>>,
    terms: Option<Terms>,
    failing: Option<Failing>,
    is_retired: bool,
}

impl Row {
    /// Of `resource`: `id, key, version, gone_since, retired_at, terms`, and what tells its failures; of `schedule`:
    /// `fetched_at, stale_after`.
    pub(super) fn of<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let resource = Record::identified_by(row, "resource", "id")?;
        Ok(Self {
            id: resource.id(),
            key: resource.key("key")?,
            version: resource.count("version")?,
            freshness: Record::of(row, "schedule", resource.id()).freshness()?,
            gone_since: resource.maybe_time("gone_since")?,
            terms: resource.terms()?,
            failing: resource.failing()?,
            is_retired: resource.maybe_integer("retired_at")?.is_some(),
        })
    }

    /// Whether it belongs on a page of resources in this state.
    fn is_listed(&self, state: Option<(ReadState, DateTime<Utc>)>) -> bool {
        !self.is_retired
            && state.is_none_or(|(state, now)| ReadState::of(self.gone_since, self.freshness, now) == state)
    }

    /// Whether a reader of this key alone would be told that there is none: it was retired before it was ever fetched.
    fn is_unknown(&self) -> bool {
        self.is_retired && self.freshness.is_none() && self.gone_since.is_none()
    }
}

/// What is known of a body before it is read.
pub(super) struct Described {
    content: ListedContent,
    bytes: u64,
}

impl Described {
    /// Of `content`: `resource_id, etag, changed_at, headers`, and the body's length as `bytes`.
    pub(super) fn of<R: Cells>(row: &R) -> Result<(i64, Self), StoreError> {
        let record = Record::identified_by(row, "content", "resource_id")?;
        let etag = record.maybe_hash("etag")?.ok_or_else(|| record.corrupt("etag", "it is missing"))?;
        let headers = decode_headers(&record.bytes("headers")?)
            .ok_or_else(|| record.corrupt("headers", "these are no header fields"))?;
        let content = ListedContent { etag, changed_at: record.time("changed_at")?, headers, body: None };
        Ok((record.id(), Self { content, bytes: record.count("bytes")? }))
    }
}

/// Of `content`: `resource_id, body`.
pub(super) fn body<R: Cells>(row: &R) -> Result<(i64, Bytes), StoreError> {
    let record = Record::identified_by(row, "content", "resource_id")?;
    Ok((record.id(), record.bytes("body")?))
}

/// One moment of the database.
#[async_trait]
pub(super) trait Snapshot: Send {
    /// The resources of a source with keys after this text, retired ones too, in the order of keys, at most so many.
    async fn after(&mut self, source: i64, key: &str, at_most: u32) -> Result<Vec<Row>, StoreError>;

    /// The resources of a source with these keys, in any order, retired or not.
    async fn named(&mut self, source: i64, keys: &[Key]) -> Result<Vec<Row>, StoreError>;

    /// The contents of these resources, without their bodies.
    async fn described(&mut self, ids: &[i64]) -> Result<HashMap<i64, Described>, StoreError>;

    /// The bodies of these resources.
    async fn bodies(&mut self, ids: &[i64]) -> Result<HashMap<i64, Bytes>, StoreError>;
}

/// A page of a source.
pub(super) async fn page(
    snapshot: &mut impl Snapshot,
    source: i64,
    request: &ListRequest,
) -> Result<Listing, StoreError> {
    let (rows, next) = scan(snapshot, source, request).await?;
    let (items, cut) = filled(snapshot, rows, request.bodies).await?;
    let last = items.last().map(|item| item.key.clone());
    Ok(Listing { items, next: if cut.is_empty() { next } else { last } })
}

/// The rows of a page, and after which key to go on.
async fn scan(
    snapshot: &mut impl Snapshot,
    source: i64,
    request: &ListRequest,
) -> Result<(Vec<Row>, Option<Key>), StoreError> {
    // One more than wanted tells whether there is more.
    let wanted = request.limit.max(1);
    let mut chunk = wanted.saturating_add(1);
    let mut kept: Vec<Row> = Vec::new();
    let mut place = request.after.clone();
    let mut scanned = 0;
    loop {
        let rows = snapshot.after(source, place.as_ref().map_or("", Key::as_str), chunk).await?;
        let is_last = rows.len() < chunk as usize;
        for row in rows {
            place = Some(row.key.clone());
            if !row.is_listed(request.state) {
                continue;
            }
            if kept.len() == wanted as usize {
                let last = kept.last().map(|row| row.key.clone());
                return Ok((kept, last));
            }
            kept.push(row);
        }
        scanned += chunk;
        chunk = CHUNK;
        if is_last || scanned + CHUNK > MOST_SCANNED {
            return Ok((kept, place.filter(|_| !is_last)));
        }
    }
}

/// The resources with these keys, which are all different.
pub(super) async fn batch(
    snapshot: &mut impl Snapshot,
    source: i64,
    keys: &[Key],
    bodies: Bodies,
) -> Result<Batch, StoreError> {
    let named = snapshot.named(source, keys).await?.into_iter().filter(|row| !row.is_unknown());
    let mut found: HashMap<Key, Row> = named.map(|row| (row.key.clone(), row)).collect();
    let absent = keys.iter().filter(|key| !found.contains_key(*key)).cloned().collect();
    let rows = keys.iter().filter_map(|key| found.remove(key)).collect();
    let (items, cut) = filled(snapshot, rows, bodies).await?;
    Ok(Batch { items, absent, rest: cut.into_iter().map(|row| row.key).collect() })
}

/// Rows with their contents, and those that were cut off because there are enough bytes.
async fn filled(
    snapshot: &mut impl Snapshot,
    mut rows: Vec<Row>,
    bodies: Bodies,
) -> Result<(Vec<Listed>, Vec<Row>), StoreError> {
    let mut described = snapshot.described(&rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    let mut cut = Vec::new();
    let mut texts = HashMap::new();
    if let Bodies::UpTo(most) = bodies {
        cut = rows.split_off(fitting(&rows, &described, most));
        let with_body: Vec<i64> = rows.iter().filter(|row| row.gone_since.is_none()).map(|row| row.id).collect();
        texts = snapshot.bodies(&with_body).await?;
    }
    let items = rows.into_iter().map(|row| {
        let content = described.remove(&row.id).map(|described| described.content);
        if row.freshness.is_some() && row.gone_since.is_none() && content.is_none() {
            let problem = "the resource has freshness but no content".into();
            return Err(StoreError::Corrupt { table: "content", column: "resource_id", row: row.id, problem });
        }
        let content = content.map(|content| ListedContent { body: texts.remove(&row.id), ..content });
        let Row { id, key, version, freshness, gone_since, terms, failing, .. } = row;
        Ok(Listed { resource: ResourceId(id), key, version, freshness, gone_since, terms, failing, content })
    });
    Ok((items.collect::<Result<_, _>>()?, cut))
}

/// How many rows may show their bodies.
fn fitting(rows: &[Row], described: &HashMap<i64, Described>, most: u64) -> usize {
    let mut bytes = 0_u64;
    let fits = |row: &&Row| {
        let body = described.get(&row.id).filter(|_| row.gone_since.is_none()).map_or(0, |content| content.bytes);
        let is_first = bytes == 0;
        bytes = bytes.saturating_add(body);
        body == 0 || is_first || bytes <= most
    };
    rows.iter().take_while(fits).count()
}
