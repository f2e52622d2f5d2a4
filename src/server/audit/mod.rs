//! Plugs the audit log together: keys, the control log, the decision log of this replica, and what keeps them going.
//!
//! Never: a record's form, or a judgement about one.

mod control;
mod copy;
mod counts;
mod reading;
mod replica;
mod retention;
mod tasks;
mod witness;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::audit::proto::{ReplicaStopped, record};
use crate::audit::redaction::RedactionKey;
use crate::config::{AuditConfig, Config, to_std};
use crate::storage::audit_folder::AuditFolder;
use crate::storage::audit_keys::AuditKeys;
use crate::storage::decision_log::{
    BufferedLog, DecisionLogSettings, DecisionLogThread, DecisionLogWriter, LogSummary, OpenLog,
};
use crate::storage::log_folder::FolderSettings;
use crate::usecase::approval_store::ApprovalStore;
use crate::usecase::audit_reading::{LogLibrary, ReadLog};
use crate::usecase::control_log::ControlLog;
use crate::usecase::decision_log::{DecisionLog, Seal};
use crate::usecase::ports::Clock;
use crate::usecase::sequencing::{ControlKeys, Sequencer};
use crate::usecase::{PolicyEvent, Recorder};

use control::Control;
use counts::Counts;
use reading::ReadNotes;
use replica::{ProgramFacts, ReplicaLogs, log_folder, mark_ended};

use witness::WitnessRun;

pub(super) use tasks::AuditTasks;

/// How many threads append beside the serving ones.
const OTHER_THREADS: usize = 4;
/// No record of a decision has fewer bytes.
const SMALLEST_RECORD: usize = 64;
/// How long the end of the control log may take when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A store that keeps approvals and the control log in one.
#[derive(Clone, Debug)]
pub(super) struct Stores {
    pub(super) approvals: Arc<dyn ApprovalStore>,
    pub(super) control: Arc<dyn ControlLog>,
    /// Names this process where leases are taken: the same name again for the only process that can have the store.
    pub(super) holder: String,
}

/// The audit log of a running server.
#[derive(Debug)]
pub(super) struct Audit {
    folder: PathBuf,
    control: Arc<Control>,
    log: Arc<BufferedLog>,
    counts: Arc<Counts>,
    thread: Mutex<Option<DecisionLogThread>>,
    seal: Arc<Seal>,
    redaction_key: RedactionKey,
    heads_interval: Duration,
    keep_for: SignedDuration,
    /// Taken by the tasks that ask them.
    witnesses: Mutex<Vec<WitnessRun>>,
    /// Tells what is loaded; taken by the task that records it.
    policies: Arc<tokio::sync::Mutex<UnboundedReceiver<PolicyEvent>>>,
    /// Keeps other processes out of the folder.
    _lock: File,
}

/// An audit folder that this process has for itself, with the keys in it.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) keys: AuditKeys,
    lock: File,
}

/// Takes the audit folder for this process, with its keys: those that are there, or new ones where there is no log yet.
pub(super) fn claim(config: &AuditConfig) -> anyhow::Result<Claimed> {
    let folder = &config.path;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("`audit.path`: `{}` cannot be made", folder.display()))?;
    let lock = lock(folder)?;
    let has_log = folder.join("control").join("key").exists();
    let keys = AuditKeys::read_or_make(&folder.join("keys"), config.cluster.as_deref(), has_log)
        .context("`audit.path`: the keys of the audit log")?;
    Ok(Claimed { keys, lock })
}

impl Audit {
    /// Opens the log in the configured folder, and begins a decision log.
    pub(super) fn open(
        config: &Config,
        claimed: Claimed,
        stores: &Stores,
        (clock, policies): (Arc<dyn Clock>, UnboundedReceiver<PolicyEvent>),
        background: &Arc<Runtime>,
    ) -> anyhow::Result<Self> {
        let folder = config.audit.path.clone();
        let Claimed { keys, lock } = claimed;
        let seal = Arc::<Seal>::default();
        let redaction_key = keys.redaction;
        let keys = ControlKeys::new(keys.control).context("there is no key")?;
        let sequencer = Sequencer::new(
            Arc::clone(&stores.approvals),
            Arc::clone(&stores.control),
            Arc::clone(&clock),
            keys.clone(),
            stores.holder.clone(),
        );
        let heads = Some(&config.audit.heads).filter(|path| !path.as_os_str().is_empty());
        let control = Arc::new(Control::open(
            &folder,
            sequencer,
            (Arc::clone(&stores.control), Arc::clone(&clock)),
            (keys, Arc::clone(&seal)),
            heads.cloned(),
        )?);
        let is_ours = background.block_on(control.check_keys())?;
        anyhow::ensure!(
            is_ours,
            "the control log is signed by other keys than those in `{}`: copy the file from a replica that serves with this store",
            folder.join("keys/control.key").display()
        );
        let facts = ProgramFacts {
            configuration: config.to_toml().context("the configuration has no text")?,
        };
        let settings = FolderSettings {
            segment_bytes: config.audit.segment_bytes,
            segment_age: to_std(config.audit.segment_age),
            reserve: reserve(config),
        };
        let runtime = background.handle().clone();
        let counts = Arc::<Counts>::default();
        let parts = (Arc::clone(&control), Arc::clone(&counts));
        let mut logs = ReplicaLogs::new(&folder, settings, facts, parts, runtime);
        logs.end_left_over()?;
        let first = logs
            .open(None)
            .context("the decision log cannot be begun")?;
        let settings = log_settings(config, clock);
        let (log, thread) = DecisionLogWriter::start(settings, first, Box::new(logs))
            .context("the thread that writes the decision log cannot be started")?;
        counts.watch(&log);
        Ok(Self {
            folder,
            control,
            log,
            counts,
            thread: Mutex::new(Some(thread)),
            seal,
            redaction_key,
            heads_interval: to_std(config.audit.heads_interval),
            keep_for: config.audit.keep_for,
            witnesses: Mutex::new(witness::runs(&config.audit.witness)?),
            policies: Arc::new(tokio::sync::Mutex::new(policies)),
            _lock: lock,
        })
    }

