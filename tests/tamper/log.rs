//! A log in memory, and the files it becomes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::note::SignerKey;
use countersign::audit::tree::{Frontier, TreeHash, leaf_hash};
use countersign::storage::log_folder::disk::{Disk, DiskFile, FileIdentity};
use countersign::storage::log_folder::{FolderSettings, FolderWriter, prune};

/// A log as its writer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) origin: String,
    pub(crate) key_lines: String,
    pub(crate) leaves: Vec<Vec<u8>>,
    /// Signed notes with their sizes, smallest first.
    pub(crate) notes: Vec<(u64, String)>,
    /// Records below this index are removed.
    pub(crate) pruned: u64,
    /// What is left of a write behind the tail.
    pub(crate) torn: Vec<u8>,
    pub(crate) segment_bytes: u64,
}

impl Log {
    pub(crate) fn new(origin: &str, key_lines: String, segment_bytes: u64) -> Self {
        Self {
            origin: origin.to_owned(),
            key_lines,
            leaves: Vec::new(),
            notes: Vec::new(),
            pruned: 0,
            torn: Vec::new(),
            segment_bytes,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.leaves.len()).unwrap()
    }

    /// The root of the first `size` records.
    pub(crate) fn root(&self, size: u64) -> TreeHash {
        let mut frontier = Frontier::new();
        let leaves = &self.leaves[..usize::try_from(size).unwrap()];
        for leaf in leaves {
            frontier.push(leaf_hash(leaf));
        }
        frontier.root()
    }

    /// The signed checkpoint of the first `size` records.
    pub(crate) fn checkpoint(&self, size: u64, signer: &SignerKey) -> String {
        let checkpoint = Checkpoint::new(&self.origin, size, self.root(size)).unwrap();
        checkpoint.signed(&[signer]).unwrap().to_string()
    }

    /// Signs the present size.
    pub(crate) fn sign(&mut self, signer: &SignerKey) {
        let size = self.size();
        let note = self.checkpoint(size, signer);
        self.notes.push((size, note));
    }

    /// Signs every size again that is signed.
    pub(crate) fn sign_again(&mut self, signer: impl Fn(u64) -> SignerKey) {
        let last = self.size();
        let sizes: Vec<u64> = self
            .notes
            .iter()
            .map(|(size, _)| (*size).min(last))
            .collect();
        self.notes = sizes
            .into_iter()
            .map(|size| (size, self.checkpoint(size, &signer(size))))
            .collect();
    }

    /// Up to which size its own checkpoints cover it.
    pub(crate) fn signed(&self) -> u64 {
        self.notes.last().map_or(0, |(size, _)| *size)
    }

    /// The log as it was at `size`.
    pub(crate) fn prefix(&self, size: u64) -> Self {
        let mut log = self.clone();
        log.leaves.truncate(usize::try_from(size).unwrap());
        log.notes.retain(|(signed, _)| *signed <= size);
        log
    }

    /// Writes it as a folder.
    pub(crate) fn write(&self, folder: &Path) {
        let settings = FolderSettings {
            segment_bytes: self.segment_bytes,
            reserve: 1_000,
            ..FolderSettings::default()
        };
        let mut writer =
            FolderWriter::create_on(Box::new(Unsynced), folder, &self.key_lines, settings).unwrap();
        for round in self.leaves.chunks(300) {
            let records = round.iter().map(Vec::as_slice);
            writer.append_round(records, Duration::ZERO).unwrap();
        }
        for (_, note) in &self.notes {
            writer.append_checkpoint(note).unwrap();
        }
        drop(writer);
        if self.pruned > 0 {
            prune(folder, self.pruned).unwrap();
        }
        if !self.torn.is_empty() {
            let path = folder.join("tail");
            let mut tail = fs::read(&path).unwrap();
            tail.extend_from_slice(&self.torn);
            fs::write(&path, tail).unwrap();
        }
    }
}

/// A disk that is not waited for: what is written here is read at once, and no power fails.
#[derive(Debug)]
struct Unsynced;

#[derive(Debug)]
struct UnsyncedFile(File);

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(UnsyncedFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Box::new(UnsyncedFile(file)))
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        fs::symlink_metadata(path).map(|metadata| identity(&metadata))
    }
}

impl DiskFile for UnsyncedFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.0.metadata().map(|metadata| identity(&metadata))
    }
}

fn identity(metadata: &fs::Metadata) -> FileIdentity {
    FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        links: metadata.nlink(),
    }
}
