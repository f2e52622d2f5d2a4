//! Prunes a log: its oldest segments go, while the hashes of their bundles stay, and with them every later proof.

use std::fs;
use std::path::Path;

use super::disk::SystemDisk;
use super::error::FolderError;
use super::format::BUNDLE;
use super::hashes::Hashes;
use super::recover::expect_log;
use super::segment::list;
use super::writer::sync_folder;

/// Removes the segments of the log in `folder` all of whose records are below `below`, but never the last one. Answers the index of
/// the first record that is left.
///
/// May run beside the log's writer and its readers. The oldest segment goes first, so a crash leaves no hole.
///
/// # Errors
/// [`FolderError::NotALog`], [`FolderError::Damaged`] for a segment with an impossible name, and [`FolderError::Io`].
pub fn prune(folder: &Path, below: u64) -> Result<u64, FolderError> {
    expect_log(folder)?;
    // A segment beyond is an unfinished round's; the last one must hold records of the log.
    let size = Hashes::open(folder)?.bundles()?.saturating_mul(BUNDLE);
    let mut segments = list(folder)?;
    segments.retain(|segment| segment.first < size);
    let mut first = segments.first().map_or(0, |segment| segment.first);
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        if next.first > below {
            break;
        }
        fs::remove_file(&segment.path).map_err(FolderError::io("remove", &segment.path))?;
        first = next.first;
    }
    sync_folder(&SystemDisk, folder)?;
    Ok(first)
}
