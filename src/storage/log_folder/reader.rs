//! Reads a log folder, also beside its writer: always the first so many records, never a part of one.
//!
//! What is read may not be on the disk yet: a reader sees a round as soon as it is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::checkpoints::{last_note, notes};
use super::error::FolderError;
use super::format::{BUNDLE, BUNDLE_RECORDS, KEY, TAIL, items};
use super::hashes::Hashes;
use super::nodes::NodeCache;
use super::recover::expect_log;
use super::segment::{Bundles, Segment, list};
use super::tail::{Behind, Tail};

/// No more of the file `key` is read.
const MAX_KEY_BYTES: u64 = 1 << 16;
/// How often a view is taken again that the writer changed meanwhile.
const TRIES: usize = 16;

/// A log folder that is open for reading.
#[derive(Debug)]
pub struct FolderReader {
    folder: PathBuf,
    key_lines: String,
    pub(super) hashes: Hashes,
    pub(super) view: View,
    cache: Mutex<Cache>,
}

/// What there was when the reader last looked.
#[derive(Debug)]
pub(super) struct View {
    /// How many bundles there are.
    pub(super) bundles: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) tail: Tail,
}

/// What was read lately.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) bundles: Bundles,
    pub(super) nodes: NodeCache,
}

impl FolderReader {
    /// Opens the log in `folder`.
    ///
    /// # Errors
    /// [`FolderError::NotALog`], [`FolderError::Damaged`] and [`FolderError::Io`]. Damage in segments is found when they are read.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        expect_log(folder)?;
        let key = folder.join(KEY);
        let file = File::open(&key).map_err(FolderError::io("open", &key))?;
        let mut key_lines = String::new();
        let read = file.take(MAX_KEY_BYTES).read_to_string(&mut key_lines);
        read.map_err(FolderError::io("read", &key))?;
        let hashes = Hashes::open(folder)?;
        let view = View::take(folder, &hashes, 0)?;
        let bundles = Bundles::new(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            key_lines,
            hashes,
            view,
            cache: Mutex::new(Cache {
                bundles,
                nodes: NodeCache::default(),
            }),
        })
    }

    /// Looks what has been added or pruned since. The size never becomes smaller.
    ///
    /// # Errors
    /// As [`Self::open`]; the reader goes on with what it knew then.
    pub fn refresh(&mut self) -> Result<(), FolderError> {
        self.view = View::take(&self.folder, &self.hashes, self.size())?;
        Ok(())
    }

    /// How many records the log has, pruned ones included.
    pub fn size(&self) -> u64 {
        self.view.tail.size()
    }

    /// The first record that was not pruned.
    pub fn first_index(&self) -> u64 {
        self.view
            .segments
            .first()
            .map_or(0, |segment| segment.first)
    }

    /// How many full bundles the log has; the records behind them are in the tail.
    pub fn bundles(&self) -> u64 {
        self.view.bundles
    }

    /// The log's verifier keys, one a line.
    pub fn key_lines(&self) -> &str {
        &self.key_lines
    }

    /// The record `index`; none if there is no such record yet, or not any more.
    ///
    /// # Errors
    /// [`FolderError::Damaged`] and [`FolderError::Io`].
    pub fn record(&self, index: u64) -> Result<Option<Vec<u8>>, FolderError> {
        if index >= self.view.tail.first {
            return Ok(self.view.tail.record(index).map(<[u8]>::to_vec));
        }
        let mut cache = self.cache();
        let records = match cache.bundles.read(&self.view.segments, index / BUNDLE) {
            Err(FolderError::Pruned { .. }) => return Ok(None),
            Err(error) => return Err(self.pruned_meanwhile(error)),
            Ok(records) => records,
        };
        Ok(records
            .get(items(index % BUNDLE))
            .map(|record| record.to_vec()))
    }

    /// The 256 records of the full bundle `bundle`, counted from 0; none if there is no such bundle yet, or not any more.
    ///
    /// # Errors
    /// [`FolderError::Damaged`] and [`FolderError::Io`].
    pub fn bundle(&self, bundle: u64) -> Result<Option<Vec<Vec<u8>>>, FolderError> {
        if bundle >= self.view.bundles {
            return Ok(None);
        }
        match self.cache().bundles.read(&self.view.segments, bundle) {
            Err(FolderError::Pruned { .. }) => Ok(None),
            Err(error) => Err(self.pruned_meanwhile(error)),
            Ok(records) => Ok(Some(records.iter().map(|record| record.to_vec()).collect())),
        }
    }

    /// The records `from` up to but without `to`, or up to the last there is, with their indexes. One bundle is in memory at a time.
    pub fn records(&self, from: u64, to: u64) -> Records<'_> {
        Records {
            reader: self,
            bundles: None,
            next: from,
            end: to.min(self.size()),
            read: VecDeque::new(),
        }
    }

    /// Shows the records `from` up to but without `to`, or up to the last there is, bundle by bundle, each time with the index of the
    /// first. Ends early when `show` says so.
    ///
    /// # Errors
    /// [`FolderError::Pruned`] if `from` is below what is left, [`FolderError::Damaged`] and [`FolderError::Io`].
    pub fn for_each_bundle<B>(
        &self,
        from: u64,
        to: u64,
        mut show: impl FnMut(u64, &[&[u8]]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, FolderError> {
        let mut bundles = Bundles::new(&self.folder)?;
        let end = to.min(self.size());
        let mut next = from;
        while next < end {
            let stopped = self.with_bundle(&mut bundles, next, end, &mut show)?;
            if stopped.is_break() {
                return Ok(stopped);
            }
            next = (next - next % BUNDLE).saturating_add(BUNDLE);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Shows the records from `next` on that are in the same bundle and below `end`.
    fn with_bundle<T>(
        &self,
        bundles: &mut Bundles,
        next: u64,
        end: u64,
        show: impl FnOnce(u64, &[&[u8]]) -> T,
    ) -> Result<T, FolderError> {
        let start = next - next % BUNDLE;
        let range = items(next - start)..items(end.saturating_sub(start)).min(BUNDLE_RECORDS);
        let mut records: [&[u8]; BUNDLE_RECORDS] = [&[]; BUNDLE_RECORDS];
        if next >= self.view.tail.first {
            let tail = records.iter_mut().zip(self.view.tail.records());
            tail.for_each(|(slot, record)| *slot = record);
        } else {
            let read = bundles.read(&self.view.segments, start / BUNDLE);
            records = read.map_err(|error| self.pruned_meanwhile(error))?;
        }
        Ok(show(next, records.get(range).unwrap_or_default()))
    }

    /// The signed checkpoints, oldest first, as far as they are whole.
    ///
    /// # Errors
    /// [`FolderError::Io`] now, and [`FolderError::Damaged`] in place of what is no note.
    pub fn checkpoints(
        &self,
    ) -> Result<impl Iterator<Item = Result<String, FolderError>> + use<>, FolderError> {
        let notes = notes(&self.folder)?;
        Ok(notes.map(|note| note.map(|note| note.text)))
    }

    /// The last signed checkpoint that is whole.
    ///
    /// # Errors
    /// [`FolderError::Damaged`] and [`FolderError::Io`].
    pub fn last_checkpoint(&self) -> Result<Option<String>, FolderError> {
        let (last, _) = last_note(&self.folder)?;
        Ok(last.map(|note| note.text))
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        // What is cached is complete at every moment; whoever panicked left it good.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment that is gone since the last look was pruned.
    fn pruned_meanwhile(&self, error: FolderError) -> FolderError {
        if !error.is_missing_file() {
            return error;
        }
        let left = list(&self.folder).unwrap_or_default();
        match left.first() {
            Some(segment) if segment.first > self.first_index() => FolderError::Pruned {
                first: segment.first,
            },
            _ => error,
        }
    }
}

impl View {
    /// Looks at the log in `folder` until the writer did not change it meanwhile and it has at least `size` records.
    fn take(folder: &Path, hashes: &Hashes, size: u64) -> Result<Self, FolderError> {
        let mut earlier = None;
        for _ in 0..TRIES {
            let bundles = hashes.bundles()?;
            let first = bundles.saturating_mul(BUNDLE);
            let mut segments = list(folder)?;
            segments.retain(|segment| segment.first < first);
            let tail = Tail::read(folder, first)?;
            // The tail begins anew only after `hashes` grew: if it did not grow, the tail is the one behind these bundles.
            let is_same = hashes.bundles()? == bundles;
            if tail.behind == Behind::LaterRecord && is_same {
                let what = "the records before this one are missing";
                return Err(FolderError::damaged(&folder.join(TAIL), tail.end, what));
            }
            if tail.size() < size {
                continue;
            }
            let view = Self {
                bundles,
                segments,
                tail,
            };
            if is_same {
                return Ok(view);
            }
            // As good, but the tail may be missing that was there when `hashes` was read.
            earlier = Some(view);
        }
        earlier.ok_or_else(|| FolderError::damaged(&folder.join(TAIL), 0, "the log became shorter"))
    }
}

/// Records with their indexes, in order; after an error there are no more.
#[derive(Debug)]
pub struct Records<'a> {
    reader: &'a FolderReader,
    bundles: Option<Bundles>,
    next: u64,
    end: u64,
    read: VecDeque<Vec<u8>>,
}

impl Records<'_> {
    fn read_bundle(&mut self) -> Result<(), FolderError> {
        let bundles = match &mut self.bundles {
            Some(bundles) => bundles,
            none => none.insert(Bundles::new(&self.reader.folder)?),
        };
        let read = &mut self.read;
        self.reader
            .with_bundle(bundles, self.next, self.end, |_, records| {
                read.extend(records.iter().map(|record| record.to_vec()));
            })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(u64, Vec<u8>), FolderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty()
            && self.next < self.end
            && let Err(error) = self.read_bundle()
        {
            self.end = self.next;
            return Some(Err(error));
        }
        let record = self.read.pop_front()?;
        let index = self.next;
        self.next = index.saturating_add(1);
        Some(Ok((index, record)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (
            self.read.len(),
            Some(items(self.end.saturating_sub(self.next))),
        )
    }
}
