//! What the service manager is told, where systemd started the process: `Type=notify` or `notify-reload`, `WatchdogSec=`
//! (sd_notify(3), systemd.service(5)). Anywhere else nothing happens.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// The service answers: what waits for it may start.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// A reload has begun; [`ready`] ends it. The time lets systemd tell this reload from an earlier one.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now, NotifyState::Status("reading the configuration again")]);
    }
}

/// What is under way is being finished.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is under way")]);
}

/// Shows twice in each watchdog interval that the process still gets something done, until `stop` is cancelled.
///
/// That a database or an upstream can't be reached is no reason to be restarted, so only the runtime is watched.
pub(super) async fn keep_watchdog(stop: CancellationToken) {
    let Some(interval) = sd_notify::watchdog_enabled() else { return stop.cancelled().await };
    let mut half = tokio::time::interval((interval / 2).max(std::time::Duration::from_millis(1)));
    while stop.run_until_cancelled(half.tick()).await.is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told how the service stands");
    }
}
