//! `headpond health`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use serde_json::Value;

use super::assemble;
use super::outcome::{CliError, Exit};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of an answer is read to say what it is about.
const MOST: usize = 16 * 1024;

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask whether it is ready: the database can be reached, and every source has been tried once.
    #[arg(long)]
    ready: bool,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    // Who checks health knows two outcomes: 0 and 1.
    let config = assemble::config(config_path).map_err(CliError::or_failed)?;
    let (path, good) = if args.ready { ("/readyz", "ready") } else { ("/healthz", "healthy") };
    let url = format!("http://{}{path}", reachable(config.server.listen));
    match tokio::time::timeout(PATIENCE, ask(&url)).await {
        Ok(Ok(())) => {
            println!("{good}: {url}");
            Ok(Exit::Well)
        }
        Ok(Err(problem)) => Err(CliError::failed(format!("not {good}: {url}: {problem}"))),
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            Err(CliError::failed(format!("not {good}: {url}: no answer within {seconds} seconds")))
        }
    }
}

/// Where a server can be reached from its own machine that listens there.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Asks, and says what is wrong.
async fn ask(url: &str) -> Result<(), String> {
    // The client takes the process's provider and panics without one, though nothing is encrypted here.
    _ = CryptoProvider::install_default(ring::default_provider());
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).tls_certs_only([]);
    let client = client.build().map_err(|error| error.to_string())?;
    let mut answer = client.get(url).send().await.map_err(|error| with_causes(&error.without_url()))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MOST {
            break;
        }
    }
    let problem: Option<Value> = serde_json::from_slice(&body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")).and_then(Value::as_str);
    Err(detail.map_or(status.to_string(), |detail| format!("{status}: {}", detail.replace(char::is_control, " "))))
}

/// What is wrong is said by the innermost cause.
fn with_causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or(error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_this_machine() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
