//! The stage on which the examples play: an upstream service and Headpond as processes of their own, a database, and an app
//! that this process serves. None of it is needed to use Headpond; look into each example's `app.rs` and `headpond.toml`
//! for that.
#![allow(dead_code, unused_imports, unused_macros, reason = "each example uses a part of it")]

mod answers;
mod database;
mod process;
pub mod user_service;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use clap::Parser;
use reqwest::{Method, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

pub use answers::{Failed, with_etag};
pub use database::Database;
pub(crate) use database::on;
pub use process::Service;

/// What goes wrong on the stage ends the example, which tells it.
pub type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Makes the router of an example's upstream service, which keeps its data in this directory and has them after a restart.
pub type Upstream = fn(&Path) -> Result<Router>;

/// What no step may take longer than.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
struct Args {
    /// An empty database for the app and Headpond, `postgres://…` or `sqlite://PATH`; by default a SQLite file that goes at the
    /// end.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Go on at the end, until Ctrl-C.
    #[arg(long)]
    stay: bool,
}

/// Where an example plays.
pub struct Stage {
    /// The database of the app, in which Headpond keeps its copies too.
    pub database: Database,
    url: String,
    directory: TempDir,
    client: reqwest::Client,
}

/// Runs an example. The same program is also its upstream service and its Headpond, as which it starts itself.
pub fn main(upstream: Upstream, play: impl AsyncFnOnce(&Stage) -> Result<Vec<Service>>) -> ExitCode {
    if let Some(part) = env::var_os(process::PART) {
        process::end_with_the_example();
        if part == "headpond" {
            return headpond::cli::main();
        }
        return ended(process::serve_upstream(upstream));
    }
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    ended(runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let stage = Stage::new(args.database).await?;
            let services = play(&stage).await?;
            if args.stay {
                println!("\nEverything goes on until Ctrl-C.");
                tokio::signal::ctrl_c().await?;
            }
            drop(services);
            Ok(())
        })
    }))
}

fn ended(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Stage {
    async fn new(database: Option<String>) -> Result<Self> {
        // Whoever has one already keeps it.
        _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir()?;
        let url = database.unwrap_or_else(|| format!("sqlite://{}", directory.path().join("app.db").display()));
        let database = Database::connect(&url).await.map_err(|error| format!("--database: {error}"))?;
        Ok(Self { database, url, directory, client: reqwest::Client::builder().no_proxy().build()? })
    }

    /// Starts the upstream service, and waits until it answers.
    pub async fn upstream(&self) -> Result<Service> {
        let directory = self.directory.path().join("upstream");
        std::fs::create_dir(&directory)?;
        let mut service = Service::new("upstream", &self.directory, |command, address| {
            command.arg(address).arg(&directory);
        })?;
        service.start().await?;
        Ok(service)
    }

    /// Starts Headpond with this configuration on the app's database, and waits until it has asked for each key once. It listens, and
    /// asks the upstream, on the ports that there are for them here. `settings` take the place of others that are in the file, as
    /// environment variables without their `HEADPOND__`.
    pub async fn headpond(&self, config: &str, upstream: &Service, settings: &[(&str, &str)]) -> Result<Service> {
        let file = self.directory.path().join("headpond.toml");
        std::fs::write(&file, config.replace("http://127.0.0.1:8081", &upstream.url("")))?;
        let mut service = Service::new("headpond", &self.directory, |command, address| {
            command.args(["serve", "--config"]).arg(&file);
            command.env("HEADPOND__SERVER__LISTEN", address).env("HEADPOND__DATABASE__URL", &self.url);
            for (name, value) in settings {
                println!("    HEADPOND__{name}={value}");
            }
            command.envs(settings.iter().map(|(name, value)| (format!("HEADPOND__{name}"), value)));
        })?;
        service.start().await?;
        let ready = service.url("/readyz");
        self.until("Headpond has asked for each key", async || {
            Ok(self.get(&ready).await?.status().is_success().then_some(()))
        })
        .await?;
        Ok(service)
    }

    /// Serves the app; its origin.
    pub async fn serve(&self, app: Router) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async { axum::serve(listener, app).await });
        Ok(origin)
    }

    /// What answers a GET.
    pub async fn get(&self, url: &str) -> Result<Response> {
        Ok(self.client.get(url).send().await?)
    }

    /// The JSON that answers a GET.
    pub async fn json(&self, url: &str) -> Result<Value> {
        let answer = self.get(url).await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Sends JSON.
    pub async fn send(&self, method: Method, url: &str, body: &Value) -> Result<Response> {
        let request = self.client.request(method, url).header("content-type", "application/json");
        Ok(request.body(body.to_string()).send().await?.error_for_status()?)
    }

    /// What comes of asking a service that is not there, in a few words.
    pub async fn try_in_vain(&self, url: &str) -> Result<String> {
        match self.client.get(url).send().await {
            Ok(answer) => Err(format!("{url} answered with {}", answer.status()).into()),
            Err(error) => Ok(innermost(&error)),
        }
    }

    /// Looks again and again until `probe` gives something.
    pub async fn until<T>(&self, what: &str, probe: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
        let looks = async {
            loop {
                if let Some(found) = probe().await? {
                    return Ok(found);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looks).await.map_err(|_| format!("{what}: not within {PATIENCE:?}"))?
    }
}

/// What an error says that others are wrapped around.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
