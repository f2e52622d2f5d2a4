//! Selects the records of a decision log that fit a filter, each with the proof that it is in the log.

use crate::audit::filter::RecordFilter;
use crate::audit::proof::inclusion_proof;
use crate::storage::log_folder::FolderReader;
use crate::usecase::audit_reading::ReadError;

use super::export::{Archive, put};
use super::search::range;
use super::{from_folder, newest, unproved};

const MAGIC: [u8; 8] = *b"CSSEL\x01\0\0";
/// A file of records gets no further one when it has so many bytes.
const PART_BYTES: usize = 4 << 20;

/// Puts the records of `log` that fit into the archive; answers how many.
pub(super) fn select(
    log: &str,
    reader: &FolderReader,
    filter: &RecordFilter,
    archive: &mut Archive<'_>,
) -> Result<u64, ReadError> {
    let (checkpoint, size) = match newest(log, reader) {
        Err(ReadError::NotYet(_)) => return Ok(0),
        found => found?,
    };
    let range = range(log, reader, filter)?;
    let below = format!("selected/{log}");
    let (mut part, mut parts, mut selected) = (MAGIC.to_vec(), 0_u32, 0_u64);
    for record in reader.records(range.start, range.end.min(size)) {
        let (index, leaf) = record.map_err(|error| from_folder(log, &error))?;
        if !filter.fits(&leaf) {
            continue;
        }
        if selected == 0 {
            put(
                archive,
                &format!("{below}/key"),
                reader.key_lines().as_bytes(),
            )?;
            put(
                archive,
                &format!("{below}/checkpoint"),
                checkpoint.as_bytes(),
            )?;
        }
        let proof = inclusion_proof(reader, index, size);
        let proof = proof.map_err(|error| unproved(log, index, &error))?;
        part.extend_from_slice(&index.to_le_bytes());
        for length in [leaf.len(), proof.len()] {
            part.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        part.extend_from_slice(&leaf);
        for hash in &proof {
            part.extend_from_slice(hash.as_bytes());
        }
        selected = selected.saturating_add(1);
        if part.len() >= PART_BYTES {
            parts = parts.saturating_add(1);
            put(archive, &format!("{below}/records-{parts:06}"), &part)?;
            part.truncate(MAGIC.len());
        }
    }
    if part.len() > MAGIC.len() {
        parts = parts.saturating_add(1);
        put(archive, &format!("{below}/records-{parts:06}"), &part)?;
    }
    Ok(selected)
}
