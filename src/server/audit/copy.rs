//! The copy of the control log in the audit folder, with what its records say of keys and of decision logs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::audit::control_record::decode;
use crate::audit::keys::accepted;
use crate::audit::proto::record;
use crate::audit::tree::TreeHash;
use crate::storage::log_folder::{FolderReader, FolderSettings, FolderWriter};
use crate::usecase::sequencing::{ControlKeys, KnownLog, size_of};

/// The copy, which may be out of order after an error of the disk: then it is opened again.
#[derive(Debug)]
pub(super) struct Copy {
    folder: PathBuf,
    keys: ControlKeys,
    opened: Option<Opened>,
}

/// A copy that can be written.
#[derive(Debug)]
struct Opened {
    writer: FolderWriter,
    known: KnownLog,
    /// The decision logs that the control log knows.
    started: BTreeSet<String>,
    /// The last checkpoint, and its size.
    note: Option<String>,
    signed: u64,
}

impl Copy {
    /// The copy in `folder`, which is made at its first use.
    pub(super) fn new(folder: PathBuf, keys: ControlKeys) -> Self {
        Self {
            folder,
            keys,
            opened: None,
        }
    }

    /// What it knows of the log.
    pub(super) fn known(&mut self) -> anyhow::Result<KnownLog> {
        Ok(self.opened()?.known.clone())
    }

    /// Its last checkpoint, with the size.
    pub(super) fn head(&mut self) -> anyhow::Result<Option<(u64, String)>> {
        let opened = self.opened()?;
        Ok(opened.note.clone().map(|note| (opened.signed, note)))
    }

    /// Whether it knows the decision log `incarnation`.
    pub(super) fn knows(&mut self, incarnation: &str) -> anyhow::Result<bool> {
        Ok(self.opened()?.started.contains(incarnation))
    }

    /// Appends records. After an error the copy is opened again, and has what reached the disk.
    pub(super) fn append(&mut self, records: &[Vec<u8>], age: Duration) -> anyhow::Result<()> {
        let opened = self.opened()?;
        let slices = records.iter().map(Vec::as_slice);
        if let Err(error) = opened.writer.append_round(slices, age) {
            self.opened = None;
            return Err(error.into());
        }
        for bytes in records {
            opened.take(bytes);
        }
        Ok(())
    }

    /// Signs it as it is, if it has grown. Answers the new checkpoint with its size.
    pub(super) fn sign(&mut self) -> anyhow::Result<Option<(u64, String)>> {
        let keys = self.keys.clone();
        let opened = self.opened()?;
        let size = opened.known.size;
        if size == opened.signed || !keys.can_sign(&opened.known) {
            return Ok(None);
        }
        let root = opened.writer.root()?;
        let note = keys.sign(&opened.known, size, root)?;
        if let Err(error) = opened.writer.append_checkpoint(&note) {
            self.opened = None;
            return Err(error.into());
        }
        opened.signed = size;
        opened.note = Some(note.clone());
        Ok(Some((size, note)))
    }

    /// The root over all of it.
    pub(super) fn root(&mut self) -> anyhow::Result<TreeHash> {
        Ok(self.opened()?.writer.root()?)
    }

    /// The root over its first `size` records, which is read from the disk.
    pub(super) fn root_at(&self, size: u64) -> anyhow::Result<TreeHash> {
        Ok(crate::audit::proof::root(
            &FolderReader::open(&self.folder)?,
            size,
        )?)
    }

    fn opened(&mut self) -> anyhow::Result<&mut Opened> {
        let opened = match self.opened.take() {
            Some(opened) if !opened.writer.is_failed() => opened,
            Some(_) | None => Opened::open(&self.folder, &self.keys).with_context(|| {
                format!("the copy of the control log in `{}`", self.folder.display())
            })?,
        };
        Ok(self.opened.insert(opened))
    }
}

impl Opened {
    fn open(folder: &Path, keys: &ControlKeys) -> anyhow::Result<Self> {
        // Nothing in it is lost for good: the store has all of it.
        let settings = FolderSettings {
            reserve: 0,
            ..FolderSettings::default()
        };
        if !folder.join("key").exists() {
            if folder.exists() {
                std::fs::remove_dir_all(folder)?;
            }
            let mut lines = String::new();
            for key in keys.verifiers() {
                lines.push_str(&key.to_string());
                lines.push('\n');
            }
            std::fs::create_dir_all(folder.parent().unwrap_or(folder))?;
            return Ok(Self::of(
                FolderWriter::create(folder, &lines, settings)?,
                None,
            ));
        }
        let writer = FolderWriter::reopen(folder, settings)?;
        let reader = FolderReader::open(folder)?;
        let mut opened = Self::of(writer, reader.last_checkpoint()?);
        for record in reader.records(0, reader.size()) {
            opened.take(&record?.1);
        }
        Ok(opened)
    }

    fn of(writer: FolderWriter, note: Option<String>) -> Self {
        Self {
            writer,
            known: KnownLog::default(),
            started: BTreeSet::new(),
            signed: note.as_deref().and_then(size_of).unwrap_or_default(),
            note,
        }
    }

    /// Takes a record to what is known.
    fn take(&mut self, bytes: &[u8]) {
        self.known.size = self.known.size.saturating_add(1);
        match decode(bytes).and_then(|record| record.what) {
            Some(record::What::KeyAdded(added)) => {
                self.known.keys.extend(accepted(&added, &self.known.keys));
            }
            Some(record::What::ReplicaStarted(started)) => {
                self.started.insert(started.incarnation);
            }
            Some(_) | None => {}
        }
    }
}
