//! Begins decision logs, each registered in the control log before its first record, and finds out how those before it ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::checkpoint::Checkpoint;
use crate::audit::control_record::encode_control;
use crate::audit::note::SignerKey;
use crate::audit::proto::{ReplicaLost, ReplicaStarted, record};
use crate::audit::tree::EMPTY_ROOT;
use crate::storage::audit_keys::passing_key;
use crate::storage::decision_log::{FailedLog, LogHead, LogSink, OpenLog, RoundRecords, SinkError};
use crate::storage::log_folder::{Extent, FolderSettings, FolderWriter, recover};
use crate::usecase::ports::Clock;

use super::control::Control;
use super::counts::Counts;

/// Marks the folder of a log whose end is in the control log.
const ENDED: &str = "ended";
/// How long what was written before may take to get its place, when the server starts.
const SETTLE: Duration = Duration::from_secs(30);
/// How often it is looked whether the open files are still those in the folder.
const LOOK: Duration = Duration::from_secs(1);

/// What is told about this program when it begins a log.
#[derive(Clone, Debug)]
pub(super) struct ProgramFacts {
    /// The configuration, without secrets.
    pub(super) configuration: String,
}

/// Begins the decision logs of this replica.
pub(super) struct ReplicaLogs {
    folder: PathBuf,
    settings: FolderSettings,
    facts: ProgramFacts,
    control: Arc<Control>,
    counts: Arc<Counts>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    /// The failed log whose end is in the control log, although its folder may not say so.
    ended: Option<String>,
    /// A log that is registered and not known to the copy of the control log yet.
    begun: Option<ReplicaSink>,
}

impl ReplicaLogs {
    pub(super) fn new(
        audit_folder: &Path,
        settings: FolderSettings,
        facts: ProgramFacts,
        (control, counts): (Arc<Control>, Arc<Counts>),
        runtime: Handle,
    ) -> Self {
        Self {
            folder: audit_folder.join("decision"),
            settings,
            facts,
            clock: Arc::clone(&control.clock),
            control,
            counts,
            runtime,
            ended: None,
            begun: None,
        }
    }

    /// Records the end of every log whose end nobody recorded: the process that wrote it was killed.
    pub(super) fn end_left_over(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("`{}` cannot be made", self.folder.display()))?;
        let entries = std::fs::read_dir(&self.folder)
            .with_context(|| format!("`{}` cannot be read", self.folder.display()))?;
        let mut open = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && !path.join(ENDED).exists() {
                open.push(path);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        // Which of them were registered is known once everything that was written has its place.
        let settle = async { tokio::time::timeout(SETTLE, self.control.settle()).await };
        self.runtime
            .block_on(settle)
            .context("the control log does not come to rest: does another replica hold the lease and do nothing?")??;
        for path in open {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if self.runtime.block_on(self.control.knows(&name))? {
                self.end_killed(&path)?;
            } else {
                // The process ended between making the folder and registering it: no decision can be in it.
                tracing::warn!(folder = %path.display(), "a decision log was never begun");
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("`{}` cannot be removed", path.display()))?;
            }
        }
        Ok(())
    }

    /// Records how much is there of a log whose process was killed, after cutting off what it left half written.
    fn end_killed(&self, folder: &Path) -> anyhow::Result<()> {
        let damaged = || {
            format!(
                "the decision log `{}` cannot be read: move its folder away to start without it; `audit verify` will miss it",
                folder.display()
            )
        };
        let found = recover(folder, Extent::LastSegment).with_context(damaged)?;
        FolderWriter::reopen(folder, self.settings).with_context(damaged)?;
        let head = LogHead {
            incarnation: incarnation_of(folder),
            size: found.size,
            root: found.root,
        };
        self.end_lost(
            &head,
            found.reserved,
            "its process ended without closing it",
        )?;
        mark_ended(folder)
    }

    /// Records the end of a log that this process had to give up. What is known to be durable is what was; the files are not touched
    /// again, since what is read back now may not be on the disk.
    fn end_failed(&mut self, failed: &FailedLog) -> anyhow::Result<()> {
        let folder = self.folder.join(&failed.head.incarnation);
        if self.ended.as_ref() == Some(&failed.head.incarnation) {
            return Ok(());
        }
        let reserved = recover(&folder, Extent::LastSegment).map(|found| found.reserved);
        let reserved =
            reserved.unwrap_or_else(|_| failed.head.size.saturating_add(self.settings.reserve));
        self.end_lost(&failed.head, reserved, &failed.reason)?;
        self.ended = Some(failed.head.incarnation.clone());
        // The disk may take nothing now. Then the next start records the end once more, which is the same.
        if let Err(error) = mark_ended(&folder) {
            tracing::warn!(
                error = format!("{error:#}"),
                "a failed decision log is not marked as ended"
            );
        }
        Ok(())
    }

    fn end_lost(&self, head: &LogHead, reserved: u64, reason: &str) -> anyhow::Result<()> {
        tracing::warn!(
            incarnation = head.incarnation,
            records = head.size,
            at_most_lost = reserved.saturating_sub(head.size),
            reason,
            "a decision log ended without being closed"
        );
        let lost = ReplicaLost {
            incarnation: head.incarnation.clone(),
            size: head.size,
            root: head.root.as_bytes().to_vec(),
            reserved,
            reason: reason.to_owned(),
        };
        self.append(record::What::ReplicaLost(lost))
    }

    fn append(&self, what: record::What) -> anyhow::Result<()> {
        let bytes = encode_control(self.clock.now().as_microsecond(), what);
        let append = self.control.log.append(vec![bytes]);
        self.runtime
            .block_on(append)
            .context("the control log takes no record")
    }

    fn begin(&mut self) -> anyhow::Result<ReplicaSink> {
        let sink = match self.begun.take() {
            Some(sink) => sink,
            None => self.register()?,
        };
        // Nobody must find records of a log that the control log does not know yet.
        let incarnation = sink.head.incarnation.clone();
        let known = self
            .runtime
            .block_on(self.control.wait_for_start(&incarnation));
        if let Err(error) = known {
            self.begun = Some(sink);
            return Err(error);
        }
        tracing::info!(incarnation, "a decision log has begun");
        Ok(sink)
    }

    fn register(&self) -> anyhow::Result<ReplicaSink> {
        // While the control log or its copy take nothing, nothing is begun.
        self.runtime.block_on(self.control.advance())?;
        let incarnation = incarnation_at(self.clock.as_ref()).to_string();
        let cluster = self.control.cluster();
        let signer = passing_key(&format!("{cluster}/decision/{incarnation}"))?;
        let folder = self.folder.join(&incarnation);
        let key = signer.verifier().to_string();
        let writer = FolderWriter::create(&folder, &format!("{key}\n"), self.settings)?;
        let registered = self.append(record::What::ReplicaStarted(ReplicaStarted {
            incarnation: incarnation.clone(),
            log_key: key,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            engine: "cedar-policy 4.14.1".to_owned(),
            configuration: self.facts.configuration.clone(),
        }));
        if let Err(error) = registered {
            // Whether it is registered is unknown; without its folder it would be missed, and it holds nothing. The next start looks.
            drop(writer);
            return Err(error);
        }
        Ok(ReplicaSink {
            head: LogHead {
                incarnation,
                size: 0,
                root: EMPTY_ROOT,
            },
            counts: Arc::clone(&self.counts),
            signer,
            writer,
            began: Instant::now(),
            looked: Instant::now(),
            signed: None,
        })
    }
}

