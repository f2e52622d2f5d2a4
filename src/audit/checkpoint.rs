//! Checkpoints: what a log says of itself, signed: its origin, its size and its root, in the form of C2SP tlog-checkpoint.

use super::note::{Note, NoteError, SignerKey, VerifierKey};
use super::tree::TreeHash;

/// Why a text is no checkpoint, or why it is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The text is not an origin, a size and a root, a line each.
    #[error("the text is not a checkpoint: an origin, a size and a root")]
    Malformed,
    /// The origin is empty or has a control character.
    #[error("the checkpoint's origin is empty, or has a control character")]
    BadOrigin,
    /// It is of another log.
    #[error("the checkpoint is of the log `{origin}`")]
    OtherOrigin {
        /// Of which log it is.
        origin: String,
    },
    /// None of the known keys signed it.
    #[error("none of the known keys signed the checkpoint")]
    NotSigned,
    /// It is not a note, or one with a wrong signature.
    #[error("the checkpoint is not a note that can be believed")]
    BadNote(#[from] NoteError),
}

/// The state of a log: that its first `size` leaves have the root `root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: TreeHash,
}

impl Checkpoint {
    /// The checkpoint of the log `origin` at `size` leaves.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::BadOrigin`] if the origin is empty or has a control character, such as a newline.
    pub fn new(origin: &str, size: u64, root: TreeHash) -> Result<Self, CheckpointError> {
        if origin.is_empty() || origin.contains(|c: char| c < ' ') {
            return Err(CheckpointError::BadOrigin);
        }
        let origin = origin.to_owned();
        Ok(Self { origin, size, root })
    }

    /// Which log it is of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many leaves the log has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree over them.
    pub fn root(&self) -> &TreeHash {
        &self.root
    }

    /// The text that is signed: three lines.
    pub fn to_text(&self) -> String {
        let root = self.root.to_base64();
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// Reads the text of a checkpoint. Lines behind the third are left out; they say nothing about the tree.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Malformed`] unless the size is written in decimal without leading zeros, the root is 32 bytes in
    /// base64, and every line ends and is not empty; [`CheckpointError::BadOrigin`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let (origin, size, root) = read_lines(text).ok_or(CheckpointError::Malformed)?;
        Self::new(origin, size, root)
    }

    /// Signs it with each of `signers`.
    ///
    /// # Errors
    ///
    /// As [`Note::sign`]: without signers or with too many, or if the origin is too long.
    pub fn signed(&self, signers: &[&SignerKey]) -> Result<Note, NoteError> {
        Note::sign(&self.to_text(), signers)
    }

    /// Reads a signed checkpoint of the log `origin`, and believes it if one of `keys` signed it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::BadNote`] also if a signature names one of `keys` and is wrong, whoever else signed;
    /// [`CheckpointError::NotSigned`], and then those of [`Self::parse`] and [`CheckpointError::OtherOrigin`].
    pub fn open(note: &str, origin: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        if note.verified_by(keys)?.is_empty() {
            return Err(CheckpointError::NotSigned);
        }
        let checkpoint = Self::parse(note.text())?;
        if checkpoint.origin != origin {
            let origin = checkpoint.origin;
            return Err(CheckpointError::OtherOrigin { origin });
        }
        Ok(checkpoint)
    }
}

/// The origin, size and root that `text` begins with.
fn read_lines(text: &str) -> Option<(&str, u64, TreeHash)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    let number: u64 = size.parse().ok()?;
    let is_well_formed = number.to_string() == size && !lines.any(str::is_empty);
    let root = TreeHash::from_base64(root)?;
    is_well_formed.then_some((origin, number, root))
}
