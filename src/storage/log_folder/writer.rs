//! Writes a log folder, one commit round at a time: when a round has returned, all of it is on the disk.
//!
//! INVARIANT (failed-for-good): once a write or a sync failed, nothing is written any more. A second sync would answer that all is
//! well although the first one's bytes are lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::tree::{Frontier, TreeHash, bundle_hash, leaf_hash};

use super::bundle::Packer;
use super::checkpoints;
use super::disk::{Disk, OpenFile};
use super::error::FolderError;
use super::format::{
    BUNDLE, BUNDLE_RECORDS, MAX_RECORD_BYTES, count, length_of, segment_header, segment_path,
};
use super::tail_writer::TailWriter;

/// How a log folder is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderSettings {
    /// A segment of so many bytes gets no further bundle.
    pub segment_bytes: u64,
    /// Neither does one that is so old.
    pub segment_age: Duration,
    /// How many indexes are reserved ahead; 0 for none.
    pub reserve: u64,
}

impl Default for FolderSettings {
    /// Segments of 256 MiB or an hour, and 100,000 indexes ahead.
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            segment_age: Duration::from_secs(3600),
            reserve: 100_000,
        }
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundOutcome {
    /// The index of the round's first record.
    pub first: u64,
    /// How many records the log has now, all of them on the disk.
    pub size: u64,
}

/// Writes a log folder. There is one writer for a folder at a time.
#[derive(Debug)]
pub struct FolderWriter {
    disk: Box<dyn Disk>,
    /// The tree of the full bundles.
    bundled: Frontier,
    open: OpenBundle,
    packer: Packer,
    segment: SegmentWriter,
    hashes: OpenFile,
    /// The hashes of the bundles that the round closed.
    new_hashes: Vec<u8>,
    tail: TailWriter,
    checkpoints: OpenFile,
    /// How many records are on the disk.
    size: u64,
    is_failed: bool,
}

/// The files of a log that was just created or reopened, and how far they go.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
    pub(super) disk: Box<dyn Disk>,
    /// The segment that takes the next bundle, if there is one yet.
    pub(super) segment: Option<OpenFile>,
    /// How many bytes the segments before it have.
    pub(super) earlier_bytes: u64,
    pub(super) hashes: OpenFile,
    pub(super) tail: TailWriter,
    pub(super) checkpoints: OpenFile,
}

