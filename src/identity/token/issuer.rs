//! An issuer and its keys as they stand, renewed by one future.
//!
//! Only that future fetches. A call that needs other keys asks it and waits a little: so a call that goes away cancels nothing, and
//! any number of calls cause one fetch.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::usecase::ports::Clock;

use super::IssuerSettings;
use super::key_fault::KeyFault;
use super::key_set::{self, SigningKey};
use super::key_source::KeySource;

/// How long keys count when they cannot be renewed.
const MAX_STALENESS: SignedDuration = SignedDuration::from_hours(24);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// How often, at most, tokens with unknown keys cause a fetch.
const BETWEEN_ASKED: Duration = Duration::from_secs(30);
/// How long a call waits for a fetch: a little longer than that takes.
const PATIENCE: Duration = Duration::from_secs(6);

/// An issuer's keys, as of one fetch.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Arc<[SigningKey]>,
    /// Another number for other keys.
    pub(super) epoch: u64,
    fetched_at: Timestamp,
}

/// How an issuer's keys are doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSigns {
    /// What the configuration calls the issuer.
    pub name: String,
    /// When its keys were last read; none if never.
    pub fetched_at: Option<Timestamp>,
    /// How many keys there are.
    pub keys: usize,
    /// How often, since the start, they could not be read.
    pub failures: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    is_fetching: bool,
    finished: u64,
    /// When a token last caused a fetch.
    asked_at: Option<Instant>,
}

/// An issuer and its keys as they stand.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) settings: IssuerSettings,
    source: KeySource,
    keys: ArcSwapOption<KeySet>,
    progress: watch::Sender<Progress>,
    unknown_key: Notify,
    reload: Notify,
    failures: AtomicU64,
}

impl Issuer {
    pub(super) fn new(settings: IssuerSettings, source: KeySource) -> Self {
        Self {
            settings,
            source,
            keys: ArcSwapOption::empty(),
            progress: watch::Sender::default(),
            unknown_key: Notify::new(),
            reload: Notify::new(),
            failures: AtomicU64::new(0),
        }
    }

    /// The keys that count at `now`; none if there are none yet, or none that were seen in the last 24 hours.
    pub(super) fn keys(&self, now: Timestamp) -> Option<Arc<KeySet>> {
        let keys = self.keys.load_full()?;
        (now.duration_since(keys.fetched_at) <= MAX_STALENESS).then_some(keys)
    }

    pub(super) fn signs(&self) -> IssuerSigns {
        let keys = self.keys.load();
        IssuerSigns {
            name: self.settings.name.clone(),
            fetched_at: keys.as_ref().map(|keys| keys.fetched_at),
            keys: keys.as_ref().map_or(0, |keys| keys.keys.len()),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Returns when there may be other keys than before; at once if they were asked for a short while ago.
    pub(super) async fn ask_for_other_keys(&self) {
        let progress = self.progress.subscribe();
        let seen = *progress.borrow();
        if !seen.is_fetching {
            if is_recent(seen.asked_at) {
                return;
            }
            self.unknown_key.notify_one();
        }
        wait_for(progress, seen.finished.saturating_add(1)).await;
    }

    /// Has the keys fetched, however short a while ago they were, and returns when that was tried.
    pub(super) async fn reload(&self) {
        let progress = self.progress.subscribe();
        let seen = *progress.borrow();
        self.reload.notify_one();
        // A fetch under way may have begun before what caused this.
        let fetches = if seen.is_fetching { 2 } else { 1 };
        wait_for(progress, seen.finished.saturating_add(fetches)).await;
    }

    /// Fetches now, and again whenever it is time or somebody asks.
    pub(super) async fn keep_fresh(&self, clock: &dyn Clock) {
        loop {
            let pause = match self.fetch(clock).await {
                Ok(()) => self.source.interval(),
                Err(_) => RETRY.min(self.source.interval()),
            };
            self.wait(Instant::now() + pause).await;
        }
    }

    /// Waits for `at`, or for somebody who may ask.
    async fn wait(&self, at: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(at) => return,
                () = self.reload.notified() => return,
                () = self.unknown_key.notified() => {
                    // INVARIANT (rare-refetch): here and nowhere else a token causes a fetch.
                    if !is_recent(self.progress.borrow().asked_at) {
                        self.progress.send_modify(|progress| progress.asked_at = Some(Instant::now()));
                        return;
                    }
                }
            }
        }
    }

    async fn fetch(&self, clock: &dyn Clock) -> Result<(), KeyFault> {
        self.progress
            .send_modify(|progress| progress.is_fetching = true);
        let read = self.source.read().await;
        let outcome = read.and_then(|bytes| key_set::read(&bytes));
        let outcome = match outcome {
            Ok(keys) => {
                self.store(keys, clock.now());
                Ok(())
            }
            Err(fault) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.log(&fault, clock.now());
                Err(fault)
            }
        };
        self.progress.send_modify(|progress| {
            progress.is_fetching = false;
            progress.finished = progress.finished.saturating_add(1);
        });
        outcome
    }

    fn store(&self, keys: Vec<SigningKey>, fetched_at: Timestamp) {
        let old = self.keys.load();
        let old_epoch = old.as_ref().map_or(0, |old| old.epoch);
        let is_same = old.as_ref().is_some_and(|old| are_same(&old.keys, &keys));
        let epoch = if is_same {
            old_epoch
        } else {
            tracing::info!(issuer.name = %self.settings.name, keys = keys.len(), "a token issuer's keys are new");
            old_epoch.saturating_add(1)
        };
        self.keys.store(Some(Arc::new(KeySet {
            keys: keys.into(),
            epoch,
            fetched_at,
        })));
    }

    fn log(&self, fault: &KeyFault, now: Timestamp) {
        let name = &self.settings.name;
        let cause = causes_of(fault);
        if self.keys(now).is_some() {
            tracing::warn!(issuer.name = %name, from = %self.source, error = %fault, cause, "a token issuer's keys could not be renewed; those from before count for up to 24 hours");
        } else {
            tracing::error!(issuer.name = %name, from = %self.source, error = %fault, cause, "a token issuer's keys could not be read; its tokens are refused");
        }
    }
}

/// Everything behind a fault, as one text.
fn causes_of(fault: &KeyFault) -> String {
    let mut causes = Vec::new();
    let mut next = fault.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.join(": ")
}

fn is_recent(asked_at: Option<Instant>) -> bool {
    asked_at.is_some_and(|at| at.elapsed() < BETWEEN_ASKED)
}

async fn wait_for(mut progress: watch::Receiver<Progress>, finished: u64) {
    let fetched = progress.wait_for(|progress| progress.finished >= finished);
    // Without an answer, the keys from before must do.
    timeout(PATIENCE, fetched).await.ok();
}

fn are_same(some: &[SigningKey], others: &[SigningKey]) -> bool {
    let prints =
        |keys: &[SigningKey]| -> Vec<_> { keys.iter().map(|key| key.fingerprint).collect() };
    prints(some) == prints(others)
}
