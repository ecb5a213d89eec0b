//! `headpond refresh`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::progress::Progress;
use super::signals;
use crate::clock::{Clock, monotonic};
use crate::config::Config;
use crate::domain::resource::{Key, SourceName};
use crate::refresh::once::{Manner, Run, Target};
use crate::refresh::tally::{Counts, NamedWait};
use crate::refresh::{Refresher, origins, tables};
use crate::store::{Authority, Registered, Store};

/// Arguments of `refresh`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Args {
    /// The source to refresh; without it, all.
    source: Option<String>,
    /// The keys to refresh; without them, all of the source.
    #[arg(requires = "source")]
    keys: Vec<String>,
    /// All sources. This is also what happens when none is named.
    #[arg(long, conflicts_with = "source")]
    all: bool,
    /// Only what is due. This is also what happens without --force.
    #[arg(long, conflicts_with = "force")]
    due: bool,
    /// Also what isn't due. Requests stay conditional, and limits are kept.
    #[arg(long)]
    force: bool,
    /// Also wait for what another process is fetching at the moment.
    #[arg(long)]
    wait: bool,
    /// How long to wait at the most for an upstream that wants to be left alone. What is left then is told, and stays due.
    #[arg(long, value_name = "SPAN", default_value = "1m", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Let apps lose columns, rows or whole tables that the configuration no longer has.
    #[arg(long)]
    yes: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// The summary as JSON.
#[derive(Debug, Serialize)]
struct Summary {
    #[serde(flatten)]
    counts: Counts,
    /// How long it took.
    seconds: f64,
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let mut config = assemble::config(config_path)?;
    config.database.allow_table_changes |= args.yes;
    let (store, clock) = assemble::store(&config, Schema::Migrate).await?;
    // A running `serve` owns the config; without one, whoever runs now does.
    let owned = store.config_owner(clock.now()).await?.is_some();
    let authority = if owned { Authority::Adds } else { Authority::Owns };
    if !owned {
        assemble::check_tables(store.as_ref(), &config).await?;
    }
    let registered = assemble::register(store.as_ref(), &config, authority).await?.registered;
    if !owned {
        for (source, ids) in config.sources.iter().zip(&registered) {
            for problem in origins::add_all(store.as_ref(), source, ids.source).await? {
                eprintln!("warning: sources.{}.keys_from: {problem}", source.name);
            }
        }
    }
    let target = target(&config, &registered, store.as_ref(), args).await?;
    let refresher = assemble::refresher(&config, &registered, Arc::clone(&store), &clock, assemble::worker_name())?;
    if !owned {
        settle_tables(&refresher).await;
    }
    let grace = config.server.shutdown_grace;
    let stop = signals::watch(move || grace)?;
    let started = monotonic();
    let manner = Manner { force: args.force, wait: args.wait, patience: args.patience };
    let run = Run::begin(refresher, target, manner).await?;
    let progress = Progress::new(run.expected);
    let counts = progress.show_while(|| run.counts(), run.finish(&stop.stop, &stop.abandon)).await;
    store.close().await;
    let counts = counts?;
    let summary = Summary { counts, seconds: started.elapsed().as_secs_f64() };
    print(&summary, args.json)?;
    let all_well = summary.counts.failed == 0 && summary.counts.waiting == 0 && !stop.stop.is_cancelled();
    Ok(if all_well { Exit::Well } else { Exit::Failed })
}

/// Makes the tables as configured. What can't be done keeps nothing from being refreshed.
async fn settle_tables(refresher: &Refresher) {
    let tell = |source: &str, done| tracing::info!(source, done, "filling its table");
    for (source, why) in tables::settle_all(refresher, tell).await {
        eprintln!("warning: sources.{source}.table: {why}");
    }
}

/// What the arguments name.
async fn target(
    config: &Config,
    registered: &[Registered],
    store: &dyn Store,
    args: &Args,
) -> Result<Target, CliError> {
    let Some(name) = &args.source else {
        return Ok(Target::Sources(registered.iter().map(|ids| ids.source).collect()));
    };
    let (source, ids) = config
        .sources
        .iter()
        .zip(registered)
        .find(|(source, _)| source.name.as_str() == name)
        .ok_or_else(|| unknown_source(config, name))?;
    if args.keys.is_empty() {
        return Ok(Target::Sources(vec![ids.source]));
    }
    let keys = args
        .keys
        .iter()
        .map(|key| Key::new(key).map_err(|error| CliError::usage(format!("key {key:?}: {error}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let found = store.find(ids.source, &keys).await?;
    let mut resources = Vec::with_capacity(found.len());
    for (key, resource) in keys.iter().zip(found) {
        let missing = || CliError::usage(format!("source {name} has no key {:?}", key.as_str()));
        resources.push(resource.ok_or_else(missing)?);
    }
    if source.collection.is_some() {
        // Its members come with its walk.
        resources = store.find(ids.source, &[Key::of_walk()]).await?.into_iter().flatten().collect();
    }
    Ok(Target::Resources(ids.source, resources))
}

/// Says which sources there are.
pub(super) fn unknown_source(config: &Config, name: &str) -> CliError {
    let known: Vec<_> = config.sources.iter().map(|source| &source.name).map(SourceName::as_str).collect();
    CliError::usage(format!("no source {name:?} in the configuration, which has: {}", known.join(", ")))
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn print(summary: &Summary, json: bool) -> Result<(), CliError> {
    if json {
        let text = serde_json::to_string(summary).map_err(|error| CliError::usage(error.to_string()))?;
        println!("{text}");
        return Ok(());
    }
    let Counts { new, changed, unchanged, gone, failed, elsewhere, waiting, failures, waits } = &summary.counts;
    let left = if *waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
    println!(
        "{new} new, {changed} changed, {unchanged} unchanged, {gone} gone, {failed} failed, {elsewhere} left to others{left}, \
         in {:.1} s",
        summary.seconds
    );
    for NamedWait { upstream, until, why } in waits {
        println!("  {upstream} until {}: {why}; refresh again then, or wait with --patience", until.to_rfc3339());
    }
    for named in failures {
        println!("  {}/{}: {}: {}", named.source, named.key, named.failure.kind, named.failure.detail);
    }
    let unnamed = failed.saturating_sub(failures.len() as u64);
    if unnamed > 0 {
        println!("  … and {unnamed} more");
    }
    Ok(())
}
