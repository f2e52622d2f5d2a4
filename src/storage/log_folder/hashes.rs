//! The file `hashes`: the tree hash of every full bundle, and with it how many bundles the log has.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::audit::tree::TreeHash;

use super::error::FolderError;
use super::format::{BUNDLE, HASH_BYTES, HASHES, MAX_INDEX, count, items};

/// How many bundles one round can have closed: only so many hashes at the end may have been lost by a crash, each as zeros.
const UNSURE: u64 = 1024;

/// The open file.
#[derive(Debug)]
pub(super) struct Hashes {
    path: PathBuf,
    file: File,
}

impl Hashes {
    /// Opens it in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join(HASHES);
        let file = File::open(&path).map_err(FolderError::io("open", &path))?;
        Ok(Self { path, file })
    }

    /// How many bytes it has.
    pub(super) fn bytes(&self) -> Result<u64, FolderError> {
        let metadata = self.file.metadata();
        Ok(metadata
            .map_err(FolderError::io("look at", &self.path))?
            .len())
    }

    /// How many bundles have their hash: up to the first of the last ones that is zeros, which the disk never got.
    pub(super) fn bundles(&self) -> Result<u64, FolderError> {
        let written = self.bytes()? / HASH_BYTES;
        if written > MAX_INDEX / BUNDLE {
            return Err(FolderError::damaged(
                &self.path,
                0,
                "no log has so many bundles",
            ));
        }
        let sure = written.saturating_sub(UNSURE);
        let last = self.read(sure, written.saturating_sub(sure))?;
        let whole = last.iter().take_while(|hash| hash.as_bytes() != &[0; 32]);
        Ok(sure.saturating_add(count(whole.count())))
    }

    /// The hashes of `number` bundles from `bundle` on, or of as many as there are; `number` says how much memory it takes.
    pub(super) fn read(&self, bundle: u64, number: u64) -> Result<Vec<TreeHash>, FolderError> {
        let there = (self.bytes()? / HASH_BYTES).saturating_sub(bundle);
        let mut bytes = vec![0; items(number.min(there).saturating_mul(HASH_BYTES))];
        let read = self
            .file
            .read_exact_at(&mut bytes, bundle.saturating_mul(HASH_BYTES));
        read.map_err(FolderError::io("read", &self.path))?;
        let (hashes, _) = bytes.as_chunks::<{ TreeHash::BYTES }>();
        Ok(hashes.iter().copied().map(TreeHash::from).collect())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
