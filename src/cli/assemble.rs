//! Puts the parts together, as every command needs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::outcome::CliError;
use crate::announce::Announcer;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, ConfigErrors, Environment, Loaded};
use crate::domain::resource::Key;
use crate::refresh::{Refresher, Roster};
use crate::store::{self, Authority, Registered, SourceSpec, Store, StoreOptions};
use crate::upstream::Fetchers;

/// How many keys are added in one transaction.
const KEYS_AT_ONCE: usize = 5000;

/// Reads the configuration: the file, and what the environment says otherwise.
pub(super) fn load(path: &Path, environment: &dyn Environment) -> Result<Loaded, ConfigErrors> {
    config::load(path, environment, SystemClock::new().now())
}

/// Reads the configuration, and prints its warnings to stderr.
pub(super) fn config(path: &Path) -> Result<Config, CliError> {
    config_from(path, &config::ProcessEnvironment)
}

/// The same from other surroundings than this process's.
pub(super) fn config_from(path: &Path, environment: &dyn Environment) -> Result<Config, CliError> {
    let loaded = load(path, environment).map_err(|errors| CliError::usage(errors.to_string()))?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded.config)
}

/// What a command does to the database's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// Make the database where there is none, and bring it up to date.
    Migrate,
    /// Use it only if it is there and up to date.
    AsItIs,
}

/// Connects to the database, and sets a clock by it.
pub(super) async fn store(config: &Config, schema: Schema) -> Result<(Arc<dyn Store>, Arc<SystemClock>), CliError> {
    connect(config.database.url.expose_secret(), config.database.readers, schema).await
}

/// Connects to a SQLite file as it is.
pub(super) async fn store_in_file(file: &Path) -> Result<(Arc<dyn Store>, Arc<SystemClock>), CliError> {
    connect(&url_of_file(file)?, 1, Schema::AsItIs).await
}

/// The `database.url` of a SQLite file. Signs that have a meaning in URLs are percent-encoded.
pub(super) fn url_of_file(file: &Path) -> Result<String, CliError> {
    let path = file.to_str().ok_or_else(|| CliError::usage(format!("{}: not UTF-8", file.display())))?;
    Ok(format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")))
}

async fn connect(url: &str, readers: u32, schema: Schema) -> Result<(Arc<dyn Store>, Arc<SystemClock>), CliError> {
    let clock = Arc::new(SystemClock::new());
    let migrate = schema == Schema::Migrate;
    let options = StoreOptions { readers, migrate, create: migrate };
    let store = store::connect(url, &options, Arc::<SystemClock>::clone(&clock)).await?;
    if let Some(now) = store.database_time().await? {
        clock.anchor(now);
    }
    Ok((store, clock))
}

/// Makes the config's sources known and adds the keys that it lists, due by their schedules.
///
/// Only a process that owns the config changes what is there; see [`Authority`]. Broken off in the middle, it leaves some of
/// the config's sources, limits and keys in the database and not others; done again, it does the rest.
pub(super) async fn register(
    store: &dyn Store,
    config: &Config,
    authority: Authority,
) -> Result<Vec<Registered>, CliError> {
    let mut specs = Vec::with_capacity(config.sources.len());
    for source in &config.sources {
        let upstream = config
            .upstreams
            .get(&source.upstream)
            .ok_or_else(|| CliError::usage(format!("source {}: no upstream {}", source.name, source.upstream)))?;
        specs.push(SourceSpec::of(source, upstream));
    }
    let registered = store.register(&specs, authority).await?;
    for (source, ids) in config.sources.iter().zip(&registered) {
        for chunk in source.keys.chunks(KEYS_AT_ONCE) {
            store.add_keys(ids.source, chunk, authority).await?;
        }
        if authority == Authority::Owns {
            let earlier = store.reschedule(ids.source, &source.policy.cadence).await?;
            if earlier > 0 {
                tracing::info!(source = %source.name, earlier, cadence = %source.policy.cadence, "due earlier by the schedule");
            }
        }
    }
    Ok(registered)
}

/// Stops polling the keys and sources that the config does not have: for `serve`, whose config it is.
pub(super) async fn retire(store: &dyn Store, config: &Config, registered: &[Registered]) -> Result<(), CliError> {
    for (source, ids) in config.sources.iter().zip(registered) {
        let keep: BTreeSet<Key> = source.keys.iter().map(|(key, _)| key.clone()).collect();
        let retired = store.retire_keys_except(ids.source, &keep).await?;
        if retired > 0 {
            tracing::info!(source = %source.name, retired, "keys that the config no longer lists are no longer polled");
        }
    }
    let keep: Vec<_> = registered.iter().map(|ids| ids.source).collect();
    store.retire_sources_except(&keep).await?;
    Ok(())
}

/// A refresher for the config.
pub(super) fn refresher(
    config: &Config,
    registered: &[Registered],
    store: Arc<dyn Store>,
    clock: &Arc<SystemClock>,
    worker: String,
) -> Result<Arc<Refresher>, CliError> {
    let clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(clock);
    let fetchers = Fetchers::of(config, &clock).map_err(|error| CliError::usage(error.to_string()))?;
    let roster = Roster::new(config, registered);
    let announcer = Announcer::new();
    Ok(Arc::new(Refresher { store, clock, fetchers, announcer, roster, worker }))
}

/// Tells the workers in the lease table apart: the process, and a random part, since ids come again after a restart.
pub(super) fn worker_name() -> String {
    format!("{}-{:08x}", std::process::id(), fastrand::u32(..))
}
