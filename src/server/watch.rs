//! Reloads when the directory changes, when it is time to look again, and at SIGHUP; waits for the order to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::storage::policy_dir::{DirWatch, PolicyDir};
use crate::usecase::Reloader;

use super::health::Health;
use super::identities::Identities;
use super::{Parts, StartError, systemd};

/// How long a directory must be quiet before it is read: editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// How often the thread looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often a directory that cannot be watched is read.
const UNWATCHED_RESCAN: Duration = Duration::from_secs(1);

/// The thread that watches; ends with this value.
#[derive(Debug)]
pub(super) struct WatchThread {
    stopped: Arc<AtomicBool>,
}

impl Drop for WatchThread {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Starts to watch, and to tell health checks when the first policies come into force.
pub(super) fn start(
    parts: &Parts,
    rescan_interval: Duration,
    health: Health,
    background: &Handle,
) -> Result<WatchThread, StartError> {
    let mut activations = parts.reloader.activations();
    background.spawn(async move {
        while activations.changed().await.is_ok() {
            health.set(true).await;
        }
    });
    let stopped = Arc::new(AtomicBool::new(false));
    if let Some(dir) = parts.policy_dir.clone() {
        let watcher = Watcher {
            dir,
            reloader: Arc::clone(&parts.reloader),
            rescan_interval,
            stopped: Arc::clone(&stopped),
        };
        std::thread::Builder::new()
            .name("policy-watch".to_owned())
            .spawn(move || watcher.run())
            .map_err(|source| StartError::Thread {
                what: "watching thread",
                source,
            })?;
    }
    Ok(WatchThread { stopped })
}

struct Watcher {
    dir: PolicyDir,
    reloader: Arc<Reloader>,
    rescan_interval: Duration,
    stopped: Arc<AtomicBool>,
}

impl Watcher {
    fn run(self) {
        while !self.is_stopped() {
            match self.dir.watch() {
                Ok(watch) => {
                    self.reloader.reload();
                    self.wait_watched(&watch);
                }
                Err(error) => {
                    tracing::debug!(%error, "the policy directory cannot be watched, and is read every second");
                    self.wait_unwatched();
                }
            }
        }
    }

    /// Reloads at every change, until it is time to look again in any case, or another directory must be watched.
    fn wait_watched(&self, watch: &DirWatch) {
        let mut waited = Duration::ZERO;
        while waited < self.rescan_interval && watch.is_of(&self.dir) && !self.is_stopped() {
            if watch.wait(PATIENCE, QUIET) {
                self.reloader.reload();
            }
            waited = waited.saturating_add(PATIENCE);
        }
    }

    fn wait_unwatched(&self) {
        self.reloader.reload();
        std::thread::sleep(UNWATCHED_RESCAN.min(self.rescan_interval));
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What is read again at SIGHUP.
#[derive(Debug)]
pub(super) struct Reloads {
    pub(super) reloader: Arc<Reloader>,
    pub(super) identities: Identities,
}

impl Reloads {
    /// Reads everything again. How it went is in the log and in the status.
    pub(super) async fn run(&self) {
        systemd::reloading();
        let reloader = Arc::clone(&self.reloader);
        tokio::task::spawn_blocking(move || reloader.reload())
            .await
            .ok();
        self.identities.reload().await;
        systemd::ready();
    }
}

/// The signals that a server minds, from the moment this is made: before that, the first of them ends the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Begins to receive them, within a runtime.
    pub(super) fn receive() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT; at each SIGHUP runs `reloads`, if there are any.
    pub(super) async fn until_stopped(&mut self, reloads: Option<&Reloads>) {
        let Self {
            terminate,
            interrupt,
            hang_up,
        } = self;
        let reloading = async {
            loop {
                // The signal cannot be lost: there are no others who would receive it.
                hang_up.recv().await;
                if let Some(reloads) = reloads {
                    reloads.run().await;
                }
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = reloading => {}
        }
    }
}
