//! The runtime beside the serving threads, and what runs on it for approvals: time, telling people, those who wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::broadcast::Receiver;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::approval::ApprovalId;
use crate::usecase::approvals::{Approvals, ApprovalsError};
use crate::usecase::ports::Channels;

use super::cores::STACK_BYTES;
use super::{Parts, StartError};

/// How often time is looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How often it is looked whether something must be told, beside when something changed.
const DELIVER: Duration = Duration::from_secs(1);
/// How long changes are gathered before people are told: three votes at once are one message.
const GATHER: Duration = Duration::from_millis(150);
/// How many tell at a time: one receiver that hangs holds up one of them.
const TELLERS: usize = 4;
/// How long after a failure it is looked again whether approvals can still be approved.
const AGAIN: Duration = Duration::from_secs(5);
/// How often old idempotency keys are forgotten.
const TIDY: Duration = Duration::from_secs(3_600);

/// Starts the runtime.
pub(super) fn start_runtime() -> Result<Arc<Runtime>, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build();
    runtime.map(Arc::new).map_err(|source| StartError::Thread {
        what: "background runtime",
        source,
    })
}

/// What runs for approvals; ends with this value.
#[derive(Debug)]
pub(super) struct ApprovalTasks {
    stop: CancellationToken,
    approvals: Arc<Approvals>,
}

impl ApprovalTasks {
    /// Starts them on `runtime`.
    pub(super) fn start(
        parts: &Parts,
        channels: &Arc<dyn Channels>,
        runtime: &Handle,
    ) -> Option<Self> {
        let approvals = Arc::clone(parts.approvals.as_ref()?);
        let stop = CancellationToken::new();
        let run = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let stop = stop.clone();
            runtime.spawn(async move {
                stop.run_until_cancelled(work).await;
            });
        };
        run(Box::pin(watch(Arc::clone(&approvals))));
        run(Box::pin(sweep(Arc::clone(&approvals))));
        run(Box::pin(tidy(Arc::clone(&approvals))));
        for _ in 0..TELLERS {
            run(Box::pin(deliver(
                Arc::clone(&approvals),
                Arc::clone(channels),
            )));
        }
        run(Box::pin(strand(
            Arc::clone(&approvals),
            parts.reloader.activations(),
        )));
        Some(Self { stop, approvals })
    }

    /// Sends those away who wait; the rest goes on until this is dropped.
    pub(super) fn stop_watching(&self) {
        self.approvals.stop_watching();
    }
}

impl Drop for ApprovalTasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn watch(approvals: Arc<Approvals>) {
    approvals.tell_watchers().await;
}

async fn sweep(approvals: Arc<Approvals>) {
    // The lease must tell this process from every other; where the number comes from does not matter.
    let holder = Uuid::from_u128(fastrand::u128(..)).to_string();
    let mut interval = every(SWEEP);
    loop {
        interval.tick().await;
        loop {
            match approvals.sweep(&holder).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "approvals whose time has come could not be looked at; deadlines hold all the same");
                    break;
                }
            }
        }
    }
}

async fn tidy(approvals: Arc<Approvals>) {
    let mut interval = every(TIDY);
    loop {
        interval.tick().await;
        match approvals.tidy().await {
            Ok(count) => tracing::debug!(count, "old idempotency keys were forgotten"),
            Err(error) => tracing::warn!(%error, "old idempotency keys could not be forgotten"),
        }
    }
}

async fn deliver(approvals: Arc<Approvals>, channels: Arc<dyn Channels>) {
    let mut changes = approvals.changes();
    let mut interval = every(DELIVER);
    loop {
        wait_for_work(&mut changes, &mut interval).await;
        loop {
            match approvals.deliver(&channels).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "people could not be told; it will be tried again");
                    break;
                }
            }
        }
    }
}

async fn wait_for_work(changes: &mut Receiver<ApprovalId>, interval: &mut tokio::time::Interval) {
    tokio::select! {
        changed = changes.recv() => {
            // Some were missed, or none will come any more: the interval still does.
            if changed.is_err() {
                interval.tick().await;
            }
            tokio::time::sleep(GATHER).await;
            while changes.try_recv().is_ok() {}
        }
        _ = interval.tick() => {}
    }
}

async fn strand(approvals: Arc<Approvals>, mut changes: tokio::sync::watch::Receiver<u64>) {
    // Policies may have changed while nobody served.
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        match approvals.strand().await {
            Ok(0) | Err(ApprovalsError::NoPolicies) => {}
            Ok(count) => tracing::warn!(
                count,
                "approvals were ended: nobody is left who could approve them"
            ),
            Err(error) => {
                tracing::warn!(%error, "it could not be looked whether approvals can still be approved; it will be tried again");
                tokio::time::sleep(AGAIN).await;
                changes.mark_changed();
            }
        }
    }
}
