//! Why a log folder cannot be written, read or recovered.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with a log folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refused something.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// An earlier write or sync failed, so nobody knows what is on disk until the folder is recovered.
    #[error("an earlier write failed: the log must be recovered before it is written again")]
    Failed,
    /// The folder holds what no writer and no crash can have left there.
    #[error("`{file}` is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file's name within the folder.
        file: String,
        /// How many bytes of the file come before the damage.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A log is to be created where something is already.
    #[error("`{}` is not empty", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds no log: it is missing, or its creation was never finished.
    #[error("`{}` holds no log", folder.display())]
    NotALog {
        /// The folder.
        folder: PathBuf,
    },
    /// An open file was moved, removed or replaced, so nobody would find what is written to it.
    #[error("`{}` is not the file that is being written any more", path.display())]
    Replaced {
        /// Where the file was.
        path: PathBuf,
    },
    /// A record is longer than [`super::MAX_RECORD_BYTES`].
    #[error("a record of {length} bytes is too long")]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// A text is not one signed note of at most [`super::MAX_NOTE_BYTES`].
    #[error("this is not one signed note")]
    NotANote,
    /// The records asked for were pruned.
    #[error("the records below {first} were pruned")]
    Pruned {
        /// The first record that is still there.
        first: u64,
    },
}

impl FolderError {
    /// Turns what the system says into an error about `doing` something to `path`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// Damage in the file at `path`.
    pub(super) fn damaged(path: &Path, offset: u64, what: &'static str) -> Self {
        let name = path.file_name().unwrap_or_default();
        Self::Damaged {
            file: name.to_string_lossy().into_owned(),
            offset,
            what,
        }
    }

    /// Whether a file was not there.
    pub(super) fn is_missing_file(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
