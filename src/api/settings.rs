//! What the config says about reading. It changes while readers are served: each request is answered by the settings that
//! held when it came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::cors::Cors;
use crate::config::{Config, OnDemand, Source};
use crate::domain::resource::SourceName;

/// The part of the config that the handlers work by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sources of the config: tells an unknown source from an unknown key.
    pub sources: BTreeSet<SourceName>,
    /// How their keys are asked for.
    pub asked: BTreeMap<SourceName, Arc<Source>>,
    /// Who may read and administer.
    pub access: Access,
    /// How long a request may take to be answered.
    pub request_timeout: Duration,
    /// Answers that go on for long, at the same time.
    pub max_streams: usize,
    /// Which web pages may.
    pub cors: Cors,
    /// Whether upstreams are asked at all: where they aren't, nobody waits for them.
    pub upstreams: Upstreams,
}

/// Whether upstreams are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstreams {
    /// By the schedule, and when someone wants it.
    Asked,
    /// Never: what the database has is all that there is.
    LeftAlone,
}

impl Settings {
    /// What this config says.
    #[must_use]
    pub fn of(config: &Config, upstreams: Upstreams) -> Self {
        let own_tokens = config.sources.iter().map(|source| (&source.name, source.read_tokens.as_slice()));
        Self {
            sources: config.sources.iter().map(|source| source.name.clone()).collect(),
            asked: config.sources.iter().map(|source| (source.name.clone(), Arc::new(source.clone()))).collect(),
            access: Access::of(&config.server, own_tokens),
            request_timeout: config.server.request_timeout,
            max_streams: config.server.max_streams,
            cors: Cors::of(&config.server.cors_origins),
            upstreams,
        }
    }

    /// A source whose readers may ask for other keys than are listed, and how these come and go. Where upstreams are left alone,
    /// there is none.
    #[must_use]
    pub fn on_demand(&self, source: &SourceName) -> Option<(&Arc<Source>, &OnDemand)> {
        let source = self.asked.get(source).filter(|_| self.upstreams == Upstreams::Asked)?;
        Some((source, source.on_demand.as_ref()?))
    }

    /// Whether a source's keys are refreshed by schedule.
    #[must_use]
    pub fn is_polled(&self, source: &SourceName) -> bool {
        let is_polled = |source: &Arc<Source>| source.policy.cadence.is_polled();
        self.upstreams == Upstreams::LeftAlone || self.asked.get(source).is_none_or(is_polled)
    }

    /// The longest that a reader may wait for a better copy: what a request may take, less what is kept for the answer once
    /// the wait is over, a tenth or a second at the most.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        if self.upstreams == Upstreams::LeftAlone {
            return Duration::ZERO;
        }
        self.request_timeout.saturating_sub((self.request_timeout / 10).min(Duration::from_secs(1)))
    }
}
