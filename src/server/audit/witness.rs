//! Brings a witness up to date with the control log, and puts its cosignature under the newest checkpoint.
//!
//! INVARIANT (verified): no line of a witness's answer is kept that its key did not sign for just this checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use tokio::task::block_in_place;

use crate::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::audit::cosignature::{CosignatureError, add_cosignature};
use crate::audit::note::{Note, NoteError};
use crate::audit::proof::{Nodes, ProofError, consistency_proof};
use crate::channel::{Answer, Witness, WitnessError};
use crate::config::WitnessConfig;
use crate::storage::log_folder::{FolderError, FolderReader};

/// How often a witness is asked in one run: another replica may be faster each time.
const TRIES: usize = 4;

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
pub(super) enum WitnessRunError {
    /// What should be cosigned is no note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// What should be cosigned is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log's copy has no proof for it.
    #[error("the copy of the control log gives no proof")]
    Proof(#[from] ProofError),
    /// The witness did not answer, or refused.
    #[error(transparent)]
    Asking(#[from] WitnessError),
    /// What it answered is not its cosignature.
    #[error("the witness answered with something else than its cosignature")]
    Cosignature(#[from] CosignatureError),
    /// The witness says that it has seen more of the log than there is, a whole run later.
    #[error(
        "the witness says that it has seen {theirs} records of the control log, which has {ours}: it errs, or the log has lost some"
    )]
    Ahead {
        /// How many the witness says it has seen.
        theirs: u64,
        /// How many there are.
        ours: u64,
    },
    /// The witness names the size that it was asked with.
    #[error("the witness refuses the size {size}, and names the same")]
    Contradictory {
        /// That size.
        size: u64,
    },
    /// The witness named another size each time.
    #[error("the witness named another size {TRIES} times in a row")]
    Restless,
}

impl WitnessRunError {
    /// Whether the witness says that the log is not, or not any more, the one that it has seen. The rest may pass by itself.
    pub(super) fn is_contradiction(&self) -> bool {
        match self {
            Self::Asking(error) => error.is_contradiction(),
            Self::Ahead { .. } => true,
            Self::Note(_)
            | Self::Checkpoint(_)
            | Self::Proof(_)
            | Self::Cosignature(_)
            | Self::Contradictory { .. }
            | Self::Restless => false,
        }
    }
}

/// The newest signed checkpoint in `folder`, the copy of the control log, with a reader that has its records; none if there is none.
///
/// # Errors
/// The folder is no log, is damaged, or cannot be read.
pub(super) fn newest(folder: &Path) -> Result<Option<(String, FolderReader)>, FolderError> {
    let mut reader = FolderReader::open(folder)?;
    let Some(note) = reader.last_checkpoint()? else {
        return Ok(None);
    };
    // The records of a checkpoint are written before it, but may be newer than the reader's first look.
    reader.refresh()?;
    Ok(Some((note, reader)))
}

/// A run for each of the configured witnesses.
///
/// # Errors
/// The first key with a value that cannot be used; the system's root certificates cannot be used.
pub(super) fn runs(witnesses: &BTreeMap<String, WitnessConfig>) -> anyhow::Result<Vec<WitnessRun>> {
    let run = |(name, config): (&String, &WitnessConfig)| {
        let parsed = config.parse();
        let (url, key) = parsed.map_err(|(field, message)| {
            anyhow::anyhow!("`audit.witness.{name}.{field}`: {message}")
        })?;
        let witness = Witness::new(name.clone(), url, key).with_context(|| {
            format!("`audit.witness.{name}`: the system's root certificates cannot be used")
        })?;
        Ok(WitnessRun::new(witness))
    };
    witnesses.iter().map(run).collect()
}

/// What is known of one witness.
#[derive(Debug)]
pub(super) struct WitnessRun {
    witness: Witness,
    /// The size of its last checkpoint, as far as its cosignatures tell.
    size: u64,
    /// The size of the last checkpoint that it cosigned for us.
    cosigned: Option<u64>,
    /// The size that it named when it was ahead at the last run.
    ahead: Option<u64>,
}

impl WitnessRun {
    /// Knows nothing yet: the witness says its size when it is asked first.
    pub(super) fn new(witness: Witness) -> Self {
        Self {
            witness,
            size: 0,
            cosigned: None,
            ahead: None,
        }
    }

    /// What the configuration calls the witness.
    pub(super) fn name(&self) -> &str {
        self.witness.name()
    }

    /// Has the witness cosign `note`, the newest signed checkpoint of the log with these `nodes`, and answers the note with the
    /// cosignature under it. None if there is nothing to do: the witness has cosigned it before, or has already seen more of the
    /// log, which another replica can have shown it a moment ago.
    ///
    /// # Errors
    /// [`WitnessRunError`]; the next run tries again. [`WitnessRunError::Ahead`] if the log has not reached what the witness had seen
    /// when the last run was made.
    pub(super) async fn run(
        &mut self,
        note: &str,
        nodes: &(impl Nodes + Sync + ?Sized),
    ) -> Result<Option<String>, WitnessRunError> {
        let parsed = Note::parse(note)?;
        let size = Checkpoint::parse(parsed.text())?.size();
        if self.cosigned == Some(size) {
            return Ok(None);
        }
        // There is no proof from more than there is; the witness says where it stands.
        let mut old = if self.size > size { 0 } else { self.size };
        for _ in 0..TRIES {
            let proof = block_in_place(|| consistency_proof(nodes, old, size))?;
            match self.witness.ask(old, &proof, note).await? {
                Answer::Cosigned(lines) => {
                    let cosigned = add_cosignature(&parsed, &lines, self.witness.key())?;
                    (self.size, self.cosigned, self.ahead) = (size, Some(size), None);
                    return Ok(Some(cosigned.to_string()));
                }
                Answer::Behind(theirs) if theirs == old => return Err(refused(old, size)),
                Answer::Behind(theirs) if theirs > size => return self.passed_by(theirs, size),
                Answer::Behind(theirs) => old = theirs,
            }
        }
        Err(WitnessRunError::Restless)
    }

    /// What it means that the witness has seen `theirs` records, more than the `ours` there are.
    fn passed_by(&mut self, theirs: u64, ours: u64) -> Result<Option<String>, WitnessRunError> {
        let before = self.ahead.replace(theirs);
        match before {
            // What it had seen a run ago should have arrived here.
            Some(before) if before > ours => Err(WitnessRunError::Ahead { theirs, ours }),
            Some(_) | None => Ok(None),
        }
    }
}

/// What it means that the witness refuses the size that it names: if it is ours, it must have another root there.
fn refused(old: u64, size: u64) -> WitnessRunError {
    if old == size {
        WitnessError::Conflict.into()
    } else {
        WitnessRunError::Contradictory { size: old }
    }
}
