//! The pages of a collection's walk, as they are stored.

use chrono::{DateTime, Utc};

use super::WalkLease;
use crate::domain::collection::{Item, Remembered, UnderWay};
use crate::domain::decision::Freshness;
use crate::domain::governor::{Heard, Signal, Turn};
use crate::domain::resource::ResourceId;

/// A page to store.
#[derive(Debug, Clone)]
pub struct WalkPage {
    /// Under which lease.
    pub lease: WalkLease,
    /// Until when it is held from now on.
    pub lease_until: DateTime<Utc>,
    /// The number of the walk.
    pub number: i64,
    /// Whether the walk looks at all members: then the page is remembered, and its members count as seen.
    pub is_of_all: bool,
    /// Which page of the walk it is, from 0.
    pub place: u32,
    /// How far the walk has come with it; `None` ends the walk here, without a result.
    pub under_way: Option<UnderWay>,
    /// What came.
    pub content: PageContent,
    /// How fresh its members are.
    pub freshness: Freshness,
    /// When that was decided.
    pub decided_at: DateTime<Utc>,
    /// What the answer says about the upstream.
    pub signal: Signal,
}

impl WalkPage {
    /// The signal, with the walk that it came to.
    pub(super) fn heard(&self) -> Heard {
        Heard { lease: self.lease.token, resource: self.lease.walk, signal: self.signal }
    }
}

/// What came of a page.
#[derive(Debug, Clone)]
pub enum PageContent {
    /// Its items. What is to be remembered of it, if anything is.
    Items(Vec<Item>, Option<Remembered>),
    /// It is as it was remembered.
    Same,
}

/// What became of a page's members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// Members with their first content, or that are back.
    pub new: u64,
    /// Members with other content than before.
    pub changed: u64,
    /// Members with the same.
    pub unchanged: u64,
}

impl Brought {
    /// Counts another page's.
    pub fn add(&mut self, more: Self) {
        self.new += more.new;
        self.changed += more.changed;
        self.unchanged += more.unchanged;
    }
}

/// What became of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageFate {
    /// It is stored: what became of its members, which resources were touched, and what changed for the upstream.
    Stored(Brought, Vec<ResourceId>, Vec<Turn>),
    /// It is said to be as it was, but not all of its members are there any more. Nothing was stored, and the page is no longer
    /// remembered.
    Forgotten,
    /// The lease no longer held the walk: nothing was stored.
    LeaseLost,
}