    /// What tells how the log does.
    pub(super) fn watched(&self) -> (Arc<BufferedLog>, Arc<Seal>) {
        (Arc::clone(&self.log), Arc::clone(&self.seal))
    }

    /// The log that decisions are recorded in.
    pub(super) fn decision_log(&self) -> Arc<dyn DecisionLog> {
        Arc::clone(&self.log) as _
    }

    /// Records decisions in it.
    pub(super) fn recorder(&self) -> Recorder {
        Recorder::new(
            self.decision_log(),
            self.redaction_key,
            Arc::clone(&self.seal),
        )
    }

    /// Reads it.
    pub(super) fn library(&self) -> anyhow::Result<Arc<dyn LogLibrary>> {
        let folder = AuditFolder::open(&self.folder)
            .with_context(|| format!("`{}` cannot be read", self.folder.display()))?;
        Ok(Arc::new(folder))
    }

    /// Records who reads it.
    pub(super) fn read_log(&self) -> Arc<dyn ReadLog> {
        Arc::new(ReadNotes(Arc::clone(&self.control)))
    }

    /// Ends the decision log and makes its end known, after the last decision was answered.
    pub(super) fn stop(&self, background: &Arc<Runtime>) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else {
            return;
        };
        let summary = thread.stop();
        let publish = async {
            tasks::tell_waiting(&self.control, &self.policies, &self.log).await?;
            self.publish_end(&summary).await?;
            self.control.finish().await
        };
        let published =
            background.block_on(async { tokio::time::timeout(STOP_PATIENCE, publish).await });
        match published {
            Ok(Ok(())) => tracing::info!(
                records = summary.head.as_ref().map_or(0, |head| head.size),
                accepted = summary.accepted,
                lost = summary.lost,
                "the decision log is closed"
            ),
            Ok(Err(error)) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the end of the decision log could not be recorded; the next start does it"
                );
            }
            Err(_) => tracing::error!(
                "the end of the decision log could not be recorded in time; the next start does it"
            ),
        }
    }

    async fn publish_end(&self, summary: &LogSummary) -> anyhow::Result<()> {
        let Some(head) = &summary.head else {
            // It had failed before, and the next start records its end.
            return Ok(());
        };
        let (accepted, lost) = self.counts.of_present_log(summary);
        let stopped = ReplicaStopped {
            incarnation: head.incarnation.clone(),
            size: head.size,
            root: head.root.as_bytes().to_vec(),
            accepted,
            lost,
        };
        self.control
            .note(record::What::ReplicaStopped(stopped))
            .await?;
        mark_ended(&log_folder(&self.folder, &head.incarnation))
    }
}

/// How many records may be answered and not written yet: as many as all buffers hold. Twice as many are reserved, since a reservation is
/// made anew when half of it is used.
fn reserve(config: &Config) -> u64 {
    let settings = shards(config).saturating_mul(config.audit.buffer_bytes);
    let records = settings
        .saturating_mul(2)
        .checked_div(SMALLEST_RECORD)
        .unwrap_or_default();
    u64::try_from(records.saturating_mul(2)).unwrap_or(u64::MAX)
}

fn shards(config: &Config) -> usize {
    crate::server::parts::serving_threads(config.server.threads).saturating_add(OTHER_THREADS)
}

fn log_settings(config: &Config, clock: Arc<dyn Clock>) -> DecisionLogSettings {
    let shards = shards(config);
    DecisionLogSettings {
        buffer_bytes: config.audit.buffer_bytes,
        commit_interval: to_std(config.audit.commit_interval),
        wait: to_std(config.audit.wait),
        on_failure: config.audit.on_failure.into(),
        ..DecisionLogSettings::new(shards, Arc::new(move || clock.now().as_microsecond()))
    }
}

/// Takes the folder for this process alone.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("`{}` cannot be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "`audit.path`: another process writes to `{}`",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("`{}` cannot be locked", path.display()))
        }
    }
}

/// A name that no other process takes leases under.
pub(super) fn new_holder() -> String {
    Uuid::from_u128(fastrand::u128(..)).to_string()
}
