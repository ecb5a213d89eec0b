//! The command line: the only place where the parts are put together.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry::logs::{self, LogFormat};

mod assemble;
mod backup;
mod check;
mod demo;
mod erase;
mod explain;
mod export;
mod get;
mod health;
mod import;
mod init;
mod keys;
mod migrate;
mod outcome;
mod plan;
mod print;
mod probe;
mod progress;
mod question;
mod refresh;
mod serve;
mod signals;
mod status;
mod systemd;
mod table;
mod webhooks;

use outcome::{CliError, Exit};

/// Keeps a local, eventually consistent copy of upstream HTTP resources in your SQLite or Postgres.
#[derive(Debug, Parser)]
#[command(name = "headpond", version, max_term_width = 100)]
struct Cli {
    /// The configuration file.
    #[arg(short, long, global = true, env = "HEADPOND_CONFIG", default_value = "headpond.toml", value_name = "FILE")]
    config: PathBuf,
    /// Which log lines to write to stderr: error, warn, info, debug, trace, or by module (`headpond::refresh=debug`).
    #[arg(long, global = true, env = "HEADPOND_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, env = "HEADPOND_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Poll the upstreams and serve the read API until SIGTERM or SIGINT; SIGHUP reloads the configuration.
    Serve(serve::Args),
    /// Refresh what is due, or what is named, once.
    Refresh(refresh::Args),
    /// Make one real request, show what would be decided, and store nothing.
    Try(probe::Args),
    /// Print a resource's stored content.
    Get(get::Args),
    /// Tell why a resource is as it is: what a reader gets, until when it is fresh, when it is due, and by which rules.
    Explain(explain::Args),
    /// List, add, remove and import keys.
    Keys(keys::Args),
    /// Tell how sources and upstreams stand, whether or not `serve` runs. It ends with 0 whenever the database could be read.
    Status(status::Args),
    /// Ask the running `serve` whether it is up, for health checks. It ends with 0 if so, else with 1.
    Health(health::Args),
    /// Check the configuration file, and with --connect what it names.
    Check(check::Args),
    /// Show what it does: a simulated upstream and a service that polls it, on this machine alone.
    Demo(demo::Args),
    /// Write copies and what is known of them as lines of JSON.
    Export(export::Args),
    /// Take in what `export` wrote, or what was written by hand.
    Import(import::Args),
    /// Erase all that is kept of keys, which are not fetched again until it is allowed.
    Erase(erase::Args),
    /// Copy the SQLite database to a file, consistent and while `serve` runs.
    Backup(backup::Args),
    /// List webhooks, and send again to those that were given up.
    Webhooks(webhooks::Args),
    /// Print what describes Headpond to other programs.
    Print(print::Args),
    /// Bring the database's schema up to date.
    Migrate(migrate::Args),
    /// Write a commented configuration file to start from.
    Init(init::Args),
}

/// Parses the command line, runs the command, and tells how it went: 0 all well, 1 some resources failed, 2 usage or
/// configuration.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let quiet_by_default = match cli.command {
        Command::Serve(_) => "info",
        // What fails in it fails on purpose.
        Command::Demo(_) => "error",
        _ => "warn",
    };
    // sqlx warns of slow statements on its own; what is slow for it is not a fault for us. The scheduler tells of its jobs.
    let filter = cli.log.clone().unwrap_or_else(|| format!("{quiet_by_default},sqlx=error,tokio_cron_scheduler=warn"));
    let result = logs::init(&filter, cli.log_format)
        .map_err(|problem| CliError::usage(format!("--log {filter}: {problem}")))
        .and_then(|()| run(cli));
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("headpond: {error}");
            error.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::usage(format!("no threads to run on: {error}")))?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(&cli.config, &args).await,
            Command::Refresh(args) => refresh::run(&cli.config, &args).await,
            Command::Try(args) => probe::run(&cli.config, &args).await,
            Command::Get(args) => get::run(&cli.config, &args).await,
            Command::Explain(args) => explain::run(&cli.config, &args).await,
            Command::Demo(args) => demo::run(&args).await,
            Command::Keys(args) => keys::run(&cli.config, &args).await,
            Command::Status(args) => status::run(&cli.config, &args).await,
            Command::Health(args) => health::run(&cli.config, &args).await,
            Command::Check(args) => check::run(&cli.config, &args).await,
            Command::Export(args) => export::run(&cli.config, &args).await,
            Command::Import(args) => import::run(&cli.config, &args).await,
            Command::Erase(args) => erase::run(&cli.config, &args).await,
            Command::Webhooks(args) => webhooks::run(&cli.config, &args).await,
            Command::Backup(args) => backup::run(&cli.config, &args).await,
            Command::Migrate(args) => migrate::run(&cli.config, &args).await,
            Command::Print(args) => print::run(&cli.config, &args),
            Command::Init(args) => init::run(&cli.config, &args),
        }
    })
}
