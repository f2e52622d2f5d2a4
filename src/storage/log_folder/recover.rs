//! Finds out what a log folder holds after its writer is gone: reads it through, computes the tree again, and tells a crash's
//! unfinished end from damage.
//!
//! Damage within the tail cannot be told from an end: the log is shorter then than its last checkpoint says, which whoever checks
//! the checkpoints finds. Everything else that is wrong below the end is an error.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::audit::tree::{Frontier, TreeHash, bundle_hash, leaf_hash};

use super::checkpoints::last_note;
use super::error::FolderError;
use super::format::{BUNDLE, BUNDLE_RECORDS, HASH_BYTES, KEY, SEGMENT_HEADER_BYTES, TAIL};
use super::hashes::Hashes;
use super::segment::{Bundles, Segment, list};
use super::tail::{Behind, Tail};

/// How many hashes are read at a time.
const HASHES_AT_ONCE: u64 = 4096;

/// How much of a log is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every record.
    Everything,
    /// The records of the last segment and the tail; for those before, their bundles' hashes are believed.
    LastSegment,
}

/// What a log folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// How many records the log has, pruned ones included.
    pub size: u64,
    /// The root over them.
    pub root: TreeHash,
    /// The tree over them.
    pub frontier: Frontier,
    /// Indexes below this one may have been used; never below `size`.
    pub reserved: u64,
    /// The first record that was not pruned.
    pub first_index: u64,
    /// How many bytes a crash left that belong to nothing.
    pub torn_bytes: u64,
    /// The last whole signed checkpoint. Its signature and root were not checked, and its size not compared.
    pub last_checkpoint: Option<String>,
}

/// Reads the log in `folder` after its writer is gone, and changes nothing.
///
/// # Errors
/// [`FolderError::NotALog`], [`FolderError::Damaged`] and [`FolderError::Io`].
pub fn recover(folder: &Path, extent: Extent) -> Result<Recovered, FolderError> {
    let survey = survey(folder, extent)?;
    let mut frontier = survey.bundled;
    let records = survey.tail.records();
    records.for_each(|record| frontier.push(leaf_hash(record)));
    Ok(Recovered {
        size: frontier.size(),
        root: frontier.root(),
        reserved: survey.tail.reserved.max(frontier.size()),
        first_index: survey.segments.first().map_or(0, |segment| segment.first),
        torn_bytes: survey.torn_bytes,
        last_checkpoint: survey.last_checkpoint,
        frontier,
    })
}

/// What there is, file by file, and where each ends.
#[derive(Debug)]
pub(super) struct Survey {
    /// The tree of the full bundles.
    pub(super) bundled: Frontier,
    pub(super) tail: Tail,
    /// The segments with bundles of the log.
    pub(super) segments: Vec<Segment>,
    /// Where the last of them ends.
    pub(super) segment_end: u64,
    /// How many bytes the others have.
    pub(super) earlier_bytes: u64,
    /// Segments that an unfinished round began.
    pub(super) surplus: Vec<PathBuf>,
    pub(super) hashes_end: u64,
    pub(super) checkpoints_end: u64,
    last_checkpoint: Option<String>,
    torn_bytes: u64,
}

/// Reads the log in `folder`.
pub(super) fn survey(folder: &Path, extent: Extent) -> Result<Survey, FolderError> {
    expect_log(folder)?;
    let hashes = Hashes::open(folder)?;
    let bundles = hashes.bundles()?;
    let size = bundles.saturating_mul(BUNDLE);
    let mut segments = list(folder)?;
    let within = segments.partition_point(|segment| segment.first < size);
    let surplus: Vec<PathBuf> = segments
        .drain(within..)
        .map(|segment| segment.path)
        .collect();
    let bundled = join_hashes(&hashes, bundles)?;
    let ends = check_segments(folder, &segments, &hashes, bundles, extent)?;
    let tail = Tail::read(folder, size)?;
    let torn_tail = match tail.behind {
        Behind::Nothing => 0,
        Behind::Torn(bytes) => bytes,
        Behind::LaterRecord => {
            return Err(FolderError::damaged(
                &folder.join(TAIL),
                tail.end,
                "the records before this one are missing",
            ));
        }
    };
    let (last_checkpoint, checkpoint_bytes) = last_note(folder)?;
    let checkpoints_end = last_checkpoint.as_ref().map_or(0, |note| note.end);
    let hashes_end = bundles.saturating_mul(HASH_BYTES);
    let mut torn_bytes = torn_tail
        .saturating_add(ends.torn_bytes)
        .saturating_add(hashes.bytes()?.saturating_sub(hashes_end))
        .saturating_add(checkpoint_bytes.saturating_sub(checkpoints_end));
    for path in &surplus {
        torn_bytes = torn_bytes.saturating_add(bytes_of(path)?);
    }
    Ok(Survey {
        bundled,
        tail,
        segments,
        segment_end: ends.last_end,
        earlier_bytes: ends.earlier_bytes,
        surplus,
        hashes_end,
        checkpoints_end,
        last_checkpoint: last_checkpoint.map(|note| note.text),
        torn_bytes,
    })
}

