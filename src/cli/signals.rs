//! SIGTERM and SIGINT: the first asks to stop, the second to stop at once. SIGHUP asks `serve` to read its configuration
//! again.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::outcome::CliError;

/// How work is told to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// Begin nothing new.
    pub(super) stop: CancellationToken,
    /// Drop what is still under way.
    pub(super) abandon: CancellationToken,
}

/// SIGHUPs, from now on; before, one would have ended the process.
pub(super) fn hangups() -> Result<Signal, CliError> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| CliError::usage(format!("can't listen for signals: {error}")))
}

/// Cancels `stop` at the first signal, and `abandon` when the grace has passed that holds then. A second signal ends the process
/// there and then, which loses nothing: what is committed is committed, and leases run out.
pub(super) fn watch(grace: impl Fn() -> Duration + Send + 'static) -> Result<Stop, CliError> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = Stop::default();
    let told = stop.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        let grace = grace();
        tracing::info!(grace = %humantime::format_duration(grace), "stopping; a second signal stops at once");
        told.stop.cancel();
        let again = either(&mut terminate, &mut interrupt);
        let mut again = std::pin::pin!(again);
        if tokio::time::timeout(grace, &mut again).await.is_err() {
            told.abandon.cancel();
            again.await;
        }
        tracing::warn!("stopped at once");
        std::process::exit(1);
    });
    Ok(stop)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
