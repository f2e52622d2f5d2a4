//! What keeps the audit log going while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::audit::proto::{Anchor, PolicyActivated, PolicyRejected, record};
use crate::server::background::every;
use crate::server::health::Health;
use crate::storage::decision_log::BufferedLog;
use crate::usecase::decision_log::Seal;
use crate::usecase::{PolicyEvent, Reloader};

use super::Audit;
use super::control::Control;
use super::retention::prune_all;
use super::witness::{WitnessRun, newest};

/// How often what waits in the control log gets its place.
const SEQUENCE: Duration = Duration::from_millis(200);
/// How often the control log is signed and copied.
const ADVANCE: Duration = Duration::from_secs(1);
/// How often the control log says how long the decision log is.
const ANCHOR: Duration = Duration::from_secs(10);
/// How often it is looked whether decisions can be recorded.
const LOOK: Duration = Duration::from_millis(250);
/// How long they could not be, when health checks are told.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(1);
/// How often a witness is asked.
const WITNESS: Duration = Duration::from_secs(60);
/// How often old records are removed.
const PRUNE: Duration = Duration::from_secs(600);
/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(2);
/// How many problems of a policy set are recorded.
const PROBLEMS: usize = 20;

/// What runs for the audit log; ends with this value.
#[derive(Debug)]
pub(in crate::server) struct AuditTasks {
    stop: CancellationToken,
}

impl AuditTasks {
    /// Starts them on `runtime`.
    pub(in crate::server) fn start(
        audit: &Audit,
        (health, reloader): (Health, Arc<Reloader>),
        runtime: &Handle,
    ) -> Self {
        let stop = CancellationToken::new();
        let run = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let stop = stop.clone();
            runtime.spawn(async move {
                stop.run_until_cancelled(work).await;
            });
        };
        let control = || Arc::clone(&audit.control);
        run(Box::pin(sequence(control())));
        run(Box::pin(advance(control())));
        run(Box::pin(anchor(control(), Arc::clone(&audit.log))));
        run(Box::pin(copy_heads(control(), audit.heads_interval)));
        run(Box::pin(tell_health(
            (Arc::clone(&audit.log), Arc::clone(&audit.seal)),
            health,
            reloader,
        )));
        if audit.keep_for.is_positive() {
            let folder = audit.folder.join("decision");
            run(Box::pin(remove_old(control(), folder, audit.keep_for)));
        }
        let witnesses = std::mem::take(
            &mut *audit
                .witnesses
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for witness in witnesses {
            let folder = audit.folder.join("control");
            run(Box::pin(ask_witness(control(), folder, witness)));
        }
        let policies = Arc::clone(&audit.policies);
        let log = Arc::clone(&audit.log);
        run(Box::pin(tell_policies(control(), log, policies)));
        Self { stop }
    }
}

impl Drop for AuditTasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Warns at the first failure and tells when it is over: what fails once a second must not fill the log.
#[derive(Default)]
struct Complaints {
    is_failing: bool,
}

