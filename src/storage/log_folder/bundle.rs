//! A bundle of 256 records as one zstd frame: packed, unpacked, and found within a segment's bytes.

use std::fmt;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::format::{
    BUNDLE_HEAD_BYTES, BUNDLE_RECORDS, LENGTH_BYTES, MAX_BUNDLE_BYTES, MAX_RECORD_BYTES, count,
    length_of,
};

/// Trades little time for the most of what can be saved: higher levels cost twice as much and save next to nothing.
const LEVEL: i32 = 1;

/// Packs bundles; its memory is used again for each.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    frame: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(LEVEL)?,
            frame: Vec::new(),
        })
    }

    /// Appends the bundle of `records`, each with its length in front, to what a segment gets.
    pub(super) fn pack(&mut self, records: &[u8], segment: &mut Vec<u8>) -> io::Result<()> {
        self.frame.clear();
        self.frame.reserve(zstd::compress_bound(records.len()));
        self.compressor
            .compress_to_buffer(records, &mut self.frame)?;
        segment.extend_from_slice(&length_of(&self.frame));
        segment.extend_from_slice(&crc32c::crc32c(&self.frame).to_le_bytes());
        segment.extend_from_slice(&self.frame);
        Ok(())
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

/// What is wrong with a bundle whose bytes were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadBundle(pub(super) &'static str);

/// Unpacks bundles; its memory is used again for each, and given back after an unusually large one.
pub(super) struct Unpacker {
    decompressor: Decompressor<'static>,
    records: Vec<u8>,
}

impl Unpacker {
    /// What is kept between two bundles at most.
    const KEEP_BYTES: usize = 8 << 20;

    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            decompressor: Decompressor::new()?,
            records: Vec::new(),
        })
    }

    /// The records in `frame`, whose CRC32C is known to be right.
    ///
    /// A frame may claim any size: none above [`MAX_BUNDLE_BYTES`] is believed, and no more is ever unpacked.
    pub(super) fn unpack(&mut self, frame: &[u8]) -> Result<[&[u8]; BUNDLE_RECORDS], BadBundle> {
        let size = zstd::zstd_safe::get_frame_content_size(frame);
        let size = size
            .ok()
            .flatten()
            .and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or(BadBundle("the frame does not say its size"))?;
        if size > MAX_BUNDLE_BYTES {
            return Err(BadBundle("the frame is too large"));
        }
        self.records.clear();
        if self.records.capacity() > Self::KEEP_BYTES {
            self.records = Vec::new();
        }
        self.records.reserve(size);
        let unpacked = self
            .decompressor
            .decompress_to_buffer(frame, &mut self.records);
        if unpacked.ok() != Some(size) {
            return Err(BadBundle("the frame cannot be unpacked"));
        }
        self.unpacked()
    }

    /// What the last [`Self::unpack`] gave.
    pub(super) fn unpacked(&self) -> Result<[&[u8]; BUNDLE_RECORDS], BadBundle> {
        split(&self.records)
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

/// The 256 records of a bundle, from their bytes with lengths in front.
fn split(bundle: &[u8]) -> Result<[&[u8]; BUNDLE_RECORDS], BadBundle> {
    const WRONG: BadBundle = BadBundle("the frame does not hold 256 records");
    let mut records: [&[u8]; BUNDLE_RECORDS] = [&[]; BUNDLE_RECORDS];
    let mut rest = bundle;
    for record in &mut records {
        let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(WRONG)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_RECORD_BYTES {
            return Err(WRONG);
        }
        (*record, rest) = after.split_at_checked(length).ok_or(WRONG)?;
    }
    rest.is_empty().then_some(records).ok_or(WRONG)
}

/// Where a bundle's zstd frame is within its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// How many bytes the frame has.
    pub(super) length: usize,
    /// What its CRC32C must be.
    pub(super) crc: u32,
}

impl FrameHead {
    /// Reads what stands in front of a frame.
    pub(super) fn read(bytes: [u8; 8]) -> Self {
        let both = u64::from_le_bytes(bytes);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Self {
            length: usize::try_from(half(both)).unwrap_or(usize::MAX),
            crc: half(both >> 32),
        }
    }

    /// How many bytes the frame takes with what stands in front of it.
    pub(super) fn bytes(self) -> u64 {
        count(self.length).saturating_add(BUNDLE_HEAD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(record: &[u8]) -> Vec<u8> {
        [length_of(record).as_slice(), record]
            .concat()
            .repeat(BUNDLE_RECORDS)
    }

    fn packed(records: &[u8]) -> Vec<u8> {
        let mut segment = Vec::new();
        Packer::new().unwrap().pack(records, &mut segment).unwrap();
        segment
    }

    #[test]
    fn a_bundle_reads_back() {
        for record in [b"".as_slice(), b"a record", &[7; 10_000]] {
            let segment = packed(&bundle(record));
            let head = FrameHead::read(segment[..8].try_into().unwrap());
            assert_eq!(head.bytes(), count(segment.len()));
            assert_eq!(head.crc, crc32c::crc32c(&segment[8..]));
            assert_eq!(
                Unpacker::new().unwrap().unpack(&segment[8..]),
                Ok([record; BUNDLE_RECORDS])
            );
        }
    }

    #[test]
    fn anything_but_256_records_is_refused() {
        let good = bundle(b"a record");
        let too_long = bundle(&vec![0; MAX_RECORD_BYTES + 1]);
        for wrong in [
            &good[1..],
            &good[..good.len() - 1],
            &[&good[..], &good].concat(),
            &[],
            &too_long,
        ] {
            assert!(
                Unpacker::new()
                    .unwrap()
                    .unpack(&packed(wrong)[8..])
                    .is_err()
            );
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_not_unpacked() {
        // A zstd frame header of a single segment with an eight byte content size, and nothing behind it.
        let claim = |size: u64| {
            [
                [0x28, 0xb5, 0x2f, 0xfd, 0xe0].as_slice(),
                &size.to_le_bytes(),
            ]
            .concat()
        };
        for size in [
            1,
            count(MAX_BUNDLE_BYTES),
            count(MAX_BUNDLE_BYTES) + 1,
            u64::MAX - 3,
        ] {
            assert!(Unpacker::new().unwrap().unpack(&claim(size)).is_err());
        }
    }
}
