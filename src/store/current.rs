//! A resource as a reader sees it.

use chrono::{DateTime, Utc};
use http::HeaderMap;

use crate::domain::decision::Freshness;
use crate::domain::failure::Failing;
use crate::domain::resource::ResourceId;
use crate::domain::schedule::Due;
use crate::domain::snapshot::ContentHash;
use crate::domain::terms::Terms;
use crate::domain::validators::Validators;

/// What a reader sees of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The resource.
    pub resource: ResourceId,
    /// The snapshot's version; 0 when there never was one.
    pub version: u64,
    /// The snapshot; `None` when there never was one.
    pub content: Option<StoredContent>,
    /// Its freshness; `None` when there never was a snapshot.
    pub freshness: Option<Freshness>,
    /// The upstream's validators.
    pub validators: Validators,
    /// Since when it is gone.
    pub gone_since: Option<DateTime<Utc>>,
    /// Since when nothing may be kept of it.
    pub erased_at: Option<DateTime<Utc>>,
    /// The run of failures that it is in.
    pub failing: Option<Failing>,
    /// When it is next due; `None` when it is retired.
    pub due: Option<Due>,
    /// Since when it is wanted by someone for whom no outcome has come yet.
    pub wanted_at: Option<DateTime<Utc>>,
    /// When a reader last waited for it.
    pub hastened_at: Option<DateTime<Utc>>,
    /// Until when it is being fetched.
    pub leased_until: Option<DateTime<Utc>>,
    /// The walk that it comes with, if it is a member of a collection: `failing`, `due`, `wanted_at` and `leased_until` are
    /// the walk's then.
    pub walk: Option<WalkOf>,
    /// The upstream's terms for answering with it; `None` where it is always answered.
    pub terms: Option<Terms>,
    /// Whether something between the upstream and us changed the content (203).
    pub transformed: bool,
    /// Where the upstream says that the resource is for good.
    pub moved_to: Option<String>,
}

/// The walk of a collection's member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkOf {
    /// The walk's own resource: what is wanted and waited for in the member's place.
    pub walk: ResourceId,
    /// When a walk was complete last.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Current {
    /// What is to be wanted and waited for, so that this is refreshed: the resource itself, or the walk that it comes with; and
    /// when that was last fetched.
    #[must_use]
    pub fn comes_with(&self) -> (ResourceId, Option<DateTime<Utc>>) {
        match self.walk {
            Some(walk) => (walk.walk, walk.ended_at),
            None => (self.resource, self.freshness.map(|freshness| freshness.fetched_at)),
        }
    }
}

/// A stored snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredContent {
    /// Our strong ETag.
    pub etag: ContentHash,
    /// When this content was first seen.
    pub changed_at: DateTime<Utc>,
    /// Kept header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: bytes::Bytes,
}
