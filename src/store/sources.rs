//! What the store is told of the configuration's sources.

use super::StoreError;
use crate::config;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::history::History;
use crate::domain::limit::Limits;
use crate::domain::resource::{SourceId, SourceName, UpstreamId};

/// Whether a caller's configuration is the one that holds. The `serve` that was started last owns it; other processes beside
/// it may add keys, and change nothing that it has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// What is stored becomes what the caller says: limits, the upstreams of sources, the parameters of keys.
    Owns,
    /// Only missing keys are added.
    Adds,
}

/// One source as the config describes it, for [`Store::register`](super::Store::register).
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// Its name.
    pub name: SourceName,
    /// The name of its upstream.
    pub upstream: String,
    /// The limits of that upstream.
    pub limits: Limits,
    /// What it asks for.
    pub fingerprint: Fingerprint,
    /// Whether its resources come with walks: then they are not due by themselves.
    pub is_walked: bool,
    /// What is kept of contents that were replaced.
    pub history: Option<History>,
    /// Whether what is gone upstream is erased.
    pub erase_gone: bool,
}

impl SourceSpec {
    /// A source of the config, with its upstream.
    #[must_use]
    pub fn of(source: &config::Source, upstream: &config::Upstream) -> Self {
        Self {
            name: source.name.clone(),
            upstream: source.upstream.clone(),
            limits: upstream.limits,
            fingerprint: source.fingerprint(),
            is_walked: source.collection.is_some(),
            history: source.history,
            erase_gone: source.erase_gone,
        }
    }
}

/// A source's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// The source's.
    pub source: SourceId,
    /// Its upstream's.
    pub upstream: UpstreamId,
}

/// What [`Store::add_keys`](super::Store::add_keys) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeysChanged {
    /// Keys that were not there.
    pub added: u64,
    /// Keys that are polled again.
    pub revived: u64,
    /// Keys whose parameters are others now.
    pub updated: u64,
}

/// The error of [`Authority::Adds`] for a source that isn't there.
pub(super) fn no_such_source(name: &SourceName) -> StoreError {
    StoreError::Unusable(format!(
        "source `{name}` is not in the database: the running `serve` does not have it; reload or restart `serve` with \
         this configuration, or stop it first"
    ))
}

/// With [`Authority::Adds`], a source must be asked as its owner asks it: else each would take the other's answers for news.
pub(super) fn check_fingerprint(source: &SourceSpec, stored: Option<i64>) -> Result<(), StoreError> {
    if stored.is_none_or(|stored| Fingerprint(stored) == source.fingerprint) {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "source `{}`: the running `serve` asks with another url, other headers or another ignore_changes_in; reload or \
         restart `serve` with this configuration, or stop it first",
        source.name
    )))
}
