//! The configuration that holds, and everyone who works by it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::api::settings::{Settings, Upstreams};
use crate::cli::assemble::{self, Known};
use crate::cli::outcome::CliError;
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::refresh::ownership::Ownership;
use crate::refresh::{Refresher, Roster, tables};
use crate::store::{Authority, Store};
use crate::upstream::{BadClient, Fetchers};

/// The present configuration of a running `serve`.
pub(super) struct Present {
    config: Config,
    upstreams: Upstreams,
    store: Arc<dyn Store>,
    ownership: Arc<Ownership>,
    refreshers: watch::Sender<Arc<Refresher>>,
    settings: watch::Sender<Arc<Settings>>,
    server: watch::Sender<config::Server>,
    database: watch::Sender<config::Database>,
}

/// Why a configuration was not put in place of another.
#[derive(Debug)]
pub(super) enum NotReplaced {
    /// The new one asks for something that can't be done. The one before holds, and nothing was touched.
    Refused(Vec<String>),
    /// The one before holds. The database may have some of what the new one says already; the next reload or restart makes
    /// it the whole of one of them.
    OldHolds(CliError),
    /// The new one holds, but some of what it no longer lists is polled still, until a reload or restart gets through.
    NewHolds(CliError),
}

impl Present {
    /// Makes the first configuration of the process the one that holds.
    pub(super) async fn establish(
        config: Config,
        upstreams: Upstreams,
        store: Arc<dyn Store>,
        clock: &Arc<SystemClock>,
    ) -> Result<Self, CliError> {
        assemble::check_tables(store.as_ref(), &config).await?;
        let worker = assemble::worker_name();
        let ownership = Ownership::new(Arc::clone(&store), Arc::<SystemClock>::clone(clock), worker.clone());
        // Taken before anything is written, so that of two processes that do this at once the last one's word stands.
        ownership.take().await?;
        let known = assemble::register(store.as_ref(), &config, Authority::Owns).await?;
        let refresher = assemble::refresher(&config, &known.registered, Arc::clone(&store), clock, worker)?;
        retire(store.as_ref(), &ownership, &config, &known).await?;
        Ok(Self {
            store,
            ownership: Arc::new(ownership),
            refreshers: watch::Sender::new(refresher),
            settings: watch::Sender::new(Arc::new(Settings::of(&config, upstreams))),
            server: watch::Sender::new(config.server.clone()),
            database: watch::Sender::new(config.database.clone()),
            config,
            upstreams,
        })
    }

    /// Puts another configuration in its place: first in the database, then, at once, for everyone in this process.
    ///
    /// Credentials and certificates are those that the configuration has now; connections are made anew. What is under way
    /// goes on as it began; what it brings is stored. Keys that are no longer listed are retired last, so that until then
    /// nothing is missing that the old configuration has.
    pub(super) async fn replace(&mut self, config: Config) -> Result<(), NotReplaced> {
        let old_holds = NotReplaced::OldHolds;
        let store = self.store.as_ref();
        let before = self.refresher();
        let fetchers = Fetchers::of(&config, &before.clock)
            .map_err(|bad: BadClient| NotReplaced::Refused(vec![bad.to_string()]))?;
        let refused = tables::plan(store, &config).await.map_err(|error| old_holds(error.into()))?;
        let refused = refused.refusals(config.database.allow_table_changes);
        if !refused.is_empty() {
            return Err(NotReplaced::Refused(refused));
        }
        self.ownership.take().await.map_err(|error| old_holds(error.into()))?;
        let known = assemble::register(store, &config, Authority::Owns).await.map_err(old_holds)?;
        let refresher = before.with(fetchers, Roster::new(&config, &known.registered));
        self.refreshers.send_replace(Arc::new(refresher));
        self.settings.send_replace(Arc::new(Settings::of(&config, self.upstreams)));
        self.server.send_replace(config.server.clone());
        self.database.send_replace(config.database.clone());
        self.config = config;
        retire(store, &self.ownership, &self.config, &known).await.map_err(NotReplaced::NewHolds)
    }

    /// Whether upstreams are asked.
    pub(super) fn upstreams(&self) -> Upstreams {
        self.upstreams
    }

    /// The configuration.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn ownership(&self) -> Arc<Ownership> {
        Arc::clone(&self.ownership)
    }

    pub(super) fn refresher(&self) -> Arc<Refresher> {
        Arc::clone(&self.refreshers.borrow())
    }

    pub(super) fn refreshers(&self) -> watch::Receiver<Arc<Refresher>> {
        self.refreshers.subscribe()
    }

    pub(super) fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    pub(super) fn server(&self) -> watch::Receiver<config::Server> {
        self.server.subscribe()
    }

    pub(super) fn database(&self) -> watch::Receiver<config::Database> {
        self.database.subscribe()
    }
}

/// Retires what the configuration doesn't list, unless another process has taken it meanwhile: what is listed is its word
/// then.
async fn retire(store: &dyn Store, ownership: &Ownership, config: &Config, known: &Known) -> Result<(), CliError> {
    if ownership.renew().await? { assemble::retire(store, config, known).await } else { Ok(()) }
}
