//! Removes what is older than it must be kept: whole segments of decision logs, from their beginning.
//!
//! INVARIANT (logged-first): that records are removed is in the control log before they are, so that what is missing is never unexplained.
//! Hashes stay: what is left is proved as before.

use std::path::Path;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

use crate::audit::control_record::decode;
use crate::audit::proto::{Pruned, record};
use crate::storage::log_folder::{FolderReader, prune};

use super::control::Control;

/// Who prunes.
const BY: &str = "audit.keep_for";

/// Removes what is older than `keep_for` from every decision log in `folder`. Answers from how many logs something was removed.
pub(super) async fn prune_all(
    control: &Control,
    folder: &Path,
    keep_for: SignedDuration,
) -> anyhow::Result<usize> {
    let before = control
        .clock
        .now()
        .checked_sub(keep_for)
        .unwrap_or(Timestamp::MIN);
    let mut pruned: usize = 0;
    for entry in std::fs::read_dir(folder)? {
        let log = entry?.path();
        if !log.join("key").exists() {
            continue;
        }
        let below = match tokio::task::block_in_place(|| prunable(&log, before)) {
            Ok(Some(below)) => below,
            Ok(None) => continue,
            Err(error) => {
                // One log that cannot be read keeps no other from being pruned.
                tracing::warn!(log = %log.display(), error = format!("{error:#}"), "a decision log cannot be read, so nothing is removed from it");
                continue;
            }
        };
        let incarnation = log.file_name().unwrap_or_default().to_string_lossy();
        control
            .note(record::What::Pruned(Pruned {
                incarnation: incarnation.into_owned(),
                below,
                by: BY.to_owned(),
            }))
            .await?;
        let really = tokio::task::block_in_place(|| prune(&log, below))
            .with_context(|| format!("`{}`", log.display()))?;
        tracing::info!(log = %log.display(), below = really, "old records were removed");
        pruned = pruned.saturating_add(1);
    }
    Ok(pruned)
}

/// The border of segments below which all records are older than `before`; none if there is nothing to remove.
fn prunable(log: &Path, before: Timestamp) -> anyhow::Result<Option<u64>> {
    let reader = FolderReader::open(log)?;
    let mut below = None;
    for first in segment_starts(log)? {
        if first <= reader.first_index() {
            continue;
        }
        // What follows is at least as old as its first record says, give or take a step of the clock.
        let at = reader
            .record(first)?
            .and_then(|bytes| decode(&bytes))
            .map(|record| record.at_us);
        match at.map(Timestamp::from_microsecond) {
            Some(Ok(at)) if at < before => below = Some(first),
            Some(_) | None => break,
        }
    }
    Ok(below)
}

/// Where the segments of a log begin, in order.
fn segment_starts(log: &Path) -> anyhow::Result<Vec<u64>> {
    let mut starts = Vec::new();
    for entry in std::fs::read_dir(log)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        let first = path.file_stem().and_then(|stem| stem.to_str());
        if let (true, Some(Ok(first))) = (is_segment, first.map(str::parse)) {
            starts.push(first);
        }
    }
    starts.sort_unstable();
    Ok(starts)
}