impl FolderWriter {
    /// Goes on behind the bundles in `bundled` and the records of the `tail`.
    pub(super) fn new<'a>(
        files: Files,
        bundled: Frontier,
        tail: impl Iterator<Item = &'a [u8]>,
        settings: FolderSettings,
    ) -> Result<Self, FolderError> {
        let packer = Packer::new().map_err(FolderError::io("pack a bundle of", &files.folder))?;
        let mut open = OpenBundle::default();
        tail.for_each(|record| open.push(record));
        Ok(Self {
            disk: files.disk,
            size: bundled.size().saturating_add(count(open.leaves.len())),
            bundled,
            open,
            packer,
            segment: SegmentWriter {
                folder: files.folder,
                settings,
                file: files.segment,
                is_new: false,
                opened: None,
                earlier_bytes: files.earlier_bytes,
                buffer: Vec::new(),
            },
            hashes: files.hashes,
            new_hashes: Vec::new(),
            tail: files.tail,
            checkpoints: files.checkpoints,
            is_failed: false,
        })
    }

    /// Appends the records of one round and returns when all of them are on the disk.
    ///
    /// `now` is the time since any fixed moment, for the age of segments. The records are gone through twice.
    ///
    /// # Errors
    /// [`FolderError::TooLong`] for a record of more than [`MAX_RECORD_BYTES`]; nothing was written then. After any other error the
    /// writer is of no use any more, and only `recover` can tell which of the round's records are there.
    pub fn append_round<'a, R>(
        &mut self,
        records: R,
        now: Duration,
    ) -> Result<RoundOutcome, FolderError>
    where
        R: IntoIterator<Item = &'a [u8], IntoIter: Clone>,
    {
        let records = records.into_iter();
        let mut size = self.size;
        for record in records.clone() {
            let length = record.len();
            if length > MAX_RECORD_BYTES {
                return Err(FolderError::TooLong { length });
            }
            size = size.saturating_add(1);
        }
        self.once(|writer| writer.write_round(records, size, now))?;
        let first = self.size;
        self.size = size;
        Ok(RoundOutcome { first, size })
    }

    fn write_round<'a>(
        &mut self,
        records: impl Iterator<Item = &'a [u8]>,
        size: u64,
        now: Duration,
    ) -> Result<(), FolderError> {
        self.tail.clear();
        self.new_hashes.clear();
        let bundled = size - size % BUNDLE;
        for (index, record) in (self.size..).zip(records) {
            self.open.push(record);
            if self.open.leaves.len() == BUNDLE_RECORDS {
                self.close_bundle(now)?;
            }
            if index >= bundled {
                self.tail.put(index, record);
            }
        }
        if !self.new_hashes.is_empty() {
            // INVARIANT (hash-commits), INVARIANT (tail-until-hash): each of these is on the disk before the next is begun.
            self.segment.flush(self.disk.as_ref())?;
            self.hashes.append(&self.new_hashes)?;
            self.tail.restart()?;
        }
        self.tail.commit(size)
    }

    fn close_bundle(&mut self, now: Duration) -> Result<(), FolderError> {
        let first = self.bundled.size();
        self.segment.begin_bundle(self.disk.as_ref(), first, now)?;
        let packed = self
            .packer
            .pack(&self.open.records, &mut self.segment.buffer);
        packed.map_err(FolderError::io("pack a bundle of", &self.segment.folder))?;
        let hash = bundle_hash(&self.open.leaves);
        self.new_hashes.extend_from_slice(hash.as_bytes());
        // The size is a multiple of 256: only bundles are ever pushed.
        let pushed = self.bundled.push_bundle(hash);
        debug_assert!(pushed.is_ok(), "the bundled tree ends within a bundle");
        self.open.clear();
        Ok(())
    }

    /// Appends a signed checkpoint and returns when it is on the disk.
    ///
    /// # Errors
    /// [`FolderError::NotANote`] if `note` is not one signed note; nothing was written then. After any other error the writer is of
    /// no use any more.
    pub fn append_checkpoint(&mut self, note: &str) -> Result<(), FolderError> {
        let text = checkpoints::with_empty_line(note).ok_or(FolderError::NotANote)?;
        self.once(|writer| writer.checkpoints.append(text.as_bytes()))
    }

    /// Reserves the indexes up to the setting ahead of `used`, if less than half of that is left, for callers that hand out indexes
    /// before a round writes them.
    ///
    /// # Errors
    /// After any error the writer is of no use any more.
    pub fn reserve_ahead_of(&mut self, used: u64) -> Result<(), FolderError> {
        let used = used.max(self.size);
        self.once(|writer| {
            writer.tail.clear();
            writer.tail.commit(used)
        })
    }

    /// Does `work` unless anything failed before; if it fails, it is the last.
    fn once(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), FolderError>,
    ) -> Result<(), FolderError> {
        if self.is_failed {
            return Err(FolderError::Failed);
        }
        // INVARIANT (failed-for-good): also if `work` panics.
        self.is_failed = true;
        work(self)?;
        self.is_failed = false;
        Ok(())
    }

    /// Whether the open files are still the ones that readers find: not moved, removed or replaced. To be asked once a second or so.
    ///
    /// # Errors
    /// [`FolderError::Replaced`] with the first file that is not; then the writer is of no use any more.
    pub fn still_there(&mut self) -> Result<(), FolderError> {
        self.once(|writer| {
            let disk = writer.disk.as_ref();
            let files = [&writer.hashes, writer.tail.file(), &writer.checkpoints];
            let mut files = files.into_iter().chain(&writer.segment.file);
            files.try_for_each(|file| file.still_there(disk))
        })
    }

    /// Whether a write or sync failed, so that only recovery helps.
    pub fn is_failed(&self) -> bool {
        self.is_failed
    }

    /// How many records are on the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over the records on the disk.
    ///
    /// # Errors
    /// [`FolderError::Failed`] once a write failed: nobody shall sign a root that the disk may not hold.
    pub fn root(&self) -> Result<TreeHash, FolderError> {
        self.frontier().map(|frontier| frontier.root())
    }

    /// The tree over the records on the disk.
    ///
    /// # Errors
    /// [`FolderError::Failed`] once a write failed.
    pub fn frontier(&self) -> Result<Frontier, FolderError> {
        if self.is_failed {
            return Err(FolderError::Failed);
        }
        let mut frontier = self.bundled.clone();
        self.open
            .leaves
            .iter()
            .for_each(|leaf| frontier.push(*leaf));
        Ok(frontier)
    }

    /// Indexes below this one may be used; 0 if there are no reservations.
    pub fn reserved(&self) -> u64 {
        self.tail.reserved()
    }

    /// How many bytes the log takes on the disk. Segments that were pruned after the writer was opened still count.
    pub fn stored_bytes(&self) -> u64 {
        let files = [&self.hashes, self.tail.file(), &self.checkpoints];
        let files: u64 = files.iter().map(|file| file.end()).sum();
        files.saturating_add(self.segment.stored_bytes())
    }
}

