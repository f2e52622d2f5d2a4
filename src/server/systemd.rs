//! Tells systemd how it goes, where systemd started the server. Elsewhere nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::background::every;

/// The server serves.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The server reads its files again; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd was not told of the reload"),
    }
}

/// The server stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells that the server is alive, as often as systemd wants to hear it, until `stop`.
pub(super) async fn keep_alive(stop: CancellationToken) {
    let Some(within) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut interval = every(half(within));
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// Twice as often as must be, so that one late time does no harm.
fn half(within: Duration) -> Duration {
    within
        .checked_div(2)
        .unwrap_or(within)
        .max(Duration::from_millis(1))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
