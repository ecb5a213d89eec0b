//! Puts the parts together, as every command needs them.

use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::outcome::CliError;
use crate::announce::Announcer;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, ConfigErrors, Environment, Loaded, Source};
use crate::domain::resource::SourceId;
use crate::refresh::origins;
use crate::refresh::origins::spool::mark_of;
use crate::refresh::origins::sync::{self, AT_ONCE, Stored, store_list};
use crate::refresh::{Refresher, Roster, tables};
use crate::store::{self, Authority, Registered, SourceSpec, Store, StoreOptions};
use crate::upstream::{Fetchers, Quiet};

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

/// Refuses a configuration whose tables can't be made, or by which apps would lose what they read and may not.
pub(super) async fn check_tables(store: &dyn Store, config: &Config) -> Result<(), CliError> {
    let plan = tables::plan(store, config).await?;
    let refusals = plan.refusals(config.database.allow_table_changes);
    if !refusals.is_empty() {
        return Err(CliError::usage(refusals.join("\n")));
    }
    for line in plan.lines() {
        tracing::info!("{line}");
    }
    Ok(())
}

/// Sources that are known to the store, and what is left to do about their keys.
pub(super) struct Known {
    /// The sources' ids, in the config's order.
    pub(super) registered: Vec<Registered>,
    /// Lists of the config that are stored, while what they had before is still there.
    stored: Vec<Stored>,
}

/// Makes the config's sources known and adds the keys that it lists, due by their schedules. A list that the store has
/// already is not walked.
///
/// Only a process that owns the config changes what is there; see [`Authority`]. Broken off in the middle, it leaves some of
/// the config's sources, limits and keys in the database and not others; done again, it does the rest.
pub(super) async fn register(store: &dyn Store, config: &Config, authority: Authority) -> Result<Known, CliError> {
    let registered = register_sources(store, config, authority).await?;
    if authority == Authority::Owns {
        let names: Vec<_> = config.webhooks.iter().map(|webhook| webhook.name.clone()).collect();
        store.register_webhooks(&names).await?;
    }
    let mut stored = Vec::new();
    for (source, ids) in config.sources.iter().zip(&registered) {
        if authority == Authority::Adds {
            for chunk in source.keys.chunks(AT_ONCE) {
                store.add_keys(ids.source, chunk, authority).await?;
            }
            continue;
        }
        stored.extend(store_own_list(store, source, ids.source).await?);
        if source.collection.is_some() {
            store.open_walk(ids.source).await?;
        }
        let earlier = store.reschedule(ids.source, &source.policy.cadence).await?;
        if earlier > 0 {
            tracing::info!(source = %source.name, earlier, cadence = %source.policy.cadence, "due earlier by the schedule");
        }
    }
    Ok(Known { registered, stored })
}

/// Makes the config's sources known, without their keys.
pub(super) async fn register_sources(
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
    Ok(store.register(&specs, authority).await?)
}

/// Stores the keys that the config itself lists; `None` when they are stored already.
async fn store_own_list(store: &dyn Store, source: &Source, id: SourceId) -> Result<Option<Stored>, CliError> {
    let known = store.origins(id, &origins::specs(source)).await?;
    let Some(own) = known.first() else { return Ok(None) };
    let mark = mark_of(source.keys.iter());
    if own.mark.as_ref() == Some(&mark) {
        return Ok(None);
    }
    let tell = |done, of| tracing::info!(source = %source.name, done, of, "taking in keys");
    Ok(Some(store_list(store, own.id, &source.keys, mark, tell).await?))
}

/// Stops polling the keys and sources that the config does not have: for `serve`, whose config it is.
///
/// Keys of a source that takes some from elsewhere may have moved there: its keeper looks there first.
pub(super) async fn retire(store: &dyn Store, config: &Config, known: &Known) -> Result<(), CliError> {
    for (source, ids) in config.sources.iter().zip(&known.registered) {
        if !source.keys_from.is_empty() {
            continue;
        }
        let origins = store.origins(ids.source, &origins::specs(source)).await?;
        let mut retired = 0;
        for stored in known.stored.iter().filter(|stored| origins.iter().any(|own| own.id == stored.round.origin)) {
            retired += stored.finish(store).await?;
        }
        let keep: Vec<_> = origins.iter().map(|origin| origin.id).collect();
        for other in store.other_origins(ids.source, &keep).await? {
            retired += sync::forget(store, other).await?;
        }
        if retired > 0 {
            tracing::info!(source = %source.name, retired, "keys that the config no longer lists are no longer polled");
        }
    }
    let walked = config.sources.iter().zip(&known.registered).filter(|(source, _)| source.collection.is_some());
    store.close_walks_except(&walked.map(|(_, ids)| ids.source).collect::<Vec<_>>()).await?;
    let keep: Vec<_> = known.registered.iter().map(|ids| ids.source).collect();
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
    Ok(Arc::new(Refresher { store, clock, fetchers, announcer, roster, worker, quiet: Quiet::default() }))
}

/// Tells the workers in the lease table apart: the process, and a random part, since ids come again after a restart.
pub(super) fn worker_name() -> String {
    format!("{}-{:08x}", std::process::id(), fastrand::u32(..))
}
