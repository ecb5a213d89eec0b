//! What is sent to webhooks.
//!
//! Each webhook has a place in the change feed, and a queue of what could not be delivered. While all goes well the queue is
//! empty, and a delivery writes one row. A change whose delivery fails goes into the queue, and all that come of the same
//! resource go there behind it, so that the place can move on: the changes of a resource stay in their order, and one that
//! fails holds up no other. What is in the queue does not depend on how long the feed is kept.
//!
//! The alternative, a row for each change and webhook, would write each change once more for each of them on good days.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::StoreError;
use super::columns::{Cells, Record};
use crate::domain::change::{Change, Cursor};
use crate::domain::resource::{Key, SourceName};
use crate::domain::webhook::Attempts;

/// What a webhook's sender finds.
#[derive(Debug, Clone, PartialEq)]
pub enum ToSend {
    /// Nothing, before then or before the feed grows. It was only looked at: most of what is committed is for no webhook.
    Nothing(Option<DateTime<Utc>>),
    /// This, as long as nobody else sends.
    Outbox(Outbox),
    /// Another worker sends, or nothing is sent any more.
    NotOurs,
}

/// What a webhook's sender has before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbox {
    /// Its place in the feed.
    pub cursor: Cursor,
    /// Failures in a row.
    pub failures: u32,
    /// The first of the queue whose time has come.
    pub due: Option<Queued>,
    /// The resources that have something in the queue.
    pub failing: HashSet<(SourceName, Key)>,
}

/// Something in the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Its row.
    pub id: i64,
    /// The change; `None` tells the endpoint to start from the list.
    pub change: Option<Change>,
    /// How it fares; `None` before its first attempt.
    pub attempts: Option<Attempts>,
}

/// Of a row that says until when there is nothing to send.
pub(super) fn nothing<R: Cells>(row: &R) -> Result<ToSend, StoreError> {
    Ok(ToSend::Nothing(Record::of(row, "webhook", 0).maybe_time("until")?))
}

impl Queued {
    /// Of `webhook_queue`: `id, source, key, number, tag, kind, version, at, attempts, failing_since`.
    pub(super) fn of<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "webhook_queue", "id")?;
        let is_change = !record.text("source")?.is_empty();
        let change = Record::identified_by(row, "webhook_queue", "number")?;
        let since = record.maybe_time("failing_since")?;
        let count = record.count("attempts")?;
        Ok(Self {
            id: record.id(),
            change: if is_change { Some(change.change()?) } else { None },
            attempts: since.map(|since| Attempts { count, since }),
        })
    }
}

/// What to add to the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Enqueued {
    /// As [`Queued::change`].
    pub change: Option<Change>,
    /// How it fares, and when it is sent; `None` for what is behind another change of its resource.
    pub due: Option<(Option<Attempts>, DateTime<Utc>)>,
}

/// What a sender has done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sent {
    /// Its place in the feed now, if it moved.
    pub cursor: Option<Cursor>,
    /// What of the queue was delivered.
    pub taken: Option<i64>,
    /// What of the queue is sent again, and when.
    pub put_off: Option<(i64, Attempts, DateTime<Utc>)>,
    /// What is in the queue from now on.
    pub enqueued: Vec<Enqueued>,
    /// How many were delivered.
    pub delivered: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is sent before.
    pub paused_until: Option<DateTime<Utc>>,
    /// What was wrong, if anything was.
    pub error: Option<String>,
    /// Whether nothing is sent any more.
    pub is_dead: bool,
}

/// How a webhook stands.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookState {
    /// Its name.
    pub name: String,
    /// How many messages its endpoint has taken.
    pub delivered: u64,
    /// Entries of the feed that it has not got to; those it does not want are among them.
    pub behind: u64,
    /// What its endpoint has not taken.
    pub queued: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is sent before.
    pub paused_until: Option<DateTime<Utc>>,
    /// Nothing is sent since then, until it is resumed.
    pub dead_since: Option<DateTime<Utc>>,
    /// What was wrong last, and when.
    pub error: Option<(String, DateTime<Utc>)>,
}

impl WebhookState {
    /// Of `webhook`: `name, delivered, behind, queued, failures, paused_until, dead_since, error, error_at`.
    pub(super) fn of<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::of(row, "webhook", 0);
        Ok(Self {
            name: record.text("name")?,
            delivered: record.count("delivered")?,
            behind: record.count("behind")?,
            queued: record.count("queued")?,
            failures: record.count("failures")?,
            paused_until: record.maybe_time("paused_until")?,
            dead_since: record.maybe_time("dead_since")?,
            error: record.maybe_text("error")?.zip(record.maybe_time("error_at")?),
        })
    }
}

/// A row of `webhook_queue` as it is written: `source, key, number, tag, kind, version, at`.
pub(super) type Row<'a> = (&'a str, &'a str, i64, i64, &'static str, i64, i64);

/// As it is written.
pub(super) fn row(change: Option<&Change>) -> Row<'_> {
    match change {
        Some(change) => (
            change.source.as_str(),
            change.key.as_str(),
            change.cursor.number,
            change.cursor.tag.into(),
            change.kind.as_str(),
            i64::try_from(change.version).unwrap_or(i64::MAX),
            change.at.timestamp_micros(),
        ),
        None => ("", "", 0, 0, "", 0, 0),
    }
}
