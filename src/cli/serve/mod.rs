//! `headpond serve`.

mod present;
mod reload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use futures_util::{FutureExt, TryFutureExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use self::present::Present;
pub(super) use self::reload::Origin;
use self::reload::Reloader;
use super::assemble::{self, Schema};
use super::import::{self, Manner};
use super::outcome::{CliError, Exit};
use super::signals::{self, Stop};
use super::systemd;
use crate::api::demand::Demands;
use crate::api::feed::Tail;
use crate::api::settings::Upstreams;
use crate::api::streams::Streams;
use crate::api::waiting::Waiting;
use crate::api::{self, ApiState};
use crate::clock::SystemClock;
use crate::config::{Config, ProcessEnvironment};
use crate::refresh::clockwork::Clockwork;
use crate::refresh::committer::Committer;
use crate::refresh::fleet;
use crate::refresh::follow::follow;
use crate::refresh::{origins, readers, tables, webhooks};
use crate::store::{Reads, Store};
use crate::telemetry::metrics;

/// How many requests for a reload wait in line before further ones are kept at the door.
const RELOADS: usize = 16;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Refuse to start when the database's schema is out of date, instead of bringing it up to date.
    #[arg(long)]
    no_migrate: bool,
    /// Let apps lose columns, rows or whole tables that the configuration no longer has.
    #[arg(long)]
    yes: bool,
    /// Ask no upstream: serve what the database has. For the tests of whoever reads from here.
    #[arg(long)]
    offline: bool,
    /// Take an archive in first, and have all of its keys known.
    #[arg(long, value_name = "FILE", requires = "offline")]
    import: Option<PathBuf>,
}

/// What is served, where, and by which configuration.
pub(super) struct Service {
    /// Where the configuration is read again.
    pub(super) origin: Origin,
    /// What it says now.
    pub(super) config: Config,
    /// Whether upstreams are asked.
    pub(super) upstreams: Upstreams,
    /// The database.
    pub(super) store: Arc<dyn Store>,
    /// The time.
    pub(super) clock: Arc<SystemClock>,
    /// Where the read API answers.
    pub(super) listener: TcpListener,
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let origin = Origin::new(config_path, ProcessEnvironment)?;
    let mut config = assemble::config(config_path)?;
    config.database.allow_table_changes |= args.yes;
    // First of all, so that a second `serve` by mistake is told before it touches anything.
    let listen = config.server.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| CliError::usage(format!("server.listen = \"{listen}\": can't listen there: {error}")))?;
    let schema = if args.no_migrate { Schema::AsItIs } else { Schema::Migrate };
    let (store, clock) = assemble::store(&config, schema).await?;
    let upstreams = if args.offline { Upstreams::LeftAlone } else { Upstreams::Asked };
    if let Some(archive) = &args.import {
        let manner = Manner { only: &[], adds_keys: true };
        let counts = import::load(&config, store.as_ref(), clock.as_ref(), Some(archive), manner).await?;
        tracing::info!(archive = %archive.display(), "imported: {counts}");
    }
    serve(Service { origin, config, upstreams, store, clock, listener }, |router| router).await
}

/// Refreshes and answers by this configuration, or what its origin says later, until it is told to stop; then the database is
/// closed. `dress` lays around the read API's routes what a command wants there.
pub(super) async fn serve(service: Service, dress: impl FnOnce(Router) -> Router) -> Result<Exit, CliError> {
    let Service { origin, config, upstreams, store, clock, listener } = service;
    let (listen, sources) = (config.server.listen, config.sources.len());
    let present = Present::establish(config, upstreams, Arc::clone(&store), &clock).await?;
    let settings = present.server();
    let stop = signals::watch(move || settings.borrow().shutdown_grace)?;
    if upstreams == Upstreams::LeftAlone {
        tracing::info!("offline: no upstream is asked");
    }
    tracing::info!(
        listen = %listener.local_addr().unwrap_or(listen),
        database = store.describe(),
        sources,
        "serving"
    );
    let ownership = present.ownership();
    let served = serve_until_stopped(Reloader::new(origin, present), clock, listener, dress, &stop).await;
    if let Err(error) = ownership.give_up().await {
        tracing::warn!(%error, "others take this process for running until its heartbeat is missed");
    }
    store.close().await;
    served?;
    tracing::info!("stopped");
    Ok(Exit::Well)
}

async fn serve_until_stopped(
    reloader: Reloader,
    clock: Arc<SystemClock>,
    listener: TcpListener,
    dress: impl FnOnce(Router) -> Router,
    stop: &Stop,
) -> Result<(), CliError> {
    let present = reloader.present();
    let (refreshers, refresher) = (present.refreshers(), present.refresher());
    let reads = Arc::new(Reads::default());
    let clockwork = Clockwork::start(Arc::clone(&refresher), present.ownership(), clock, present.database())
        .await
        .map_err(|error| CliError::usage(format!("the clockwork does not start: {error}")))?;
    let metrics = metrics::install().map_err(|error| CliError::usage(format!("no metrics can be kept: {error}")))?;
    let (reloads, asked) = mpsc::channel(RELOADS);
    let state = ApiState {
        store: Arc::clone(&refresher.store),
        clock: Arc::clone(&refresher.clock),
        announcer: refresher.announcer.clone(),
        settings: present.settings(),
        waiting: Waiting::default(),
        tail: Tail::default(),
        streams: Streams::default(),
        demands: Demands::default(),
        reads: Arc::clone(&reads),
        stopping: stop.stop.clone(),
        metrics: Some(metrics.clone()),
        reloads,
    };
    let (committer, commits) = Committer::new(&refresher, stop.abandon.clone());
    let shutdown = stop.stop.clone().cancelled_owned();
    let serving = api::server::serve(listener, dress(api::router(state)), present.server(), shutdown);

    let mut parts = JoinSet::new();
    parts.spawn(follow(Arc::clone(&refresher.store), refresher.announcer.clone(), stop.stop.clone()).map(Ok));
    if present.upstreams() == Upstreams::Asked {
        parts.spawn(origins::keep(present.refreshers(), present.ownership(), stop.stop.clone()).map_err(ended));
        parts.spawn(commits.map(Ok));
        parts.spawn(readers::keep(present.refreshers(), present.ownership(), reads, stop.stop.clone()).map(Ok));
        parts.spawn(webhooks::keep(present.refreshers(), stop.stop.clone()).map(Ok));
        parts.spawn(fleet::fly(refreshers, committer, stop.stop.clone(), stop.abandon.clone()).map_err(ended));
    }
    parts.spawn(tables::keep(present.refreshers(), stop.stop.clone()).map(Ok));
    parts.spawn(serving.map(Ok));
    parts.spawn(metrics::upkeep(metrics, stop.stop.clone()).map(Ok));
    parts.spawn(reloader.run(asked, stop.stop.clone()).map(Ok));
    parts.spawn(systemd::keep_watchdog(stop.stop.clone()).map(Ok));
    systemd::ready();
    let mut served = tokio::select! {
        () = stop.stop.cancelled() => Ok(()),
        // None of them ends before it is told to, unless it failed. A process that only looks alive is worse than none.
        Some(part) = parts.join_next() => part.map_err(ended).flatten(),
    };
    stop.stop.cancel();
    systemd::stopping();
    clockwork.stop().await;
    while let Some(part) = parts.join_next().await {
        served = served.and(part.map_err(ended).flatten());
    }
    served
}

/// The panic itself has been reported by the panic hook.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn ended(error: JoinError) -> CliError {
    CliError::failed(format!("a part of serve ended: {error}"))
}
