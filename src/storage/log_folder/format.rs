//! The bytes of a log folder's files: names, limits, headers and frames.

use std::path::{Path, PathBuf};

/// How many records a bundle has.
pub(super) const BUNDLE: u64 = 256;
/// The same, where bundles are counted in memory.
pub(super) const BUNDLE_RECORDS: usize = 256;
/// No record is longer.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// No signed note is longer.
pub const MAX_NOTE_BYTES: usize = 1 << 16;
/// A bundle's records, each with its length in front, are never more bytes: 256 MiB and 1 KiB.
pub(super) const MAX_BUNDLE_BYTES: usize = BUNDLE_RECORDS * (LENGTH_BYTES + MAX_RECORD_BYTES);
/// A bundle's zstd frame is never longer: zstd adds at most one byte in 256, and a little.
pub(super) const MAX_FRAME_BYTES: usize = MAX_BUNDLE_BYTES + MAX_BUNDLE_BYTES / 128 + 1024;
/// No more of the tail is read: a bundle of the longest records, and as many reservations.
pub(super) const MAX_TAIL_BYTES: usize =
    HEADER_BYTES + BUNDLE_RECORDS * (MAX_RECORD_BYTES + 2 * FRAME_HEAD_BYTES);
/// No log has more records. What is read as a larger index is wrong, and no sum of indexes can overflow.
pub(super) const MAX_INDEX: u64 = 1 << 56;

/// What a record's length takes within a bundle.
pub(super) const LENGTH_BYTES: usize = 4;
/// What a tree hash takes in `hashes`.
pub(super) const HASH_BYTES: u64 = 32;
/// What comes before a bundle's zstd frame: its length and its CRC32C.
pub(super) const BUNDLE_HEAD_BYTES: u64 = 8;
/// What comes before a segment's first bundle.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 16;
/// What comes before the tail's first frame.
pub(super) const HEADER_BYTES: usize = TAIL_MAGIC.len();
/// What comes before a tail frame's payload: kind, index, length, CRC32C.
pub(super) const FRAME_HEAD_BYTES: usize = 17;
/// Stands where the next frame will be, so that what an earlier, longer tail left behind is never taken for one.
pub(super) const END_OF_TAIL: u8 = 0;

const SEGMENT_MAGIC: [u8; 8] = *b"CSSEG\x01\0\0";
pub(super) const TAIL_MAGIC: [u8; 8] = *b"CSTAIL\x01\0";
const RECORD: u8 = 1;
const RESERVATION: u8 = 2;

/// The files of a log folder but its segments.
pub(super) const KEY: &str = "key";
pub(super) const HASHES: &str = "hashes";
pub(super) const TAIL: &str = "tail";
pub(super) const CHECKPOINTS: &str = "checkpoints";

/// Where the segment that begins with record `first` is.
pub(super) fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// The first record of the segment called `name`; none if it is not the name of a segment.
pub(super) fn segment_first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// The header of the segment that begins with record `first`.
pub(super) fn segment_header(first: u64) -> [u8; 16] {
    (u128::from(u64::from_le_bytes(SEGMENT_MAGIC)) | u128::from(first) << 64).to_le_bytes()
}

/// What a tail frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// The bytes of a record.
    Record,
    /// Indexes below this one may have been used.
    Reservation,
}

/// A frame of the tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct TailFrame<'a> {
    pub(super) kind: FrameKind,
    pub(super) index: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> TailFrame<'a> {
    /// A reservation of the indexes below `index`.
    pub(super) fn reservation(index: u64) -> Self {
        Self {
            kind: FrameKind::Reservation,
            index,
            payload: &[],
        }
    }

    /// A record, of at most [`MAX_RECORD_BYTES`].
    pub(super) fn record(index: u64, payload: &'a [u8]) -> Self {
        Self {
            kind: FrameKind::Record,
            index,
            payload,
        }
    }

    /// Appends its bytes to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            FrameKind::Record => RECORD,
            FrameKind::Reservation => RESERVATION,
        };
        let start = out.len();
        out.push(kind);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&length_of(self.payload));
        let head = out.get(start..).unwrap_or_default();
        let crc = crc32c::crc32c_append(crc32c::crc32c(head), self.payload);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(self.payload);
    }

    /// The frame that `bytes` begin with; none if there is no whole and right one.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<13>()?;
        let (kind, numbers) = head.split_first()?;
        let (index, length) = numbers.split_first_chunk::<8>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        let kind = match (*kind, length) {
            (RECORD, 0..=MAX_RECORD_BYTES) => FrameKind::Record,
            (RESERVATION, 0) => FrameKind::Reservation,
            _ => return None,
        };
        let payload = rest.get(..length)?;
        let is_right =
            crc32c::crc32c_append(crc32c::crc32c(head), payload) == u32::from_le_bytes(*crc);
        is_right.then_some(Self {
            kind,
            index: u64::from_le_bytes(*index),
            payload,
        })
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        FRAME_HEAD_BYTES.saturating_add(self.payload.len())
    }
}

/// The length of `bytes` as it is written in front of them.
pub(super) fn length_of(bytes: &[u8]) -> [u8; LENGTH_BYTES] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A number of bytes or items in memory, as it is counted on disk.
pub(super) fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

/// A number on disk as a number of items in memory, at most as many as fit.
pub(super) fn items(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_no_changed_one_does() {
        let mut bytes = Vec::new();
        TailFrame::record(7, b"seven").write(&mut bytes);
        let frame = TailFrame::read(&bytes).unwrap();
        assert_eq!((frame.index, frame.payload), (7, b"seven".as_slice()));
        assert_eq!(frame.bytes(), bytes.len());
        for at in 0..bytes.len() {
            assert!(TailFrame::read(&bytes[..at]).is_none());
            bytes[at] ^= 1;
            assert!(TailFrame::read(&bytes).is_none());
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn only_twenty_digits_name_a_segment() {
        let path = segment_path(Path::new("log"), 512);
        assert_eq!(path, Path::new("log/00000000000000000512.seg"));
        assert_eq!(segment_first("00000000000000000512.seg"), Some(512));
        for wrong in [
            "512.seg",
            "+0000000000000000512.seg",
            "99999999999999999999.seg",
            "key",
        ] {
            assert_eq!(segment_first(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_segment_header_is_magic_then_first_index() {
        assert_eq!(
            segment_header(0x0102).as_slice(),
            b"CSSEG\x01\0\0\x02\x01\0\0\0\0\0\0"
        );
    }
}