impl Complaints {
    fn note(&mut self, result: anyhow::Result<()>, what: &'static str) {
        match result {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!(what, "it works again");
            }
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(
                    what,
                    error = format!("{error:#}"),
                    "it does not work; it is tried again"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }
}

async fn sequence(control: Arc<Control>) {
    let mut interval = every(SEQUENCE);
    let mut complaints = Complaints::default();
    loop {
        interval.tick().await;
        complaints.note(
            control.sequence().await,
            "giving records of the control log their places",
        );
    }
}

async fn advance(control: Arc<Control>) {
    let mut interval = every(ADVANCE);
    let mut complaints = Complaints::default();
    loop {
        interval.tick().await;
        complaints.note(
            control.advance().await,
            "signing and copying the control log",
        );
    }
}

async fn copy_heads(control: Arc<Control>, period: Duration) {
    let mut interval = every(period);
    let mut complaints = Complaints::default();
    loop {
        interval.tick().await;
        complaints.note(
            control.copy_head().await,
            "copying the head of the control log outside",
        );
    }
}

/// Tells health checks when decisions cannot be recorded, and when they can be again.
async fn tell_health(
    (log, seal): (Arc<BufferedLog>, Arc<Seal>),
    health: Health,
    reloader: Arc<Reloader>,
) {
    let mut interval = every(LOOK);
    let (mut failing_for, mut is_told) = (Duration::ZERO, false);
    let mut rounds = 0;
    loop {
        interval.tick().await;
        let stats = log.stats();
        let waits = stats.accepted > stats.logged.saturating_add(stats.lost);
        // A disk that hangs fails nothing: what is accepted only waits.
        let hangs = waits && stats.rounds == rounds;
        rounds = stats.rounds;
        let is_well = stats.is_writable && !hangs && seal.reason().is_none();
        failing_for = if is_well {
            Duration::ZERO
        } else {
            failing_for.saturating_add(LOOK)
        };
        if is_well && is_told {
            is_told = false;
            health.set(reloader.active().load().is_some()).await;
        } else if failing_for >= UNHEALTHY_AFTER {
            // Again each time: a reload may have said otherwise.
            is_told = true;
            health.set(false).await;
        }
    }
}

async fn remove_old(control: Arc<Control>, folder: PathBuf, keep_for: SignedDuration) {
    let mut interval = every(PRUNE);
    let mut complaints = Complaints::default();
    loop {
        interval.tick().await;
        let pruned = prune_all(&control, &folder, keep_for).await;
        complaints.note(pruned.map(drop), "removing old records of decisions");
    }
}

async fn ask_witness(control: Arc<Control>, folder: PathBuf, mut witness: WitnessRun) {
    let mut interval = every(WITNESS);
    let mut complaints = Complaints::default();
    loop {
        interval.tick().await;
        let cosigned = cosign(&control, &folder, &mut witness).await;
        complaints.note(cosigned, "having a witness cosign the control log");
    }
}

/// Has `witness` cosign the newest checkpoint, and keeps that beside the other heads.
async fn cosign(control: &Control, folder: &Path, witness: &mut WitnessRun) -> anyhow::Result<()> {
    let Some((note, reader)) = block_in_place(|| newest(folder))? else {
        return Ok(());
    };
    let cosigned = witness.run(&note, &reader).await;
    if let Err(error) = &cosigned
        && error.is_contradiction()
    {
        // Told every time: a failure before may have hidden it.
        tracing::warn!(witness = witness.name(), "{error}");
    }
    match cosigned.with_context(|| format!("`audit.witness.{}`", witness.name()))? {
        Some(note) => control.keep_cosigned(note).await,
        None => Ok(()),
    }
}

async fn anchor(control: Arc<Control>, log: Arc<BufferedLog>) {
    let mut interval = every(ANCHOR);
    let mut complaints = Complaints::default();
    let mut anchored = (String::new(), 0);
    loop {
        interval.tick().await;
        let head = log.stats().head;
        if head.size == 0 || anchored == (head.incarnation.clone(), head.size) {
            continue;
        }
        let anchor = Anchor {
            incarnation: head.incarnation.clone(),
            size: head.size,
            root: head.root.as_bytes().to_vec(),
        };
        let noted = control.note(record::What::Anchor(anchor)).await;
        if noted.is_ok() {
            anchored = (head.incarnation, head.size);
        }
        complaints.note(
            noted.map_err(Into::into),
            "recording how long the decision log is",
        );
    }
}

async fn tell_policies(
    control: Arc<Control>,
    log: Arc<BufferedLog>,
    policies: Arc<Mutex<UnboundedReceiver<PolicyEvent>>>,
) {
    let mut complaints = Complaints::default();
    let mut policies = policies.lock().await;
    while let Some(event) = policies.recv().await {
        let what = what_of(&event, log.stats().head.incarnation);
        // It is not let go of until it is recorded.
        loop {
            let noted = control.note(what.clone()).await;
            let is_noted = noted.is_ok();
            complaints.note(
                noted.map_err(Into::into),
                "recording which policies are in force",
            );
            if is_noted {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Records what was loaded and is not recorded yet, when the server stops.
pub(super) async fn tell_waiting(
    control: &Control,
    policies: &Mutex<UnboundedReceiver<PolicyEvent>>,
    log: &BufferedLog,
) -> anyhow::Result<()> {
    let mut policies = policies.lock().await;
    while let Ok(event) = policies.try_recv() {
        control
            .note(what_of(&event, log.stats().head.incarnation))
            .await?;
    }
    Ok(())
}

fn what_of(event: &PolicyEvent, incarnation: String) -> record::What {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    match event {
        PolicyEvent::Activated(info) => record::What::PolicyActivated(PolicyActivated {
            incarnation,
            policy_version: info.version.as_str().to_owned(),
            permits: count(info.permits),
            forbids: count(info.forbids),
            gates: count(info.gates),
            rules: count(info.rules),
            entities: count(info.entities),
        }),
        PolicyEvent::Rejected { version, problems } => {
            let version = version.as_ref().map(|version| version.as_str().to_owned());
            record::What::PolicyRejected(PolicyRejected {
                incarnation,
                policy_version: version.unwrap_or_default(),
                problems: problems
                    .iter()
                    .filter(|problem| problem.is_error())
                    .take(PROBLEMS)
                    .map(ToString::to_string)
                    .collect(),
            })
        }
    }
}
