//! An upstream as a configuration describes it.

use std::sync::Arc;

use headpond::clock::{Clock, ManualClock};
use headpond::config::{self, Config, ProcessEnvironment};
use headpond::domain::observation::Observation;
use headpond::domain::validators::Validators;
use headpond::upstream::{Exchange, FetchRequest, Fetchers, Gate, Halt, OpenGate};
use url::Url;

/// One source, `s`, of one upstream, `up`.
pub struct Configured {
    pub config: Config,
    pub clock: Arc<ManualClock>,
    fetchers: Fetchers,
}

impl Configured {
    /// With these settings of the upstream. The source is at `origin`.
    pub fn with(origin: &str, upstream: &str) -> Self {
        Self::reading(&format!(
            "[upstreams.up]\n{upstream}\n[sources.s]\nupstream = 'up'\nurl = '{origin}/{{key}}'\nkeys = ['k']\n\
             refresh_every = '1h'\n"
        ))
    }

    /// With this whole configuration.
    pub fn reading(toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("headpond.toml");
        let toml = toml.replace("[sources.s]", "[sources.s]\nuser_agent = 'headpond-test/1'");
        std::fs::write(&file, toml).unwrap();
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let loaded = config::load(&file, &ProcessEnvironment, clock.now()).unwrap_or_else(|errors| panic!("{errors}"));
        let fetchers = Fetchers::of(&loaded.config, &(clock.clone() as _)).unwrap();
        Self { config: loaded.config, clock, fetchers }
    }

    /// Asks for this URL.
    pub async fn ask(&self, url: &Url) -> Observation {
        self.exchange(url, None, &OpenGate).await.unwrap().observation
    }

    /// The same, conditionally, through a gate, and with all that is seen of it.
    pub async fn exchange(
        &self,
        url: &Url,
        validators: Option<&Validators>,
        gate: &dyn Gate,
    ) -> Result<Exchange, Halt> {
        let source = &self.config.sources[0];
        let request = FetchRequest { url, settings: &source.request, body: None, validators };
        self.fetchers.to(&source.upstream).exchange(&request, gate).await
    }
}
