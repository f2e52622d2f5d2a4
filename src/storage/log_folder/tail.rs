//! The tail as it is read: the records behind the last full bundle, the reservations, and where it ends.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use super::error::FolderError;
use super::format::{
    BUNDLE_RECORDS, END_OF_TAIL, FRAME_HEAD_BYTES, FrameKind, HEADER_BYTES, MAX_TAIL_BYTES, TAIL,
    TAIL_MAGIC, TailFrame, count,
};

/// What comes behind the tail's last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing, or frames that were left there before the tail began anew.
    Nothing,
    /// So many bytes that are no frame: what a crash cut off, and whatever was there before.
    Torn(u64),
    /// The tail begins with a record of a later index: its predecessors should be in a bundle.
    LaterRecord,
}

/// The tail of a log.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    payloads: Vec<Range<usize>>,
    /// The index of its first record: all below are in bundles.
    pub(super) first: u64,
    /// Where its last frame ends.
    pub(super) end: u64,
    /// The reservation that it begins with, if it does.
    pub(super) slot: Option<u64>,
    /// The highest reservation; 0 if there is none.
    pub(super) reserved: u64,
    pub(super) behind: Behind,
}

impl Tail {
    /// Reads the tail of the log in `folder`, whose bundles hold the records below `first`.
    pub(super) fn read(folder: &Path, first: u64) -> Result<Self, FolderError> {
        let path = folder.join(TAIL);
        let file = File::open(&path).map_err(FolderError::io("open", &path))?;
        let mut bytes = Vec::new();
        let read = file.take(count(MAX_TAIL_BYTES)).read_to_end(&mut bytes);
        read.map_err(FolderError::io("read", &path))?;
        let tail = Self::parse(bytes, first);
        tail.ok_or_else(|| FolderError::damaged(&path, 0, "this is not the header of a tail"))
    }

    /// The tail in `bytes`; none if they do not begin with its header.
    fn parse(bytes: Vec<u8>, first: u64) -> Option<Self> {
        let is_tail = bytes.starts_with(&TAIL_MAGIC);
        let mut tail = Self {
            bytes,
            payloads: Vec::new(),
            first,
            end: 0,
            slot: None,
            reserved: 0,
            behind: Behind::Nothing,
        };
        is_tail.then(|| {
            tail.find_frames();
            tail
        })
    }

    fn find_frames(&mut self) {
        let mut at = HEADER_BYTES;
        let stop = loop {
            let Some(frame) = self.bytes.get(at..).and_then(TailFrame::read) else {
                break None;
            };
            match frame.kind {
                FrameKind::Reservation if at == HEADER_BYTES => {
                    self.slot = Some(frame.index);
                    self.reserved = frame.index;
                }
                FrameKind::Reservation => self.reserved = self.reserved.max(frame.index),
                // The 256th record closes a bundle, so it is never here.
                FrameKind::Record
                    if frame.index == self.size() && self.payloads.len() < BUNDLE_RECORDS - 1 =>
                {
                    self.payloads
                        .push(at + FRAME_HEAD_BYTES..at + frame.bytes());
                }
                FrameKind::Record => break Some(frame.index),
            }
            at += frame.bytes();
        };
        self.end = count(at);
        self.behind = match stop {
            Some(index) if index > self.first && self.payloads.is_empty() => Behind::LaterRecord,
            Some(_) => Behind::Nothing,
            None => match self.bytes.get(at) {
                None | Some(&END_OF_TAIL) => Behind::Nothing,
                Some(_) => Behind::Torn(count(self.bytes.len() - at)),
            },
        };
        match stop {
            // The tail was about to begin anew: its first frame holds an older reservation than a later one may.
            Some(_) if at <= HEADER_BYTES + FRAME_HEAD_BYTES => self.find_older_reservations(at),
            // The crash hit the first frame while it was overwritten; all behind it is as it was.
            None if at == HEADER_BYTES => self.find_older_reservations(at + FRAME_HEAD_BYTES),
            _ => {}
        }
    }

