//! What a source's config says about deciding.

use std::time::Duration;

use super::content::JsonPath;
use super::schedule::{Backoff, Cadence};

/// The freshness contract of a source and its rules for failures.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How often it is refreshed.
    pub cadence: Cadence,
    /// The most that is added at random to each regular due time.
    pub jitter: Duration,
    /// From which age on a copy is stale; `None` is twice the effective interval.
    pub stale_after: Option<Duration>,
    /// The most that an upstream's own freshness lifetime can delay a refresh.
    pub freshness_cap: Duration,
    /// How failures push the next attempt back.
    pub backoff: Backoff,
    /// The longest Retry-After that is obeyed.
    pub retry_after_cap: Duration,
    /// When a 404 means gone.
    pub gone: GoneRules,
    /// Parts of the body whose changes don't count.
    pub ignore_changes_in: Vec<JsonPath>,
}

/// When an absent resource is gone rather than failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoneRules {
    /// So many 404s in a row …
    pub after: u32,
    /// … over at least this long.
    pub window: Duration,
    /// How often a gone resource is looked at again.
    pub recheck: Duration,
}
