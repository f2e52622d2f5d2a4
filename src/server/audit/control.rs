//! The control log on this replica: gives records their places if it is its turn, keeps and signs a copy of the log in the audit folder, and
//! copies its checkpoints to where nobody who can change the log can change them.
//!
//! INVARIANT (prefix): what was once copied stays the beginning of the log. A log that is shorter than its copy, or another one, has been
//! changed from outside, or a database has lost what it acknowledged: then everything stops.
//! INVARIANT (own-eyes): what is signed is the tree over the copy, never what the store says the tree is.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Mutex;
use tokio::task::block_in_place;

use crate::audit::checkpoint::Checkpoint;
use crate::audit::control_record::encode_control;
use crate::audit::note::Note;
use crate::audit::proto::record;
use crate::usecase::approval_store::StoreError;
use crate::usecase::control_log::ControlLog;
use crate::usecase::decision_log::Seal;
use crate::usecase::ports::Clock;
use crate::usecase::sequencing::{ControlKeys, Sequencer};

use super::copy::Copy;

/// How many records are copied at once.
const BATCH: u32 = 1_000;
/// How long a new decision log waits to be known in the control log.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked.
const START_PAUSE: Duration = Duration::from_millis(50);

/// The control log, seen from this replica.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) log: Arc<dyn ControlLog>,
    pub(super) clock: Arc<dyn Clock>,
    sequencer: Sequencer,
    keys: ControlKeys,
    seal: Arc<Seal>,
    copy: Mutex<Copy>,
    heads: Option<PathBuf>,
    /// The size of the last checkpoint that was copied outside.
    outside: StdMutex<u64>,
    /// The checkpoint of the store that was compared last.
    compared: StdMutex<Option<String>>,
}

impl Control {
    /// Keeps a copy in `audit_folder`.
    pub(super) fn open(
        audit_folder: &Path,
        sequencer: Sequencer,
        (log, clock): (Arc<dyn ControlLog>, Arc<dyn Clock>),
        (keys, seal): (ControlKeys, Arc<Seal>),
        heads: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let mut copy = Copy::new(audit_folder.join("control"), keys.clone());
        let known = copy.known()?;
        let outside = match &heads {
            Some(path) => {
                let keys = [keys.verifiers(), known.keys].concat();
                last_head(path, keys_origin(&keys), &keys)?
            }
            None => 0,
        };
        Ok(Self {
            log,
            clock,
            sequencer,
            keys,
            seal,
            copy: Mutex::new(copy),
            heads,
            outside: StdMutex::new(outside),
            compared: StdMutex::default(),
        })
    }

    /// The cluster's name, with which all origins begin.
    pub(super) fn cluster(&self) -> &str {
        let origin = self.keys.origin();
        origin.strip_suffix("/control").unwrap_or(origin)
    }

    /// Keeps `what` in the control log.
    pub(super) async fn note(&self, what: record::What) -> Result<(), StoreError> {
        let bytes = encode_control(self.clock.now().as_microsecond(), what);
        self.log.append(vec![bytes]).await
    }

