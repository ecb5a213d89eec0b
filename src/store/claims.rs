//! What workers ask for, and what they get.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::decision::Previous;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::governor::Wait;
use crate::domain::resource::{Key, LeaseToken, Params, ResourceId, SourceId, UpstreamId};
use crate::domain::schedule::Due;

/// A set of resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All that are polled.
    All,
    /// All of these sources.
    Sources(Vec<SourceId>),
    /// These.
    Resources(Vec<ResourceId>),
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Who asks: the process and a random part, for people who look at the table.
    pub worker: String,
    /// Of which upstream.
    pub upstream: UpstreamId,
    /// How many requests at the most.
    pub at_most: u32,
    /// Of which resources.
    pub which: Selection,
    /// Only what was due by then; `None` is the time of the claim.
    pub due_by: Option<DateTime<Utc>>,
    /// How long the lease lasts.
    pub lease_for: Duration,
    /// The sources of which one request asks for many keys.
    pub together: Together,
}

/// How many keys one request asks for at the most, by source; one, of those that are not in it.
pub type Together = BTreeMap<SourceId, u32>;

/// What a worker got.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The resources, in the order in which to fetch them.
    pub claims: Vec<Claim>,
    /// When it is worth asking again if nothing else happens: the next token, the next due time, or the next expiry of a
    /// lease, of this upstream or of another from which a source may have moved. `None` when nothing is due ever.
    pub ask_again_at: Option<DateTime<Utc>>,
    /// What holds something up that is due, beside rate and concurrency.
    pub wait: Option<Wait>,
}

/// One leased resource.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The lease.
    pub token: LeaseToken,
    /// The resource.
    pub resource: ResourceId,
    /// Its source.
    pub source: SourceId,
    /// What the source asks for by the configuration that holds; `None` when that was never said.
    pub fingerprint: Option<Fingerprint>,
    /// Its key.
    pub key: Key,
    /// Values for its URL template.
    pub params: Params,
    /// What is known of it.
    pub previous: Previous,
    /// Why and since when it was due.
    pub due: Due,
    /// When its token was taken.
    pub granted_at: DateTime<Utc>,
    /// The resource in whose request it is asked for, and whose token pays for it: itself, where it has a request of its own.
    pub rides_with: ResourceId,
    /// Since when it was wanted. A request under this claim begins after that, whatever the clocks of two processes say.
    pub wanted_at: Option<DateTime<Utc>>,
}

/// What is left to do; see [`Store::backlog`](super::Store::backlog).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Due and free.
    pub waiting: u64,
    /// Due and leased.
    pub leased: u64,
}