/// The records behind the last full bundle.
#[derive(Debug, Default)]
struct OpenBundle {
    /// Each with its length in front.
    records: Vec<u8>,
    leaves: Vec<TreeHash>,
}

impl OpenBundle {
    /// What is kept for the next bundle at most.
    const KEEP_BYTES: usize = 8 << 20;

    fn push(&mut self, record: &[u8]) {
        self.records.extend_from_slice(&length_of(record));
        self.records.extend_from_slice(record);
        self.leaves.push(leaf_hash(record));
    }

    fn clear(&mut self) {
        self.records.clear();
        self.records.shrink_to(Self::KEEP_BYTES);
        self.leaves.clear();
    }
}

/// Writes the segments.
#[derive(Debug)]
struct SegmentWriter {
    folder: PathBuf,
    settings: FolderSettings,
    file: Option<OpenFile>,
    /// Whether the folder's entry for the file may not be on the disk yet.
    is_new: bool,
    /// When the file got its first bundle from this writer.
    opened: Option<Duration>,
    earlier_bytes: u64,
    /// What the round adds to the file.
    buffer: Vec<u8>,
}

impl SegmentWriter {
    /// Makes room for the bundle that begins with record `first`: in the segment there is, or in a new one.
    fn begin_bundle(
        &mut self,
        disk: &dyn Disk,
        first: u64,
        now: Duration,
    ) -> Result<(), FolderError> {
        let opened = *self.opened.get_or_insert(now);
        if let Some(file) = &self.file {
            let bytes = file.end().saturating_add(count(self.buffer.len()));
            let is_due = bytes >= self.settings.segment_bytes
                || now.saturating_sub(opened) >= self.settings.segment_age;
            if !is_due {
                return Ok(());
            }
            self.flush(disk)?;
        }
        self.earlier_bytes = self.stored_bytes();
        let path = segment_path(&self.folder, first);
        self.file = Some(OpenFile::create(disk, path)?);
        self.is_new = true;
        self.opened = Some(now);
        self.buffer.extend_from_slice(&segment_header(first));
        Ok(())
    }

    /// Writes the buffer and puts it on the disk, and the file's name if it is new.
    fn flush(&mut self, disk: &dyn Disk) -> Result<(), FolderError> {
        if let Some(file) = &mut self.file
            && !self.buffer.is_empty()
        {
            file.append(&self.buffer)?;
        }
        self.buffer.clear();
        if self.is_new {
            sync_folder(disk, &self.folder)?;
            self.is_new = false;
        }
        Ok(())
    }

    fn stored_bytes(&self) -> u64 {
        let open = self.file.as_ref().map_or(0, OpenFile::end);
        self.earlier_bytes.saturating_add(open)
    }
}

/// Puts the names in `folder` on the disk.
pub(super) fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), FolderError> {
    disk.sync_folder(folder)
        .map_err(FolderError::io("sync", folder))
}
