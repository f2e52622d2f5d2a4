//! Segments: which there are, and the bundles in them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::bundle::{FrameHead, Unpacker};
use super::error::FolderError;
use super::format::{
    BUNDLE, BUNDLE_HEAD_BYTES, BUNDLE_RECORDS, MAX_FRAME_BYTES, MAX_INDEX, SEGMENT_HEADER_BYTES,
    count, items, segment_first, segment_header,
};

/// How many segments are kept open for reading.
const MAX_OPEN: usize = 4;

/// A segment's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The index of its first record.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

/// The segments in `folder`, lowest first. Files with other names are left alone.
pub(super) fn list(folder: &Path) -> Result<Vec<Segment>, FolderError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(FolderError::io("list", folder))? {
        let entry = entry.map_err(FolderError::io("list", folder))?;
        let Some(first) = entry.file_name().to_str().and_then(segment_first) else {
            continue;
        };
        let path = entry.path();
        if first > MAX_INDEX || !first.is_multiple_of(BUNDLE) {
            return Err(FolderError::damaged(
                &path,
                0,
                "no segment begins at such an index",
            ));
        }
        segments.push(Segment { first, path });
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments)
}

/// An open segment.
#[derive(Debug)]
struct SegmentFile {
    segment: Segment,
    file: File,
    length: u64,
    /// Where the frames of its bundles are, as far as they were looked for.
    frames: Vec<(u64, FrameHead)>,
    /// Where the next frame's head is.
    end: u64,
}

impl SegmentFile {
    /// Opens it, and checks its header.
    fn open(segment: &Segment) -> Result<Self, FolderError> {
        let path = &segment.path;
        let file = File::open(path).map_err(FolderError::io("open", path))?;
        let length = length_of(&file, path)?;
        if length < SEGMENT_HEADER_BYTES {
            return Err(FolderError::damaged(path, length, "the header is cut off"));
        }
        let mut header = [0; 16];
        let read = file.read_exact_at(&mut header, 0);
        read.map_err(FolderError::io("read", path))?;
        if header != segment_header(segment.first) {
            return Err(FolderError::damaged(
                path,
                0,
                "this is not the header of the segment",
            ));
        }
        Ok(Self {
            segment: segment.clone(),
            file,
            length,
            frames: Vec::new(),
            end: SEGMENT_HEADER_BYTES,
        })
    }

    /// Reads the frame of `bundle`, counted from the log's beginning, into `frame`. Answers where the bundle begins.
    fn read_frame(&mut self, bundle: u64, frame: &mut Vec<u8>) -> Result<u64, FolderError> {
        let (at, head) = self.find(bundle)?;
        let path = &self.segment.path;
        // The length was compared with the file's: no more is allocated than was stored.
        frame.resize(head.length, 0);
        let read = self
            .file
            .read_exact_at(frame, at.saturating_add(BUNDLE_HEAD_BYTES));
        read.map_err(FolderError::io("read", path))?;
        if crc32c::crc32c(frame) != head.crc {
            return Err(FolderError::damaged(
                path,
                at,
                "the bundle's checksum is wrong",
            ));
        }
        Ok(at)
    }

    /// Where `bundle` begins, and the head of its frame.
    fn find(&mut self, bundle: u64) -> Result<(u64, FrameHead), FolderError> {
        let position = bundle.saturating_sub(self.segment.first / BUNDLE);
        while count(self.frames.len()) <= position {
            self.find_next()?;
        }
        let found = self.frames.get(items(position)).copied();
        found.ok_or_else(|| {
            FolderError::damaged(&self.segment.path, self.end, "there is no such bundle")
        })
    }

