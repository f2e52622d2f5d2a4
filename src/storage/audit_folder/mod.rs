//! The audit folder of a replica as a library of logs: found, searched, proved and exported, also while the replica writes.
//!
//! Place: floor 3, above `audit`, whose proofs it makes; implements [`LogLibrary`].
//! Never: a write to a log folder, a signature, an answer about records that no checkpoint covers where it would be kept for good.

mod export;
mod pool;
mod search;
mod select;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::audit::checkpoint::Checkpoint;
use crate::audit::filter::RecordFilter;
use crate::audit::note::{Note, VerifierKey};
use crate::audit::proof::{ProofError, consistency_proof, inclusion_proof};
use crate::audit::tile::{EntriesTile, Tile, entries_bytes, tile_bytes};
use crate::storage::log_folder::{FolderError, FolderReader};
use crate::usecase::audit_reading::{
    Consistency, Inclusion, LogInfo, LogLibrary, Page, Query, ReadError,
};

use pool::Pool;

/// An audit folder that is open for reading: `control` and `decision/<incarnation>`, each a log folder.
#[derive(Debug)]
pub struct AuditFolder {
    pool: Pool,
}

impl AuditFolder {
    /// Opens the audit folder at `path`. The logs in it may still come and go.
    ///
    /// # Errors
    /// What the system says if it is no folder.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        std::fs::read_dir(path)?;
        Ok(Self {
            pool: Pool::new(path.to_owned()),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &PathBuf {
        self.pool.root()
    }

    /// Asks `ask` of the log, as it is now, and keeps it open for the next question.
    fn with<T>(
        &self,
        log: &str,
        ask: impl FnOnce(&FolderReader) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let reader = self.pool.take(log)?;
        let answer = ask(&reader)?;
        self.pool.give(log, reader);
        Ok(answer)
    }
}

impl LogLibrary for AuditFolder {
    fn logs(&self) -> Result<Vec<LogInfo>, ReadError> {
        let mut logs = Vec::new();
        for name in self.pool.names()? {
            match self.with(&name, |reader| Ok(describe(&name, reader))) {
                Err(ReadError::NoSuchLog(_)) => {}
                found => logs.push(found?),
            }
        }
        Ok(logs)
    }

    fn checkpoint(&self, log: &str) -> Result<String, ReadError> {
        self.with(log, |reader| Ok(newest(log, reader)?.0))
    }

    fn inclusion(&self, log: &str, index: u64, size: Option<u64>) -> Result<Inclusion, ReadError> {
        self.with(log, |reader| {
            let (size, checkpoint) = match size {
                None => {
                    let (note, size) = newest(log, reader)?;
                    (size, Some(note))
                }
                Some(size) => (size, checkpoint_of(log, reader, size)?),
            };
            if index >= size && index < reader.size() {
                return Err(ReadError::NotYet(format!(
                    "a checkpoint of log `{log}` over record {index}"
                )));
            }
            let leaf = record(log, reader, index)?;
            within(log, reader, size)?;
            let hashes = inclusion_proof(reader, index, size);
            Ok(Inclusion {
                size,
                hashes: hashes.map_err(|error| unproved(log, index, &error))?,
                leaf,
                checkpoint,
            })
        })
    }

    fn consistency(&self, log: &str, old: u64, new: Option<u64>) -> Result<Consistency, ReadError> {
        self.with(log, |reader| {
            let new_size = match new {
                Some(size) => size,
                None => newest(log, reader)?.1,
            };
            within(log, reader, new_size)?;
            let hashes = consistency_proof(reader, old, new_size);
            Ok(Consistency {
                new_size,
                hashes: hashes.map_err(|error| unproved(log, old, &error))?,
            })
        })
    }

    fn record(&self, log: &str, index: u64) -> Result<Vec<u8>, ReadError> {
        self.with(log, |reader| record(log, reader, index))
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        search::search(&self.pool, query)
    }

    fn tile(&self, log: &str, path: &str) -> Result<Vec<u8>, ReadError> {
        let tile: Tile = path.parse().map_err(|_| no_path())?;
        self.with(log, |reader| {
            let (_, size) = newest(log, reader)?;
            let there = Tile::at(tile.level(), tile.index(), size.min(reader.size()));
            if there.is_none_or(|there| there.width() < tile.width()) {
                return Err(ReadError::NotYet(path.to_owned()));
            }
            tile_bytes(reader, &tile).ok_or_else(|| ReadError::NoSuchRecord {
                log: log.to_owned(),
                index: tile.index().saturating_mul(256),
            })
        })
    }

    fn entries(&self, log: &str, path: &str) -> Result<Vec<u8>, ReadError> {
        let tile: EntriesTile = path.parse().map_err(|_| no_path())?;
        self.with(log, |reader| {
            let (_, size) = newest(log, reader)?;
            let there = EntriesTile::at(tile.index(), size.min(reader.size()));
            let records = tile.records();
            let records = records
                .filter(|_| there.is_some_and(|there| there.width() >= tile.width()))
                .ok_or_else(|| ReadError::NotYet(path.to_owned()))?;
            let missing = |index| ReadError::NoSuchRecord {
                log: log.to_owned(),
                index,
            };
            if records.start < reader.first_index() {
                return Err(missing(records.start));
            }
            let start = records.start;
            let read: Result<Vec<_>, _> = reader.records(records.start, records.end).collect();
            let read = read.map_err(|error| from_folder(log, &error))?;
            entries_bytes(read.iter().map(|(_, leaf)| leaf.as_slice())).map_err(|_| missing(start))
        })
    }

    fn export(&self, filter: &RecordFilter, out: &mut dyn Write) -> Result<u64, ReadError> {
        export::export(&self.pool, filter, out)
    }
}

/// What a log says of itself.
fn describe(name: &str, reader: &FolderReader) -> LogInfo {
    let keys: Vec<String> = reader.key_lines().lines().map(str::to_owned).collect();
    let first = keys.first().and_then(|key| key.parse::<VerifierKey>().ok());
    LogInfo {
        name: name.to_owned(),
        origin: first.map_or_else(String::new, |key| key.name().to_owned()),
        keys,
        size: reader.size(),
        first_index: reader.first_index(),
    }
}

/// The record `index` of a log.
fn record(log: &str, reader: &FolderReader, index: u64) -> Result<Vec<u8>, ReadError> {
    let record = reader
        .record(index)
        .map_err(|error| from_folder(log, &error))?;
    record.ok_or_else(|| ReadError::NoSuchRecord {
        log: log.to_owned(),
        index,
    })
}

/// The newest checkpoint of a log, with the size that it says.
fn newest(log: &str, reader: &FolderReader) -> Result<(String, u64), ReadError> {
    let note = reader
        .last_checkpoint()
        .map_err(|error| from_folder(log, &error))?;
    let note = note.ok_or_else(|| ReadError::NotYet(format!("a checkpoint of log `{log}`")))?;
    let size = size_of(log, &note)?;
    Ok((note, size))
}

/// The checkpoint of exactly this size, if there is one. Looks through all of them unless it is the newest.
fn checkpoint_of(log: &str, reader: &FolderReader, size: u64) -> Result<Option<String>, ReadError> {
    let last = reader
        .last_checkpoint()
        .map_err(|error| from_folder(log, &error))?;
    match last {
        Some(note) if size_of(log, &note)? == size => return Ok(Some(note)),
        Some(_) => {}
        None => return Ok(None),
    }
    let notes = reader
        .checkpoints()
        .map_err(|error| from_folder(log, &error))?;
    for note in notes {
        let note = note.map_err(|error| from_folder(log, &error))?;
        match size_of(log, &note)? {
            found if found < size => {}
            found => return Ok((found == size).then_some(note)),
        }
    }
    Ok(None)
}

/// The size that a checkpoint says. Whether to believe it is for whoever reads it.
fn size_of(log: &str, note: &str) -> Result<u64, ReadError> {
    let note = Note::parse(note).ok();
    let checkpoint = note.and_then(|note| Checkpoint::parse(note.text()).ok());
    let checkpoint = checkpoint.ok_or_else(|| ReadError::Damaged {
        log: log.to_owned(),
        what: "a checkpoint cannot be read".to_owned(),
    })?;
    Ok(checkpoint.size())
}

fn within(log: &str, reader: &FolderReader, size: u64) -> Result<(), ReadError> {
    if size > reader.size() {
        let what = format!("log `{log}` with {size} records");
        return Err(ReadError::NotYet(what));
    }
    Ok(())
}

fn no_path() -> ReadError {
    ReadError::BadFilter {
        field: "path",
        message: "is not the path of a tile".to_owned(),
    }
}

/// Why there is no proof about record `index`.
fn unproved(log: &str, index: u64, error: &ProofError) -> ReadError {
    match error {
        ProofError::Shrunk { .. } => ReadError::BadFilter {
            field: "old_size",
            message: error.to_string(),
        },
        ProofError::NoSuchLeaf { .. } | ProofError::UnknownNode { .. } => ReadError::NoSuchRecord {
            log: log.to_owned(),
            index,
        },
        ProofError::WrongLength { .. } | ProofError::WrongRoot => ReadError::Damaged {
            log: log.to_owned(),
            what: error.to_string(),
        },
    }
}

/// An error of a log folder, as one of the log.
fn from_folder(log: &str, error: &FolderError) -> ReadError {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    let what = format!("{error}{}", source.unwrap_or_default());
    let log = log.to_owned();
    match error {
        FolderError::NotALog { .. } => ReadError::NoSuchLog(log),
        FolderError::Damaged { .. } => ReadError::Damaged { log, what },
        FolderError::Pruned { first } => ReadError::NoSuchRecord {
            log,
            index: first.saturating_sub(1),
        },
        FolderError::Io { .. }
        | FolderError::Failed
        | FolderError::NotEmpty { .. }
        | FolderError::Replaced { .. }
        | FolderError::TooLong { .. }
        | FolderError::NotANote => ReadError::Unreadable { log, what },
    }
}
