//! `headpond serve`.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::signals::{self, Stop};
use crate::api::settings::Settings;
use crate::api::waiting::Waiting;
use crate::api::{self, ApiState};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::refresh::Refresher;
use crate::refresh::clockwork::Clockwork;
use crate::refresh::committer::Committer;
use crate::refresh::follow::follow;
use crate::refresh::lane::{Lane, Task, Until};
use crate::store::{Authority, Selection, Store};
use crate::telemetry::metrics;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Refuse to start when the database's schema is out of date, instead of bringing it up to date.
    #[arg(long)]
    no_migrate: bool,
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    // First of all, so that a second `serve` by mistake is told before it touches anything.
    let listen = config.server.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| CliError::usage(format!("server.listen = \"{listen}\": can't listen there: {error}")))?;
    let schema = if args.no_migrate { Schema::AsItIs } else { Schema::Migrate };
    let (store, clock) = assemble::store(&config, schema).await?;
    serve(&config, store, clock, listener, |router| router).await
}

/// Refreshes and answers by this configuration until it is told to stop; then the database is closed. `dress` lays around the
/// read API's routes what a command wants there.
pub(super) async fn serve(
    config: &Config,
    store: Arc<dyn Store>,
    clock: Arc<SystemClock>,
    listener: TcpListener,
    dress: impl FnOnce(Router) -> Router,
) -> Result<Exit, CliError> {
    let registered = assemble::register(store.as_ref(), config, Authority::Owns).await?;
    let refresher = assemble::refresher(config, &registered, Arc::clone(&store), &clock)?;
    refresher.own_config().await?;
    assemble::retire(store.as_ref(), config, &registered).await?;
    let stop = signals::watch(config.server.shutdown_grace)?;
    tracing::info!(
        listen = %listener.local_addr().unwrap_or(config.server.listen),
        database = store.describe(),
        sources = config.sources.len(),
        "serving"
    );
    let served = serve_until_stopped(config, Arc::clone(&refresher), clock, listener, dress, &stop).await;
    if let Err(error) = store.disown_config(&refresher.worker).await {
        tracing::warn!(%error, "others take this process for running until its heartbeat is missed");
    }
    store.close().await;
    served?;
    tracing::info!("stopped");
    Ok(Exit::Well)
}

async fn serve_until_stopped(
    config: &Config,
    refresher: Arc<Refresher>,
    clock: Arc<SystemClock>,
    listener: TcpListener,
    dress: impl FnOnce(Router) -> Router,
    stop: &Stop,
) -> Result<(), CliError> {
    let clockwork = Clockwork::start(Arc::clone(&refresher), clock, &config.database)
        .await
        .map_err(|error| CliError::usage(format!("the clockwork does not start: {error}")))?;
    let mut parts = JoinSet::new();
    parts.spawn(follow(Arc::clone(&refresher.store), refresher.announcer.clone(), stop.stop.clone()));
    let (committer, commits) = Committer::new(&refresher, stop.abandon.clone());
    parts.spawn(commits);
    for upstream in refresher.roster.upstreams() {
        let task = Task { which: Selection::All, due_by: None, until: Until::Stopped };
        let lane = Lane::new(Arc::clone(&refresher), committer.clone(), upstream.clone(), task, None);
        // A lane that never ends by itself has no result.
        parts.spawn(lane.run(stop.stop.clone(), stop.abandon.clone()).map(drop));
    }
    // Held until the end, so that the committer is not done before anyone has begun.
    let committer = stop.stop.clone().cancelled_owned().map(move |()| drop(committer));
    parts.spawn(committer);
    let metrics = metrics::install().map_err(|error| CliError::usage(format!("no metrics can be kept: {error}")))?;
    parts.spawn(metrics::upkeep(metrics.clone(), stop.stop.clone()));
    let (_, settings) = watch::channel(Arc::new(Settings::of(config)));
    let state = ApiState {
        store: Arc::clone(&refresher.store),
        clock: Arc::clone(&refresher.clock),
        announcer: refresher.announcer.clone(),
        settings,
        waiting: Waiting::default(),
        stopping: stop.stop.clone(),
        metrics: Some(metrics),
    };
    let shutdown = stop.stop.clone().cancelled_owned();
    let mut serving = pin!(api::server::serve(listener, dress(api::router(state)), &config.server, shutdown));
    let served = tokio::select! {
        served = &mut serving => served.map_err(|error| CliError::usage(format!("the read API ended: {error}"))),
        // None of them ends before it is told to, unless it panicked. A process that only looks alive is worse than none.
        Some(part) = parts.join_next(), if !stop.stop.is_cancelled() => {
            let ended = part.map_err(|error| CliError::failed(format!("a part of serve ended: {error}")));
            stop.stop.cancel();
            serving.await.map_err(|error| CliError::usage(format!("the read API ended: {error}")))?;
            ended
        }
    };
    // The API ends by itself only when it can't go on: then nothing else should.
    stop.stop.cancel();
    clockwork.stop().await;
    // Panics have been reported by the panic hook.
    while parts.join_next().await.is_some() {}
    served
}