/// Whether the creation of the log was finished.
pub(super) fn expect_log(folder: &Path) -> Result<(), FolderError> {
    let key = folder.join(KEY);
    match fs::metadata(&key) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FolderError::NotALog {
            folder: folder.to_owned(),
        }),
        Err(error) => Err(FolderError::io("look at", &key)(error)),
    }
}

fn join_hashes(hashes: &Hashes, bundles: u64) -> Result<Frontier, FolderError> {
    let mut frontier = Frontier::new();
    let mut bundle = 0;
    while bundle < bundles {
        let number = HASHES_AT_ONCE.min(bundles - bundle);
        for hash in hashes.read(bundle, number)? {
            let at = bundle.saturating_mul(HASH_BYTES);
            if hash.as_bytes() == &[0; 32] {
                return Err(FolderError::damaged(
                    hashes.path(),
                    at,
                    "a bundle's hash is missing",
                ));
            }
            let pushed = frontier.push_bundle(hash);
            pushed
                .map_err(|_| FolderError::damaged(hashes.path(), at, "a bundle does not follow"))?;
            bundle += 1;
        }
    }
    Ok(frontier)
}

/// Where the segments end.
#[derive(Debug, Default)]
struct SegmentEnds {
    /// Where the log ends in the last one.
    last_end: u64,
    /// How many bytes come behind that.
    torn_bytes: u64,
    /// How many bytes the other segments have.
    earlier_bytes: u64,
}

/// Reads the segments as far as `extent` says and compares their bundles with the hashes.
fn check_segments(
    folder: &Path,
    segments: &[Segment],
    hashes: &Hashes,
    bundles: u64,
    extent: Extent,
) -> Result<SegmentEnds, FolderError> {
    let mut ends = SegmentEnds::default();
    let Some(last) = segments.last() else {
        let missing = || {
            FolderError::damaged(
                hashes.path(),
                0,
                "the segments of these bundles are missing",
            )
        };
        return if bundles == 0 {
            Ok(ends)
        } else {
            Err(missing())
        };
    };
    let mut reader = Bundles::new(folder)?;
    let next_firsts = segments.iter().skip(1).map(|next| next.first / BUNDLE);
    for (segment, end_bundle) in segments.iter().zip(next_firsts.chain([bundles])) {
        let is_last = segment == last;
        if extent == Extent::LastSegment && !is_last {
            ends.earlier_bytes = ends.earlier_bytes.saturating_add(bytes_of(&segment.path)?);
            continue;
        }
        let mut end = SEGMENT_HEADER_BYTES;
        for bundle in segment.first / BUNDLE..end_bundle {
            let start = end;
            let hash = hash_of(&reader.read(segments, bundle)?);
            end = reader.end_of(segments, bundle)?;
            if hashes.read(bundle, 1)? != [hash] {
                return Err(FolderError::damaged(
                    &segment.path,
                    start,
                    "the bundle is not that of its hash",
                ));
            }
        }
        let behind = bytes_of(&segment.path)?.saturating_sub(end);
        if is_last {
            ends.last_end = end;
            ends.torn_bytes = behind;
        } else if behind > 0 {
            return Err(FolderError::damaged(
                &segment.path,
                end,
                "the next segment begins earlier",
            ));
        } else {
            ends.earlier_bytes = ends.earlier_bytes.saturating_add(end);
        }
    }
    Ok(ends)
}

/// The tree hash of a bundle's records.
fn hash_of(records: &[&[u8]; BUNDLE_RECORDS]) -> TreeHash {
    bundle_hash(&records.map(leaf_hash))
}

fn bytes_of(path: &Path) -> Result<u64, FolderError> {
    Ok(fs::metadata(path)
        .map_err(FolderError::io("look at", path))?
        .len())
}
