//! What the config says about reading. It changes while readers are served: each request is answered by the settings that
//! held when it came.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::domain::resource::SourceName;

/// The part of the config that the handlers work by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sources of the config: tells an unknown source from an unknown key.
    pub sources: BTreeSet<SourceName>,
}

impl Settings {
    /// What this config says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { sources: config.sources.iter().map(|source| source.name.clone()).collect() }
    }
}
