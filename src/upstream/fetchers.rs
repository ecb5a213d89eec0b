//! The fetcher of each upstream.

use std::collections::HashMap;
use std::sync::Arc;

use super::client::{BadClient, Clients};
use super::fetch::Fetcher;
use crate::clock::Clock;
use crate::config::{Config, Transport};

/// One [`Fetcher`] for each upstream of a config. Those with the same transport share their connections; access tokens belong to
/// one.
#[derive(Debug, Clone)]
pub struct Fetchers {
    by_upstream: Arc<HashMap<String, Fetcher>>,
    /// For what the config doesn't have: without credentials.
    plain: Fetcher,
}

impl Fetchers {
    /// Sets up the HTTP clients that a config needs.
    ///
    /// # Errors
    /// [`BadClient`] when the network library can't be set up as the config says.
    pub fn of(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, BadClient> {
        let mut made: Vec<(&Transport, Clients)> = Vec::new();
        let mut by_upstream = HashMap::with_capacity(config.upstreams.len());
        for (name, upstream) in &config.upstreams {
            let known = made.iter().find(|(transport, _)| **transport == upstream.transport);
            let clients = if let Some((_, clients)) = known {
                clients.clone()
            } else {
                let clients = Clients::new(&upstream.transport).map_err(|error| error.of_upstream(name))?;
                made.push((&upstream.transport, clients.clone()));
                clients
            };
            by_upstream.insert(name.clone(), Fetcher::with(clients, name, upstream, Arc::clone(clock)));
        }
        Ok(Self { by_upstream: Arc::new(by_upstream), plain: Fetcher::new(Arc::clone(clock))? })
    }

    /// The fetcher of the upstream of that name.
    #[must_use]
    pub fn to(&self, upstream: &str) -> &Fetcher {
        self.by_upstream.get(upstream).unwrap_or(&self.plain)
    }
}

impl From<Fetcher> for Fetchers {
    /// The same fetcher for every upstream.
    fn from(plain: Fetcher) -> Self {
        Self { by_upstream: Arc::default(), plain }
    }
}
