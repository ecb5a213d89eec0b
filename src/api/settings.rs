//! What the config says about reading. It changes while readers are served: each request is answered by the settings that
//! held when it came.

use std::collections::BTreeSet;

use super::access::Access;
use super::cors::Cors;
use crate::config::Config;
use crate::domain::resource::SourceName;

/// The part of the config that the handlers work by.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The sources of the config: tells an unknown source from an unknown key.
    pub sources: BTreeSet<SourceName>,
    /// Who may read and administer.
    pub access: Access,
    /// Which web pages may.
    pub cors: Cors,
}

impl Settings {
    /// What this config says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let own_tokens = config.sources.iter().map(|source| (&source.name, source.read_tokens.as_slice()));
        Self {
            sources: config.sources.iter().map(|source| source.name.clone()).collect(),
            access: Access::of(&config.server, own_tokens),
            cors: Cors::of(&config.server.cors_origins),
        }
    }
}
