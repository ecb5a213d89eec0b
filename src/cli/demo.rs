//! `headpond demo`: a simulated upstream, and the service polling it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::{serve, signals};
use crate::api::settings::Upstreams;
use crate::clock::{Clock, SystemClock};
use crate::demo::live::{Copies, LiveLine, Watch};
use crate::demo::reads::Reads;
use crate::demo::upstream::Upstream;
use crate::demo::upstream::faults::Shares;
use crate::demo::{SEED, Site, config, steps};
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, SourceName};
use crate::store::{Store, StoreError};

/// How often the live line is drawn.
const TICK: Duration = Duration::from_millis(500);

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The port of the read API, 8080 by default; with --upstream-only, that of the upstream. 0 is any free one.
    #[arg(long)]
    port: Option<u16>,
    /// The port of the simulated upstream.
    #[arg(long, default_value_t = 8081, conflicts_with = "upstream_only")]
    upstream_port: u16,
    /// The SQLite file for the copies. It is made if there is none, and used again if it is the demo's.
    #[arg(long, value_name = "FILE", default_value = "headpond-demo.db", conflicts_with = "upstream_only")]
    database: PathBuf,
    /// Run the simulated upstream alone: for tests and benchmarks.
    #[arg(long)]
    upstream_only: bool,
    /// Print the configuration that the demo runs by, and do nothing else: for other commands on its database.
    #[arg(long, conflicts_with = "upstream_only")]
    print_config: bool,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(args: &Args) -> Result<Exit, CliError> {
    if args.upstream_only {
        return upstream_only(args.port.unwrap_or(args.upstream_port)).await;
    }
    let database_url = assemble::url_of_file(&args.database).map_err(|error| error.about("--database"))?;
    let api_port = args.port.unwrap_or(8080);
    if args.print_config {
        print!("{}", config::text(&site(args, loopback(api_port), loopback(args.upstream_port)), &database_url));
        return Ok(Exit::Well);
    }
    // First of all, so that a second demo by mistake is told before it touches anything.
    let (api, api_at) = listen("--port", api_port).await?;
    let (upstream, upstream_at) = listen("--upstream-port", args.upstream_port).await?;
    let site = site(args, api_at, upstream_at);
    let (name, text) = (Path::new("the demo's configuration"), config::Text(config::text(&site, &database_url)));
    let config = assemble::config_from(name, &text)?;
    let origin = serve::Origin::new(name, text)?;
    let (store, clock) = assemble::store(&config, Schema::Migrate).await.map_err(|error| error.about("--database"))?;
    refuse_a_strangers_database(store.as_ref(), &args.database, clock.now()).await?;
    let simulated = Simulated::start(upstream, Arc::clone(&clock));
    print!("{}", steps::greeting(&site));
    let guide = Guide {
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        upstream: Arc::clone(&simulated.upstream),
        reads: Reads::default(),
        sources: config.sources.iter().map(|source| source.name.clone()).collect(),
        site,
    };
    let reads = guide.reads.clone();
    let service = serve::Service { origin, config, upstreams: Upstreams::Asked, store, clock, listener: api };
    let ended = tokio::select! {
        ended = serve::serve(service, |router| reads.counted(router)) => ended,
        never = guide.lead() => match never {},
    };
    simulated.stop().await;
    ended
}

