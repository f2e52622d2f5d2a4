//! The tail as it is written: one write a round, and a first frame that always holds a reservation that is good.

use super::disk::OpenFile;
use super::error::FolderError;
use super::format::{END_OF_TAIL, FRAME_HEAD_BYTES, HEADER_BYTES, TailFrame, count};

/// Writes the tail.
#[derive(Debug)]
pub(super) struct TailWriter {
    file: OpenFile,
    /// The reservation that the tail begins with, if it does.
    slot: Option<u64>,
    /// The highest reservation on the disk; 0 if there is none.
    reserved: u64,
    /// How far ahead reservations go; 0 for none at all.
    reserve: u64,
    /// The frames of the round.
    frames: Vec<u8>,
}

impl TailWriter {
    /// Goes on behind the frames of `file`, which begin with `slot` and reserve up to `reserved`.
    pub(super) fn new(file: OpenFile, slot: Option<u64>, reserved: u64, reserve: u64) -> Self {
        Self {
            file,
            slot,
            reserved,
            reserve,
            frames: Vec::new(),
        }
    }

    /// Drops what was put for a round.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
    }

    /// Puts a record of the round.
    pub(super) fn put(&mut self, index: u64, record: &[u8]) {
        TailFrame::record(index, record).write(&mut self.frames);
    }

    /// Begins the tail anew: every record in it is in a bundle whose hash is on the disk.
    pub(super) fn restart(&mut self) -> Result<(), FolderError> {
        self.file.move_end(count(HEADER_BYTES));
        if self.reserved > self.slot.unwrap_or(0) {
            // INVARIANT (reserved-grows): this frame alone is overwritten first; the one at the end is still there meanwhile.
            let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES);
            TailFrame::reservation(self.reserved).write(&mut frame);
            self.file.write(&frame)?;
            self.slot = Some(self.reserved);
        }
        if self.slot.is_some() {
            self.file.move_end(count(HEADER_BYTES + FRAME_HEAD_BYTES));
        }
        Ok(())
    }

    /// Writes the round's frames, and a reservation if few indexes behind `size` are left, and puts them on the disk.
    pub(super) fn commit(&mut self, size: u64) -> Result<(), FolderError> {
        let is_low = self.reserved.saturating_sub(size) < self.reserve.div_ceil(2);
        let reserved = if is_low {
            size.saturating_add(self.reserve)
        } else {
            self.reserved
        };
        if is_low {
            TailFrame::reservation(reserved).write(&mut self.frames);
        }
        if self.frames.is_empty() {
            return Ok(());
        }
        let frames = count(self.frames.len());
        self.frames.push(END_OF_TAIL);
        self.file.write(&self.frames)?;
        self.file.move_end(self.file.end().saturating_add(frames));
        self.reserved = reserved;
        Ok(())
    }

    /// Indexes below this one may be used.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// The file.
    pub(super) fn file(&self) -> &OpenFile {
        &self.file
    }
}
