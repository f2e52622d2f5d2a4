//! The folder of an audit log on disk: written in rounds, read beside the writer, recovered after a crash, pruned from below.
//!
//! ```text
//! key                       the log's verifier keys, one a line; written last, so a folder without it never was a log
//! 00000000000000000000.seg  whole bundles of 256 records from the index in the name on:
//!                           "CSSEG\x01\0\0", first index u64; then bundles: length u32, CRC32C u32, zstd frame
//! hashes                    32 bytes a full bundle: its tree hash; they stay when segments are pruned
//! tail                      "CSTAIL\x01\0"; then frames: kind u8, index u64, length u32, CRC32C u32, payload
//! checkpoints               signed notes, oldest first, each followed by an empty line
//! ```
//!
//! All integers are little endian. A round touches the files in this order, and each is on disk before the next is begun:
//! segment, `hashes`, `tail`. What a crash leaves follows from the order:
//!
//! INVARIANT (hash-commits): a bundle is part of the log once its hash is in `hashes`; what a segment holds beyond is the unfinished
//! end of a round. So a bundle that has its hash and cannot be read is damage, never the end of the log.
//! INVARIANT (tail-until-hash): the tail begins anew only when the hash of the bundle with its records is on disk.
//! INVARIANT (one-record-one-frame): an index is written to the tail once, so a frame left from before never follows the last one.
//! INVARIANT (reserved-grows): the highest reservation is readable at every moment, also while the tail begins anew: it is first
//! written to the end of the tail, later to its beginning, and overwritten at the end only then.
//!
//! Place: floor 3, above `audit`, whose tree it fills.
//! Never: a record's meaning, a signature, a clock.

mod bundle;
mod checkpoints;
mod create;
pub mod disk;
mod error;
mod format;
mod hashes;
mod nodes;
mod prune;
mod reader;
mod recover;
mod segment;
mod tail;
mod tail_writer;
mod writer;

pub use error::FolderError;
pub use format::{MAX_NOTE_BYTES, MAX_RECORD_BYTES};
pub use prune::prune;
pub use reader::{FolderReader, Records};
pub use recover::{Extent, Recovered, recover};
pub use writer::{FolderSettings, FolderWriter, RoundOutcome};
