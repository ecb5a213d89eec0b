//! Reading the configuration again, when SIGHUP or an administrator asks for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::present::{NotReplaced, Present};
use crate::api::reload::{NotReloaded, Reloaded, Reply};
use crate::cli::outcome::CliError;
use crate::cli::{assemble, signals, systemd};
use crate::config::{Config, Environment};

/// Where the configuration is read from, and the SIGHUPs that ask for it to be read again.
pub(in crate::cli) struct Origin {
    path: PathBuf,
    environment: Arc<dyn Environment + Send + Sync>,
    hangups: Signal,
}

impl Origin {
    /// From now on a SIGHUP asks for a reload; before, one would have ended the process.
    pub(in crate::cli) fn new(
        path: &Path,
        environment: impl Environment + Send + Sync + 'static,
    ) -> Result<Self, CliError> {
        Ok(Self { path: path.to_owned(), environment: Arc::new(environment), hangups: signals::hangups()? })
    }
}

/// Reads the configuration again and puts it in place of the present one, one reload after the other.
pub(super) struct Reloader {
    origin: Origin,
    present: Present,
}

impl Reloader {
    pub(super) fn new(origin: Origin, present: Present) -> Self {
        Self { origin, present }
    }

    /// The configuration that holds.
    pub(super) fn present(&self) -> &Present {
        &self.present
    }

    /// Reloads whenever it is asked to, until `stop` is cancelled. What is asked for while a reload goes on is done by one
    /// more, however often it was asked for.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Reply>, stop: CancellationToken) {
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                () = stop.cancelled() => return,
                _ = self.origin.hangups.recv() => {}
                Some(reply) = asked.recv() => waiting.push(reply),
            }
            while let Ok(reply) = asked.try_recv() {
                waiting.push(reply);
            }
            // Broken off by the end of the process, it is mended by the next start.
            systemd::reloading();
            let Some(reloaded) = stop.run_until_cancelled(self.reload()).await else { return };
            systemd::ready();
            for reply in waiting {
                // Whoever asked may have stopped waiting.
                _ = reply.send(reloaded.clone());
            }
        }
    }

    /// Reloads once, and logs how it went.
    async fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
        let reloaded = self.read_and_replace().await;
        match &reloaded {
            Ok(Reloaded { warnings }) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                let sources = self.present.config().sources.len();
                tracing::info!(sources, "reloaded: the configuration was read again and holds");
            }
            Err(NotReloaded::Invalid(errors)) => {
                for error in errors {
                    tracing::error!("{error}");
                }
                tracing::error!(errors = errors.len(), "not reloaded: the old configuration stays in force");
            }
            Err(NotReloaded::Unavailable(why)) => tracing::error!("not reloaded: {why}"),
        }
        reloaded
    }

    async fn read_and_replace(&mut self) -> Result<Reloaded, NotReloaded> {
        let (path, environment) = (self.origin.path.clone(), Arc::clone(&self.origin.environment));
        // Reading many keys takes a moment, in which this thread could answer readers.
        let loaded = tokio::task::spawn_blocking(move || assemble::load(&path, environment.as_ref())).await;
        let loaded = loaded.map_err(|error| NotReloaded::Unavailable(format!("reading it ended: {error}")))?;
        let loaded = loaded
            .map_err(|errors| NotReloaded::Invalid(errors.as_slice().iter().map(ToString::to_string).collect()))?;
        let mut config = loaded.config;
        let mut warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(keep_what_can_not_change(self.present.config(), &mut config)?);
        match self.present.replace(config).await {
            Ok(()) => Ok(Reloaded { warnings }),
            Err(NotReplaced::Refused(errors)) => Err(NotReloaded::Invalid(errors)),
            Err(NotReplaced::OldHolds(error)) => Err(NotReloaded::Unavailable(format!(
                "{error}; the old configuration stays in force, but sources for which the new one asks otherwise \
                 rest until a reload gets through: reload again"
            ))),
            Err(NotReplaced::NewHolds(error)) => Err(NotReloaded::Unavailable(format!(
                "{error}; the new configuration is in force, but some of the keys that it no longer lists are still \
                 polled, reload again"
            ))),
        }
    }
}

/// Puts back what a running process can't change, and says so for each.
fn keep_what_can_not_change(present: &Config, next: &mut Config) -> Result<Vec<String>, NotReloaded> {
    let mut kept = Vec::new();
    let mut keep =
        |setting: &str| kept.push(format!("{setting}: this needs a restart; until then the old value holds"));
    let (old, new) = (present.server.listen, next.server.listen);
    if old != new {
        // What may be read without a token was checked for the new address, and other machines reach the old one.
        if is_local(new) && !is_local(old) {
            let problem = format!(
                "server.listen: it can't become an address of this machine alone while others reach {old}; restart instead"
            );
            return Err(NotReloaded::Invalid(vec![problem]));
        }
        keep("server.listen");
        next.server.listen = old;
    }
    if present.server.max_connections != next.server.max_connections {
        keep("server.max_connections");
        next.server.max_connections = present.server.max_connections;
    }
    if present.database.url.expose_secret() != next.database.url.expose_secret() {
        keep("database.url");
        next.database.url = present.database.url.clone();
    }
    if present.database.readers != next.database.readers {
        keep("database.readers");
        next.database.readers = present.database.readers;
    }
    Ok(kept)
}

fn is_local(address: std::net::SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
