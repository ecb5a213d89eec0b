//! What was committed: the change feed, and what tells that there is something new.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::change::{Change, Cursor};
use crate::domain::resource::ResourceId;

/// Waits for news in the database.
#[async_trait]
pub trait Follower: Send {
    /// Returns when something was applied or wanted since the last call, by whatever process.
    async fn news(&mut self) -> Result<News, StoreError>;
}

/// What a [`Follower`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something was committed: look at [`Store::applied_since`](super::Store::applied_since) and at what is due.
    Something,
    /// The connection was lost for a while: whatever was cached may be old.
    Resync,
}

/// A page of the change feed.
#[derive(Debug, Clone, PartialEq)]
pub enum Changes {
    /// The entries, and where to go on.
    Page {
        /// In commit order.
        changes: Vec<Change>,
        /// The place after the last of them, or `since` again when there are none.
        next: Cursor,
    },
    /// `since` is older than what is kept, or of another history (a restored backup): start again from the list.
    Unknown,
}

/// What [`Store::applied_since`](super::Store::applied_since) found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedSince {
    /// The newest batch's number.
    pub newest: i64,
    /// The resources that were touched; `None` when batches after `number` have been pruned already.
    pub resources: Option<Vec<ResourceId>>,
    /// Rises with each transaction that can make something due earlier than it was: a wish, keys that are added, revived
    /// or get other parameters, a release, a source that moves to another upstream, an outage that ends. While it stays,
    /// all that was committed are outcomes, and nobody needs to look at what is due. Only a change of it has a meaning.
    pub wishes: i64,
}