    /// Finds the reservations among the frames that were left from before, from byte `at` on.
    ///
    /// Only right where a frame is known to begin: the bytes of a record could be made to look like a reservation.
    fn find_older_reservations(&mut self, mut at: usize) {
        while let Some(frame) = self.bytes.get(at..).and_then(TailFrame::read) {
            if frame.kind == FrameKind::Reservation {
                self.reserved = self.reserved.max(frame.index);
            }
            at += frame.bytes();
        }
    }

    /// The index behind its last record: how many records the log has.
    pub(super) fn size(&self) -> u64 {
        self.first.saturating_add(count(self.payloads.len()))
    }

    /// The records, from [`Self::first`] on.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let payloads = self.payloads.iter();
        payloads.filter_map(|payload| self.bytes.get(payload.clone()))
    }

    /// The record `index`; none if it is not in the tail.
    pub(super) fn record(&self, index: u64) -> Option<&[u8]> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.bytes.get(self.payloads.get(position)?.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frames: &[TailFrame<'_>]) -> Vec<u8> {
        let mut bytes = TAIL_MAGIC.to_vec();
        for frame in frames {
            frame.write(&mut bytes);
        }
        bytes
    }

    fn check(frames: &[TailFrame<'_>], rest: &[u8], size: u64, reserved: u64, behind: Behind) {
        let tail = Tail::parse([&bytes(frames), rest].concat(), 256).unwrap();
        assert_eq!(
            (tail.size(), tail.reserved, tail.behind),
            (size, reserved, behind),
            "{frames:?}"
        );
    }

    #[test]
    fn a_tail_ends_before_the_first_frame_that_does_not_follow() {
        let (record, reservation) = (TailFrame::record, TailFrame::reservation);
        let [a, b, old] = [record(256, b"a"), record(257, b"b"), record(2, b"old")];
        check(&[], &[], 256, 0, Behind::Nothing);
        check(&[reservation(9)], &[], 256, 9, Behind::Nothing);
        check(
            &[reservation(9), a, b, reservation(11)],
            &[END_OF_TAIL, 7, 7],
            258,
            11,
            Behind::Nothing,
        );
        check(&[reservation(9), a, old, b], &[], 257, 9, Behind::Nothing);
        check(&[reservation(9), old, a], &[], 256, 9, Behind::Nothing);
        check(&[reservation(9), a], &[7; 20], 257, 9, Behind::Torn(20));
        check(&[reservation(9), b], &[], 256, 9, Behind::LaterRecord);
        check(&[reservation(9), a, a], &[], 257, 9, Behind::Nothing);
    }

    #[test]
    fn the_last_reservation_outlives_a_torn_first_frame() {
        let [old, last] = [TailFrame::reservation(500), TailFrame::reservation(900)];
        let mut bytes = bytes(&[old, TailFrame::record(256, b"a"), last]);
        bytes[HEADER_BYTES + 3] ^= 1;
        let tail = Tail::parse(bytes, 512).unwrap();
        assert_eq!((tail.size(), tail.reserved, tail.slot), (512, 900, None));
    }

    #[test]
    fn the_last_reservation_counts_before_the_tail_begins_anew() {
        let [old, last] = [TailFrame::reservation(500), TailFrame::reservation(900)];
        let left = [TailFrame::record(255, b"a"), last];
        check(&[old, left[0], left[1]], &[], 256, 900, Behind::Nothing);
        check(&left, &[], 256, 900, Behind::Nothing);
        // Behind records of the tail nobody knows where a frame of before begins.
        check(
            &[old, TailFrame::record(256, b"b"), left[0], left[1]],
            &[],
            257,
            500,
            Behind::Nothing,
        );
    }

    #[test]
    fn a_tail_never_holds_a_full_bundle() {
        let frames: Vec<_> = (256..600)
            .map(|index| TailFrame::record(index, b""))
            .collect();
        check(&frames, &[], 511, 0, Behind::Nothing);
    }
}