    fn find_next(&mut self) -> Result<(), FolderError> {
        let (path, at) = (&self.segment.path, self.end);
        let cut_off = || FolderError::damaged(path, at, "a bundle is missing or cut off");
        let mut head = [0; 8];
        if self.length < at.saturating_add(BUNDLE_HEAD_BYTES) {
            self.length = length_of(&self.file, path)?;
        }
        if self.length < at.saturating_add(BUNDLE_HEAD_BYTES) {
            return Err(cut_off());
        }
        let read = self.file.read_exact_at(&mut head, at);
        read.map_err(FolderError::io("read", path))?;
        let head = FrameHead::read(head);
        if head.length > MAX_FRAME_BYTES {
            return Err(FolderError::damaged(path, at, "no bundle is so long"));
        }
        let end = at.saturating_add(head.bytes());
        if self.length < end {
            self.length = length_of(&self.file, path)?;
        }
        if self.length < end {
            return Err(cut_off());
        }
        self.frames.push((at, head));
        self.end = end;
        Ok(())
    }
}

fn length_of(file: &File, path: &Path) -> Result<u64, FolderError> {
    Ok(file
        .metadata()
        .map_err(FolderError::io("look at", path))?
        .len())
}

/// Reads bundles, whichever segment they are in; keeps a few segments open, and the bundle that was read last.
#[derive(Debug)]
pub(super) struct Bundles {
    open: VecDeque<SegmentFile>,
    unpacker: Unpacker,
    frame: Vec<u8>,
    last: Option<u64>,
}

impl Bundles {
    /// Reads bundles of the log in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self, FolderError> {
        Ok(Self {
            open: VecDeque::new(),
            unpacker: Unpacker::new().map_err(FolderError::io("unpack a bundle of", folder))?,
            frame: Vec::new(),
            last: None,
        })
    }

    /// The records of `bundle`, which is in one of `segments`.
    ///
    /// # Errors
    /// [`FolderError::Pruned`] if it is below the first of them.
    pub(super) fn read(
        &mut self,
        segments: &[Segment],
        bundle: u64,
    ) -> Result<[&[u8]; BUNDLE_RECORDS], FolderError> {
        let segment = segment_of(segments, bundle)?;
        if self.last != Some(bundle) {
            self.last = None;
            let Self {
                open,
                unpacker,
                frame,
                ..
            } = self;
            let start = opened(open, segment)?.read_frame(bundle, frame)?;
            let unpacked = unpacker.unpack(frame);
            unpacked.map_err(|bad| FolderError::damaged(&segment.path, start, bad.0))?;
            self.last = Some(bundle);
        }
        let unpacked = self.unpacker.unpacked();
        unpacked.map_err(|bad| FolderError::damaged(&segment.path, 0, bad.0))
    }

    /// Where `bundle` ends within its segment.
    pub(super) fn end_of(&mut self, segments: &[Segment], bundle: u64) -> Result<u64, FolderError> {
        let file = opened(&mut self.open, segment_of(segments, bundle)?)?;
        let (start, head) = file.find(bundle)?;
        Ok(start.saturating_add(head.bytes()))
    }
}

/// The one of `segments` that holds `bundle`.
fn segment_of(segments: &[Segment], bundle: u64) -> Result<&Segment, FolderError> {
    let first = bundle.saturating_mul(BUNDLE);
    let above = segments.partition_point(|segment| segment.first <= first);
    let segment = above.checked_sub(1).and_then(|at| segments.get(at));
    segment.ok_or_else(|| FolderError::Pruned {
        first: segments.first().map_or(0, |segment| segment.first),
    })
}

/// The open file of `segment`, from those that are `open` if it is among them.
fn opened<'a>(
    open: &'a mut VecDeque<SegmentFile>,
    segment: &Segment,
) -> Result<&'a mut SegmentFile, FolderError> {
    if let Some(at) = open.iter().position(|file| file.segment == *segment) {
        open.swap(0, at);
    } else {
        open.truncate(MAX_OPEN - 1);
        open.push_front(SegmentFile::open(segment)?);
    }
    let front = open.front_mut();
    front.ok_or_else(|| FolderError::damaged(&segment.path, 0, "the segment is not open"))
}