    /// Gives places to what waits, if it is this replica's turn.
    pub(super) async fn sequence(&self) -> anyhow::Result<()> {
        loop {
            let known = self.pull().await?;
            if self.sequencer.sequence(&known).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Copies and signs what has grown.
    pub(super) async fn advance(&self) -> anyhow::Result<()> {
        self.pull().await?;
        let signed = {
            let mut copy = self.copy.lock().await;
            block_in_place(|| copy.sign())?
        };
        if let Some((size, note)) = signed {
            self.log.keep_checkpoint(size, note).await?;
        }
        Ok(())
    }

    /// Waits until all that was noted has its place, whoever gives it, then signs and copies it. For when the server stops.
    pub(super) async fn finish(&self) -> anyhow::Result<()> {
        self.settle().await?;
        self.advance().await?;
        self.copy_head().await?;
        Ok(self.sequencer.release().await?)
    }

    /// Waits until all that was noted has its place and is copied.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        loop {
            self.sequence().await?;
            if self.sequencer.is_done().await? {
                break;
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        self.pull().await.map(drop)
    }

    /// Whether the copy knows the decision log `incarnation`.
    pub(super) async fn knows(&self, incarnation: &str) -> anyhow::Result<bool> {
        self.copy.lock().await.knows(incarnation)
    }

    /// Waits until the copy knows that the decision log `incarnation` exists.
    pub(super) async fn wait_for_start(&self, incarnation: &str) -> anyhow::Result<()> {
        // However long that takes: a replica may have been away for a week.
        self.pull().await?;
        let look = async {
            loop {
                self.sequence().await?;
                self.advance().await?;
                if self.knows(incarnation).await? {
                    return Ok(());
                }
                tokio::time::sleep(START_PAUSE).await;
            }
        };
        tokio::time::timeout(START_PATIENCE, look)
            .await
            .context("the control log has no place for the beginning of a decision log: does another replica hold the lease and do nothing?")?
    }

    /// Whether this replica's keys are the log's. An empty log may become anybody's.
    pub(super) async fn check_keys(&self) -> anyhow::Result<bool> {
        let known = self.pull().await?;
        Ok(known.keys.is_empty() || self.keys.can_sign(&known))
    }

    /// Copies what the log has and the copy has not.
    async fn pull(&self) -> anyhow::Result<crate::usecase::sequencing::KnownLog> {
        let mut copy = self.copy.lock().await;
        let mut known = copy.known()?;
        let head = self.log.head().await?;
        let outside = *self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_growth(head.frontier.size(), known.size.max(outside))?;
        while known.size < head.frontier.size() {
            let records = self.log.sequenced(known.size, BATCH).await?;
            if records.is_empty() {
                break;
            }
            let now = u64::try_from(self.clock.now().as_microsecond()).unwrap_or_default();
            block_in_place(|| copy.append(&records, Duration::from_micros(now)))?;
            known = copy.known()?;
        }
        if known.size == head.frontier.size() && known.size > 0 {
            let root = copy.root()?;
            if root != head.frontier.root() {
                return Err(self.seal(
                    "the tree that the store keeps is not the tree over its records".to_owned(),
                ));
            }
        }
        self.check_checkpoint(head.checkpoint, &copy, known.size)?;
        Ok(known)
    }

    /// Seals if the store's checkpoint is not one of the copy; each is looked at once.
    fn check_checkpoint(&self, note: Option<String>, copy: &Copy, size: u64) -> anyhow::Result<()> {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if note == *compared {
            return Ok(());
        }
        if let Some(checkpoint) = note.as_deref().and_then(unsigned) {
            if checkpoint.size() > size {
                return Ok(());
            }
            if block_in_place(|| copy.root_at(checkpoint.size()))? != *checkpoint.root() {
                return Err(self.seal(format!(
                    "the store's checkpoint of {} records of the control log does not fit the copy of it",
                    checkpoint.size()
                )));
            }
        }
        *compared = note;
        Ok(())
    }

    /// Seals if the log is shorter than it was.
    fn check_growth(&self, size: u64, before: u64) -> anyhow::Result<()> {
        if size < before {
            return Err(self.seal(format!(
                "the control log has {size} records, and had {before} before: its store has lost some, or been set back to an earlier state"
            )));
        }
        Ok(())
    }

    fn seal(&self, reason: String) -> anyhow::Error {
        self.seal.set(reason.clone());
        anyhow::Error::msg(reason)
    }

    /// Appends the newest checkpoint to the file outside, if it is newer than what is there.
    pub(super) async fn copy_head(&self) -> anyhow::Result<()> {
        let head = self.copy.lock().await.head()?;
        let (Some(path), Some((size, note))) = (&self.heads, head) else {
            return Ok(());
        };
        if size <= *self.outside.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(());
        }
        // On a thread of its own: the file may be on another machine that does not answer.
        let file = path.clone();
        let written = tokio::task::spawn_blocking(move || append_head(&file, &note)).await;
        written
            .context("the thread that writes the head ended")?
            .with_context(|| format!("`audit.heads`: `{}` cannot be written", path.display()))?;
        *self.outside.lock().unwrap_or_else(PoisonError::into_inner) = size;
        Ok(())
    }
}

impl Control {
    /// Appends a checkpoint that a witness has cosigned to the file outside.
    pub(super) async fn keep_cosigned(&self, note: String) -> anyhow::Result<()> {
        let Some(path) = self.heads.clone() else {
            return Ok(());
        };
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || append_head(&path, &note)).await;
        written
            .context("the thread that writes the head ended")?
            .with_context(|| format!("`audit.heads`: `{shown}` cannot be written"))
    }
}

fn unsigned(note: &str) -> Option<Checkpoint> {
    let note = Note::parse(note).ok()?;
    Checkpoint::parse(note.text()).ok()
}

/// Appends the whole note, or nothing.
fn append_head(path: &Path, note: &str) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let before = file.metadata()?.len();
    // What a crash left half written ends here, and the next note begins in a line of its own.
    let parting = if before > 0 && !ends_in_newline(&mut file)? {
        "\n\n"
    } else {
        ""
    };
    let written = file
        .write_all(format!("{parting}{note}\n").as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a note would be read as damage; what cannot be cut off now shows as that.
        file.set_len(before).ok();
    }
    written
}

fn ends_in_newline(file: &mut std::fs::File) -> std::io::Result<bool> {
    let mut last = [0_u8; 1];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn keys_origin(keys: &[crate::audit::note::VerifierKey]) -> &str {
    keys.first().map_or("", |key| key.name())
}

/// The size of the newest checkpoint of the log `origin` in the file outside that one of `keys` signed; 0 if there is none.
fn last_head(
    path: &Path,
    origin: &str,
    keys: &[crate::audit::note::VerifierKey],
) -> anyhow::Result<u64> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("`audit.heads`: `{}` cannot be read", path.display()));
        }
    };
    // Texts and signatures take turns, parted by empty lines.
    let parts: Vec<&str> = text.split("\n\n").collect();
    let notes = parts.windows(2).map(|pair| match pair {
        [text, signatures] => format!("{text}\n\n{signatures}\n"),
        _ => String::new(),
    });
    let sizes = notes
        .filter_map(|note| Checkpoint::open(&note, origin, keys).ok())
        .map(|checkpoint| checkpoint.size());
    Ok(sizes.max().unwrap_or_default())
}