/// The upstream alone, until a signal comes.
#[expect(clippy::print_stdout, reason = "the command's result")]
async fn upstream_only(port: u16) -> Result<Exit, CliError> {
    let (listener, at) = listen("--port", port).await?;
    let signals = signals::watch(|| Duration::ZERO)?;
    let simulated = Simulated::start(listener, Arc::new(SystemClock::new()));
    println!(
        "A simulated upstream answers on http://{at}: GET /weather/berlin, /users/u1, /stats; POST /off?for=1m, /on"
    );
    signals.stop.cancelled().await;
    simulated.stop().await;
    Ok(Exit::Well)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

async fn listen(option: &str, port: u16) -> Result<(TcpListener, SocketAddr), CliError> {
    let refused = |error: std::io::Error| {
        CliError::usage(format!("{option} {port}: can't listen on 127.0.0.1:{port}: {error}; name another port"))
    };
    let listener = TcpListener::bind(loopback(port)).await.map_err(refused)?;
    let at = listener.local_addr().map_err(refused)?;
    Ok((listener, at))
}

fn site(args: &Args, api: SocketAddr, upstream: SocketAddr) -> Site {
    Site { api, upstream, database: args.database.display().to_string(), program: program() }
}

fn program() -> String {
    match (std::env::current_exe(), std::env::current_dir()) {
        (Ok(path), Ok(here)) => seen_from(&here, &path),
        _ => "headpond".into(),
    }
}

/// A program's path: relative, where it lies below the working directory, as it does after `cargo run`.
fn seen_from(here: &Path, path: &Path) -> String {
    match path.strip_prefix(here) {
        // A shell would look for a bare name elsewhere.
        Ok(name) if name.components().count() == 1 => format!("./{}", name.display()),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}

/// The demo's configuration owns its database: another's sources would no longer be polled.
async fn refuse_a_strangers_database(store: &dyn Store, path: &Path, now: DateTime<Utc>) -> Result<(), CliError> {
    match store.status(now).await?.sources.iter().find(|source| source.upstream != config::UPSTREAM) {
        None => Ok(()),
        Some(source) => Err(CliError::usage(format!(
            "--database {}: it holds copies of {}, which the demo would no longer refresh; name another file",
            path.display(),
            source.name
        ))),
    }
}

/// The simulated upstream in a task of its own. It outlives the service, whose last requests it still answers.
struct Simulated {
    upstream: Arc<Upstream>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Simulated {
    fn start(listener: TcpListener, clock: Arc<SystemClock>) -> Self {
        let upstream = Upstream::new(clock, SEED, Shares::DEMO);
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&upstream).serve(listener, stop.clone()));
        Self { upstream, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        // A panic has been reported by the panic hook.
        _ = self.task.await;
    }
}

/// Leads a newcomer: prints the steps as soon as they work, and shows what goes on.
struct Guide {
    store: Arc<dyn Store>,
    clock: Arc<SystemClock>,
    upstream: Arc<Upstream>,
    reads: Reads,
    sources: Vec<SourceName>,
    site: Site,
}

impl Guide {
    /// Goes on until it is dropped.
    async fn lead(self) -> Infallible {
        let (line, mut watch, mut has_printed) = (LiveLine::new(), Watch::default(), false);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.look(&line, &mut watch, &mut has_printed).await {
                // The service says what is wrong with its database; at its end it closes it.
                tracing::debug!(%error, "could not look at the database");
            }
            if has_printed && !line.is_seen() {
                return std::future::pending().await;
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "the command's result")]
    async fn look(&self, line: &LiveLine, watch: &mut Watch, has_printed: &mut bool) -> Result<(), StoreError> {
        if !*has_printed && self.is_filled().await? {
            line.step_aside(|| print!("{}", steps::steps(&self.site)));
            *has_printed = true;
        }
        if line.is_seen() {
            let copies = Copies::of(self.store.as_ref(), &self.sources, self.clock.now()).await?;
            line.show(&watch.look(self.reads.count(), self.upstream.stats.counts(), copies));
        }
        Ok(())
    }

    /// Whether each key has been tried, and what the steps look at is there and fresh.
    async fn is_filled(&self) -> Result<bool, StoreError> {
        let are_fresh = self.is_fresh("weather", steps::CITY).await? && self.is_fresh("users", steps::USER).await?;
        Ok(are_fresh && self.store.is_ready().await?)
    }

    async fn is_fresh(&self, source: &str, key: &str) -> Result<bool, StoreError> {
        let (Ok(source), Ok(key)) = (SourceName::new(source), Key::new(key)) else { return Ok(false) };
        let current = self.store.current(&source, &key).await?;
        Ok(current.is_some_and(|current| {
            ReadState::of(current.gone_since, current.freshness, self.clock.now()) == ReadState::Fresh
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_named_so_that_a_shell_here_finds_it() {
        for (here, path, seen) in [
            ("/clone", "/clone/target/release/headpond", "target/release/headpond"),
            ("/clone/target/release", "/clone/target/release/headpond", "./headpond"),
            ("/tmp", "/usr/local/bin/headpond", "/usr/local/bin/headpond"),
        ] {
            assert_eq!(seen_from(Path::new(here), Path::new(path)), seen);
        }
    }
}
