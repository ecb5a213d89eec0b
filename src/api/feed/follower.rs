//! Someone on the way through the feed.

use chrono::{DateTime, Utc};

use crate::api::ApiState;
use crate::api::access::Reader;
use crate::api::error::ApiError;
use crate::domain::change::{Change, Cursor};
use crate::domain::resource::SourceName;
use crate::store::Changes;

/// Entries that are read at once when some of them may be for others.
const CHUNK: u32 = 1_000;

/// Entries that one look reads, at the most: it can end before it has found enough, but never takes long.
const MOST_READ: u32 = 10_000;

/// Where a reader is in the feed, and what he sees of it.
pub(super) struct Follower {
    api: ApiState,
    reader: Reader,
    /// The only source that he wants to hear of.
    source: Option<SourceName>,
    place: Option<Cursor>,
}

/// What a look at the feed found.
pub(super) struct Look {
    /// In commit order.
    pub(super) changes: Vec<Change>,
    /// Where to go on.
    pub(super) place: Cursor,
    /// Whether there was nothing after `place`.
    pub(super) is_at_the_end: bool,
}

impl Look {
    /// Leaves out what comes from there on; there must be something before.
    pub(super) fn cut_at(&mut self, index: usize) {
        self.changes.truncate(index);
        if let Some(last) = self.changes.last() {
            self.place = last.cursor;
        }
        self.is_at_the_end = false;
    }
}

impl Follower {
    pub(super) fn new(api: &ApiState, reader: Reader, source: Option<SourceName>, place: Option<Cursor>) -> Self {
        Self { api: api.clone(), reader, source, place }
    }

    /// The next changes that he sees, at most so many, and goes on behind them.
    pub(super) async fn look(&mut self, limit: u32) -> Result<Look, ApiError> {
        let mut seen = Vec::new();
        let mut read = 0;
        loop {
            let chunk = if self.source.is_none() && read == 0 { limit } else { CHUNK };
            let Changes::Page { changes, next } = self.api.store.changes(self.place, chunk).await? else {
                return Err(ApiError::UnknownCursor);
            };
            let is_at_the_end = changes.len() < chunk as usize;
            for change in changes {
                if !self.sees(&change) {
                    continue;
                }
                let place = change.cursor;
                seen.push(change);
                if seen.len() == limit as usize {
                    self.place = Some(place);
                    return Ok(Look { changes: seen, place, is_at_the_end: false });
                }
            }
            self.place = Some(next);
            read += chunk;
            if is_at_the_end || read >= MOST_READ {
                return Ok(Look { changes: seen, place: next, is_at_the_end });
            }
        }
    }

    /// The same, but not before there is something, or `deadline` has come, or this process should end.
    pub(super) async fn wait_for(&mut self, limit: u32, deadline: DateTime<Utc>) -> Result<Look, ApiError> {
        // Listening begins before the first look, so that nothing falls between the two.
        let mut growth = self.api.growth();
        loop {
            let look = self.look(limit).await?;
            if !(look.changes.is_empty() && look.is_at_the_end) {
                return Ok(look);
            }
            tokio::select! {
                biased;
                () = growth.next() => {}
                () = self.api.no_longer(deadline) => return Ok(look),
            }
        }
    }

    /// Goes on from there.
    pub(super) fn go_on_from(&mut self, place: Cursor) {
        self.place = Some(place);
    }

    fn sees(&self, change: &Change) -> bool {
        self.source.as_ref().is_none_or(|source| *source == change.source) && self.reader.sees(&change.source)
    }
}
