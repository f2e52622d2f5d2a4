//! Exports logs: a tar archive of the same tree that `countersign audit verify` reads from a disk.
//!
//! ```text
//! control/                     the control log, a log folder, whole
//! decision/<incarnation>/      a decision log, a log folder, whole: if nothing is asked of its records
//! selected/<incarnation>/      records of a decision log that fit a filter:
//!   key                        the log's verifier keys, one a line
//!   checkpoint                 the newest signed checkpoint
//!   records-<000001…>          the records with their proofs
//! ```
//!
//! A file `records-…` is "CSSEL\x01\0\0", then for each record: index u64, length of the leaf u32, number of hashes u32, the leaf,
//! the hashes of 32 bytes each: the inclusion proof of RFC 6962 against `checkpoint`, from the leaf up. All integers are little
//! endian. Records that the checkpoint does not cover yet are left out, and so are logs without a fitting record.
//!
//! INVARIANT (anchors-within): the control log is read first, and of every log the checkpoints before the records, so nothing that
//! is exported speaks of records that are not, although the replica goes on writing.
//!
//! The times of files are 0: an export of the same logs is the same archive.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use crate::audit::filter::RecordFilter;
use crate::storage::log_folder::FolderReader;
use crate::usecase::audit_reading::{CONTROL, ReadError};

use super::from_folder;
use super::pool::Pool;
use super::select;

const TAIL_MAGIC: [u8; 8] = *b"CSTAIL\x01\0";
const TAIL_RECORD: u8 = 1;
const BUNDLE: u64 = 256;
const HASH_BYTES: u64 = 32;

/// The archive under way.
pub(super) type Archive<'w> = Builder<&'w mut dyn Write>;

/// Writes the archive; answers how many records of decision logs are in it.
pub(super) fn export(
    pool: &Pool,
    filter: &RecordFilter,
    out: &mut dyn Write,
) -> Result<u64, ReadError> {
    let names = pool.names()?;
    if let Some(log) = &filter.log
        && !names.contains(log)
    {
        return Err(ReadError::NoSuchLog(log.clone()));
    }
    let is_whole = RecordFilter {
        log: None,
        ..filter.clone()
    }
    .is_empty();
    let mut archive: Archive<'_> = Builder::new(out);
    let mut records = 0_u64;
    for log in &names {
        let folder = pool.folder(log)?;
        let is_asked = filter.log.as_ref().is_none_or(|asked| asked == log);
        if log == CONTROL {
            whole(log, &folder, CONTROL, &mut archive)?;
        } else if is_asked && is_whole {
            let written = whole(log, &folder, &format!("decision/{log}"), &mut archive);
            match written {
                Err(ReadError::NoSuchLog(_)) => {}
                written => records = records.saturating_add(written?),
            }
        } else if is_asked {
            let reader = match pool.take(log) {
                Err(ReadError::NoSuchLog(_)) => continue,
                reader => reader?,
            };
            records = records.saturating_add(select::select(log, &reader, filter, &mut archive)?);
            pool.give(log, reader);
        }
    }
    archive.into_inner()?.flush()?;
    Ok(records)
}

/// Puts a file of our own making into the archive.
pub(super) fn put(archive: &mut Archive<'_>, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    put_from(archive, path, bytes, length)
}

/// Puts a whole log into the archive below `below`. Answers how many records it has.
fn whole(
    log: &str,
    folder: &Path,
    below: &str,
    archive: &mut Archive<'_>,
) -> Result<u64, ReadError> {
    let unreadable = |error: &dyn std::error::Error| ReadError::Unreadable {
        log: log.to_owned(),
        what: error.to_string(),
    };
    // INVARIANT (anchors-within): how far the checkpoints go is settled before how far the records go.
    let checkpoints = match File::open(folder.join("checkpoints")) {
        Err(_) if !folder.join("key").exists() => {
            return Err(ReadError::NoSuchLog(log.to_owned()));
        }
        file => file.map_err(|error| unreadable(&error))?,
    };
    let signed = checkpoints
        .metadata()
        .map_err(|error| unreadable(&error))?
        .len();
    let reader = FolderReader::open(folder).map_err(|error| from_folder(log, &error))?;
    put(
        archive,
        &format!("{below}/key"),
        reader.key_lines().as_bytes(),
    )?;
    put_from(
        archive,
        &format!("{below}/checkpoints"),
        checkpoints,
        signed,
    )?;
    let hashes = File::open(folder.join("hashes")).map_err(|error| unreadable(&error))?;
    let length = reader.bundles().saturating_mul(HASH_BYTES);
    put_from(archive, &format!("{below}/hashes"), hashes, length)?;
    let bundled = reader.bundles().saturating_mul(BUNDLE);
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(&error))? {
        let name = entry.map_err(|error| unreadable(&error))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let first = name.strip_suffix(".seg").map(str::parse::<u64>);
        let is_part = |first: &u64| (reader.first_index()..bundled).contains(first);
        if first.and_then(Result::ok).as_ref().is_some_and(is_part) {
            segments.push(name);
        }
    }
    segments.sort_unstable();
    for name in segments {
        // One that was pruned meanwhile fails the export: it would have a hole.
        let file = File::open(folder.join(&name)).map_err(|error| unreadable(&error))?;
        let length = file.metadata().map_err(|error| unreadable(&error))?.len();
        put_from(archive, &format!("{below}/{name}"), file, length)?;
    }
    put(
        archive,
        &format!("{below}/tail"),
        &tail(log, &reader, bundled)?,
    )?;
    Ok(reader.size().saturating_sub(reader.first_index()))
}

/// The records behind the last bundle, as a tail of their own: the log's file may begin anew at any moment.
fn tail(log: &str, reader: &FolderReader, bundled: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = TAIL_MAGIC.to_vec();
    for record in reader.records(bundled, u64::MAX) {
        let (index, leaf) = record.map_err(|error| from_folder(log, &error))?;
        let mut head = vec![TAIL_RECORD];
        head.extend_from_slice(&index.to_le_bytes());
        head.extend_from_slice(&u32::try_from(leaf.len()).unwrap_or(u32::MAX).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &leaf);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&leaf);
    }
    Ok(bytes)
}

/// Puts the first `length` bytes of `source` into the archive.
fn put_from(
    archive: &mut Archive<'_>,
    path: &str,
    source: impl Read,
    length: u64,
) -> Result<(), ReadError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o640);
    header.set_mtime(0);
    header.set_size(length);
    let mut source = Counted {
        source: source.take(length),
        read: 0,
    };
    archive.append_data(&mut header, path, &mut source)?;
    if source.read != length {
        let message = format!("`{path}` became shorter while it was exported");
        return Err(std::io::Error::other(message).into());
    }
    Ok(())
}

/// Counts what is read.
struct Counted<R> {
    source: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.read = self.read.saturating_add(u64::try_from(read).unwrap_or(0));
        Ok(read)
    }
}
