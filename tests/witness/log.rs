//! A control log in a folder, as a replica keeps its copy.

use std::time::Duration;

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::note::{SignerKey, VerifierKey};
use countersign::storage::log_folder::{FolderReader, FolderSettings, FolderWriter};
use tempfile::TempDir;

use crate::run::newest;

pub(crate) const ORIGIN: &str = "prod/control";

pub(crate) struct Log {
    folder: TempDir,
    writer: FolderWriter,
    signer: SignerKey,
    /// From which record on it is another log than the others.
    forked_at: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self::forked(u64::MAX)
    }

    /// A log that is as any other up to the record `at`.
    pub(crate) fn forked(at: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = SignerKey::from_seed(ORIGIN, &[1; 32]).unwrap();
        let lines = format!("{}\n", signer.verifier());
        let path = folder.path().join("control");
        let settings = FolderSettings::default();
        Self {
            writer: FolderWriter::create(&path, &lines, settings).unwrap(),
            folder,
            signer,
            forked_at: at,
        }
    }

    pub(crate) fn key(&self) -> VerifierKey {
        self.signer.verifier().clone()
    }

    /// Grows to `size` records and signs that. Answers what a replica finds in the folder then.
    pub(crate) fn grow(&mut self, size: u64) -> (String, FolderReader) {
        let from = self.writer.size();
        let record = |index: u64| format!("{index} {}", index >= self.forked_at).into_bytes();
        let records: Vec<Vec<u8>> = (from..size).map(record).collect();
        let records = records.iter().map(Vec::as_slice);
        self.writer.append_round(records, Duration::ZERO).unwrap();
        let root = self.writer.root().unwrap();
        let checkpoint = Checkpoint::new(ORIGIN, size, root).unwrap();
        let note = checkpoint.signed(&[&self.signer]).unwrap().to_string();
        self.writer.append_checkpoint(&note).unwrap();
        let (found, reader) = newest(&self.folder.path().join("control"))
            .unwrap()
            .unwrap();
        assert_eq!(found, note);
        (note, reader)
    }
}
