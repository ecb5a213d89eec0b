//! `headpond serve`.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::assemble::{self, Keys, Schema};
use super::outcome::{CliError, Exit};
use super::signals::{self, Stop};
use crate::api::{self, ApiState};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::refresh::Refresher;
use crate::refresh::clockwork::Clockwork;
use crate::refresh::committer::Committer;
use crate::refresh::follow::follow;
use crate::refresh::lane::{Lane, Task, Until};
use crate::store::Selection;

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
    let registered = assemble::register(store.as_ref(), &config, Keys::AddAndRetire).await?;
    let refresher = assemble::refresher(&config, &registered, Arc::clone(&store), &clock)?;
    let stop = signals::watch(config.server.shutdown_grace)?;
    tracing::info!(
        listen = %listener.local_addr().unwrap_or(listen),
        database = store.describe(),
        sources = config.sources.len(),
        "serving"
    );
    let served = serve_until_stopped(&config, refresher, clock, listener, &stop).await;
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
    stop: &Stop,
) -> Result<(), CliError> {
    let clockwork = Clockwork::start(Arc::clone(&refresher), clock, &config.database)
        .await
        .map_err(|error| CliError::usage(format!("the clockwork does not start: {error}")))?;
    let mut parts = JoinSet::new();
    parts.spawn(follow(Arc::clone(&refresher.store), refresher.announcer.clone(), stop.stop.clone()));
    let (committer, commits) =
        Committer::new(Arc::clone(&refresher.store), Arc::clone(&refresher.clock), refresher.announcer.clone());
    parts.spawn(commits);
    for upstream in refresher.roster.upstreams() {
        let task = Task { which: Selection::All, due_by: None, until: Until::Stopped };
        let lane = Lane::new(Arc::clone(&refresher), committer.clone(), upstream.clone(), task, None);
        parts.spawn(lane.run(stop.stop.clone(), stop.abandon.clone()));
    }
    drop(committer);
    let state = ApiState {
        store: Arc::clone(&refresher.store),
        clock: Arc::clone(&refresher.clock),
        sources: Arc::new(config.sources.iter().map(|source| source.name.clone()).collect()),
    };
    let shutdown = stop.stop.clone().cancelled_owned();
    let served = api::server::serve(listener, api::router(state), &config.server, shutdown).await;
    // The API ends by itself only when it can't go on: then nothing else should.
    stop.stop.cancel();
    clockwork.stop().await;
    parts.join_all().await;
    served.map_err(|error| CliError::usage(format!("the read API ended: {error}")))
}