impl OpenLog for ReplicaLogs {
    fn open(&mut self, failed: Option<FailedLog>) -> Result<Box<dyn LogSink>, SinkError> {
        if let Some(failed) = failed {
            self.end_failed(&failed).map_err(sink_error)?;
        }
        let sink = self.begin().map_err(sink_error)?;
        self.counts.begin();
        Ok(Box::new(sink))
    }
}

/// Says in the folder that its end is in the control log.
pub(super) fn mark_ended(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(ENDED);
    std::fs::write(&path, "").with_context(|| format!("`{}` cannot be written", path.display()))
}

/// Where the log of `incarnation` is.
pub(super) fn log_folder(audit_folder: &Path, incarnation: &str) -> PathBuf {
    audit_folder.join("decision").join(incarnation)
}

fn incarnation_of(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn incarnation_at(clock: &dyn Clock) -> Uuid {
    let millis = u64::try_from(clock.now().as_millisecond()).unwrap_or(0);
    let mut tail = [0_u8; 10];
    let random = fastrand::u128(..).to_le_bytes();
    tail.iter_mut()
        .zip(random)
        .for_each(|(to, from)| *to = from);
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}

#[expect(clippy::needless_pass_by_value, reason = "the form of `map_err`")]
fn sink_error(error: anyhow::Error) -> SinkError {
    SinkError(format!("{error:#}"))
}

/// The decision log of one incarnation. Its key exists in memory only: whoever takes the disk cannot sign in its name.
struct ReplicaSink {
    /// What is known to be durable, also after a failure.
    head: LogHead,
    counts: Arc<Counts>,
    signer: SignerKey,
    writer: FolderWriter,
    began: Instant,
    looked: Instant,
    /// The size of the last checkpoint.
    signed: Option<u64>,
}

impl LogSink for ReplicaSink {
    fn append_round(&mut self, records: &RoundRecords<'_>) -> Result<(), SinkError> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.writer.still_there().map_err(folder_error)?;
        }
        let outcome = self
            .writer
            .append_round(records.iter(), self.began.elapsed())
            .map_err(folder_error)?;
        self.head.root = self.writer.root().map_err(folder_error)?;
        self.head.size = outcome.size;
        self.counts.note(records.iter());
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), SinkError> {
        let LogHead { size, root, .. } = self.head;
        if self.signed == Some(size) {
            return Ok(());
        }
        let note = Checkpoint::new(self.signer.verifier().name(), size, root)
            .map_err(|error| SinkError(error.to_string()))?
            .signed(&[&self.signer])
            .map_err(|error| SinkError(error.to_string()))?;
        self.writer
            .append_checkpoint(&note.to_string())
            .map_err(folder_error)?;
        self.signed = Some(size);
        Ok(())
    }

    fn head(&self) -> LogHead {
        self.head.clone()
    }

    fn close(mut self: Box<Self>) -> Result<LogHead, SinkError> {
        self.checkpoint()?;
        Ok(self.head)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form of `map_err`")]
fn folder_error(error: crate::storage::log_folder::FolderError) -> SinkError {
    SinkError(error.to_string())
}
