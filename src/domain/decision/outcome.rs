//! What a decision starts from and what it ends with.

use chrono::{DateTime, Utc};
use http::HeaderMap;

use crate::domain::change::ChangeKind;
use crate::domain::failure::{Absence, Failing};
use crate::domain::project::Typed;
use crate::domain::refused::Refused;
use crate::domain::schedule::{Because, Due, Slot};
use crate::domain::snapshot::{ContentHash, Snapshot};
use crate::domain::terms::Terms;
use crate::domain::validators::Validators;

/// What was known of a resource when it was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Previous {
    /// Its place in the interval.
    pub slot: Slot,
    /// Why it was due.
    pub because: Because,
    /// The version of its snapshot; 0 when it never had one.
    pub version: u64,
    /// [`Snapshot::content_hash`] of its snapshot.
    pub content_hash: Option<ContentHash>,
    /// What its snapshot came with.
    pub metadata: Metadata,
    /// Failures in a row.
    pub failures: u32,
    /// When that row of failures began.
    pub failing_since: Option<DateTime<Utc>>,
    /// 404s since the last content.
    pub absence: Option<Absence>,
    /// Since when it is gone.
    pub gone_since: Option<DateTime<Utc>>,
    /// From when on its snapshot is stale.
    pub stale_after: Option<DateTime<Utc>>,
}

impl Previous {
    /// What a key starts with.
    #[must_use]
    pub fn nothing(slot: Slot) -> Self {
        Self {
            slot,
            because: Because::New,
            version: 0,
            content_hash: None,
            metadata: Metadata::default(),
            failures: 0,
            failing_since: None,
            absence: None,
            gone_since: None,
            stale_after: None,
        }
    }

    /// The validators to send. None when there is no snapshot that a 304 could confirm.
    #[must_use]
    pub fn validators(&self) -> Option<&Validators> {
        let can_be_confirmed = self.content_hash.is_some() && self.gone_since.is_none();
        Some(&self.metadata.validators).filter(|validators| can_be_confirmed && !validators.is_empty())
    }
}

/// What the upstream said about a snapshot besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What to ask for changes with.
    pub validators: Validators,
    /// The upstream's max-age in seconds; a 304 without Cache-Control leaves it standing.
    pub max_age: Option<u32>,
    /// The upstream's terms for answering with the copy, where they are respected.
    pub terms: Option<Terms>,
    /// Whether something between the upstream and us changed the content (203).
    pub transformed: bool,
    /// Where the upstream says that the resource is for good; see [`Via::moved_to`](crate::domain::observation::Via::moved_to).
    pub moved_to: Option<String>,
}

/// How fresh a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When the upstream last said that this is its content.
    pub fetched_at: DateTime<Utc>,
    /// From when on it is stale.
    pub stale_after: DateTime<Utc>,
}

/// What follows from an observation.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// New content came: it becomes the snapshot, under the next version, and is announced.
    Replaced(Box<Replacement>),
    /// The upstream said, by 304 or by sending the same again, that the snapshot is still its content.
    Confirmed {
        /// The copy's freshness from now on.
        freshness: Freshness,
        /// Until when no reader can have it asked for again; `None` is no such time.
        kept_until: Option<DateTime<Utc>>,
        /// What is to be rewritten of the bookkeeping: `None` when the schedule alone moves.
        metadata: Option<Metadata>,
        /// Fields that describe the content and came anew: they replace those that are stored (RFC 9111 §3.2).
        described: HeaderMap,
        /// When it is next due.
        due: Due,
    },
    /// A 304 came that can't be about our snapshot: the validators go, so that the next request is unconditional.
    Reset {
        /// When it is next due: at once.
        due: Due,
    },
    /// Nothing usable came. Snapshot and validators stay.
    Deferred(Deferral),
    /// The resource is confirmed to be absent upstream.
    Gone(Absent),
}

/// The content of [`Outcome::Replaced`].
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    /// The new content.
    pub snapshot: Snapshot,
    /// Its rows, where the source has a table.
    pub typed: Option<Typed>,
    /// Its version.
    pub version: u64,
    /// How it is announced.
    pub kind: ChangeKind,
    /// What it came with.
    pub metadata: Metadata,
    /// The copy's freshness.
    pub freshness: Freshness,
    /// Until when no reader can have it asked for again; `None` is no such time.
    pub kept_until: Option<DateTime<Utc>>,
    /// When it is next due.
    pub due: Due,
}

/// The content of [`Outcome::Deferred`].
#[derive(Debug, Clone, PartialEq)]
pub struct Deferral {
    /// The run of failures, this one included.
    pub failing: Failing,
    /// 404s since the last content, this one included.
    pub absence: Option<Absence>,
    /// When it is next tried.
    pub due: Due,
    /// The body that came and was refused. `None` leaves what is kept of an earlier one.
    pub refused: Option<Refused>,
}

/// The content of [`Outcome::Gone`].
#[derive(Debug, Clone, PartialEq)]
pub struct Absent {
    /// Since when it is gone.
    pub since: DateTime<Utc>,
    /// When it is next looked at.
    pub due: Due,
    /// What follows instead if too much of the source would go at once. `None` when nothing goes: it was gone before, or
    /// never had content.
    pub held: Option<Deferral>,
}

impl Outcome {
    /// When the resource is next due.
    #[must_use]
    pub fn due(&self) -> Due {
        match self {
            Self::Replaced(replacement) => replacement.due,
            Self::Confirmed { due, .. } | Self::Reset { due } => *due,
            Self::Deferred(deferral) => deferral.due,
            Self::Gone(absent) => absent.due,
        }
    }

    /// The same where nobody polls the resource: what would be due later waits for a reader.
    #[must_use]
    pub(super) fn put_aside(mut self, now: DateTime<Utc>) -> Self {
        match &mut self {
            Self::Replaced(replacement) => replacement.due = replacement.due.put_aside(now),
            Self::Confirmed { due, .. } => *due = due.put_aside(now),
            // That request is not yet over.
            Self::Reset { .. } => {}
            Self::Deferred(deferral) => deferral.due = deferral.due.put_aside(now),
            Self::Gone(absent) => {
                absent.due = absent.due.put_aside(now);
                if let Some(held) = &mut absent.held {
                    held.due = held.due.put_aside(now);
                }
            }
        }
        self
    }
}
