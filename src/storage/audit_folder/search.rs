//! Searches all logs at once, in the order of time, page by page.
//!
//! The records of the logs are merged by their times, log by log in the order of their indexes: a clock that stepped changes where a
//! record stands between those of other logs, and never lets it be lost or shown twice. INVARIANT (places-not-times): a page ends
//! with the place in every log, so the next one goes on exactly there, whatever was written meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::filter::{RecordFilter, at_us};
use crate::storage::log_folder::FolderReader;
use crate::usecase::audit_reading::{Cursor, LoggedRecord, Page, Query, ReadError};

use super::from_folder;
use super::pool::Pool;

/// How many records a bundle has.
const BUNDLE: u64 = 256;
/// How far a record's time may be off the order of its log.
const SLACK_US: i64 = 10_000_000;
/// How long one page works.
const WORK: Duration = Duration::from_secs(2);
/// How large its records are together, at most, but for the last.
const PAGE_BYTES: usize = 8 << 20;

/// The page that `query` asks for.
pub(super) fn search(pool: &Pool, query: &Query) -> Result<Page, ReadError> {
    let deadline = Instant::now().checked_add(WORK);
    let mut streams = open(pool, query)?;
    let mut page = Page::default();
    let mut heads = BinaryHeap::new();
    for (at, stream) in streams.iter_mut().enumerate() {
        heads.extend(stream.head()?.map(|key| (key, Reverse(at))));
    }
    let mut bytes = 0_usize;
    while let Some((_, Reverse(at))) = heads.pop() {
        let Some(stream) = streams.get_mut(at) else {
            continue;
        };
        page.searched = page.searched.saturating_add(1);
        let index = stream.pass();
        let leaf = stream.leaf(index);
        if query.filter.fits(leaf) {
            bytes = bytes.saturating_add(leaf.len());
            page.records.push(LoggedRecord {
                log: stream.log.clone(),
                index,
                leaf: leaf.to_vec(),
            });
        }
        heads.extend(stream.head()?.map(|key| (key, Reverse(at))));
        let is_late = page.searched.is_multiple_of(BUNDLE)
            && deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let is_full = page.records.len() >= query.limit || bytes >= PAGE_BYTES;
        if is_full || is_late || page.searched >= query.search_limit {
            break;
        }
    }
    page.next = (!heads.is_empty()).then(|| place(&streams, query.oldest_first));
    for stream in streams {
        pool.give(&stream.log, stream.reader);
    }
    Ok(page)
}

/// Where the next page goes on.
fn place(streams: &[Stream], oldest_first: bool) -> Cursor {
    let left = streams
        .iter()
        .filter(|stream| oldest_first || !stream.range.is_empty());
    let place = |stream: &Stream| {
        let range = &stream.range;
        let next = if oldest_first { range.start } else { range.end };
        (stream.log.clone(), next)
    };
    Cursor(left.map(place).collect::<BTreeMap<_, _>>())
}

/// The logs that the query is about, each where the page begins.
fn open(pool: &Pool, query: &Query) -> Result<Vec<Stream>, ReadError> {
    let names = match &query.filter.log {
        Some(log) => vec![log.clone()],
        None => pool.names()?,
    };
    let mut streams = Vec::new();
    for log in names {
        let place = match &query.after {
            None => None,
            Some(Cursor(places)) => places.get(&log).copied(),
        };
        // What was not there when the first page was read is newer than all of it.
        if query.after.is_some() && place.is_none() && !query.oldest_first {
            continue;
        }
        let reader = match pool.take(&log) {
            Err(ReadError::NoSuchLog(_)) if query.filter.log.is_none() => continue,
            reader => reader?,
        };
        let mut range = range(&log, &reader, &query.filter)?;
        match place {
            Some(place) if query.oldest_first => range.start = range.start.max(place),
            Some(place) => range.end = range.end.min(place),
            None => {}
        }
        streams.push(Stream {
            log,
            reader,
            range,
            oldest_first: query.oldest_first,
            first: u64::MAX,
            bundle: Vec::new(),
        });
    }
    Ok(streams)
}

/// Between which indexes records can fit, by their times.
pub(super) fn range(
    log: &str,
    reader: &FolderReader,
    filter: &RecordFilter,
) -> Result<Range<u64>, ReadError> {
    let (from, to) = filter.times();
    let (first, bundles) = (reader.first_index() / BUNDLE, reader.bundles());
    let start = match from {
        None => reader.first_index(),
        Some(from) => {
            let from = from.saturating_sub(SLACK_US);
            let later = bisect(first..bundles, |bundle| {
                Ok(begun_us(log, reader, bundle)? >= from)
            })?;
            // The bundle before may reach into the time.
            later.saturating_sub(1).max(first).saturating_mul(BUNDLE)
        }
    };
    let end = match to {
        None => reader.size(),
        Some(to) => {
            let to = to.saturating_add(SLACK_US);
            let later = bisect(first..bundles, |bundle| {
                Ok(begun_us(log, reader, bundle)? >= to)
            })?;
            if later < bundles {
                later.saturating_mul(BUNDLE)
            } else {
                reader.size()
            }
        }
    };
    Ok(start..end.max(start))
}

/// The first of `bundles` that `is_later`, or their end.
fn bisect(
    bundles: Range<u64>,
    mut is_later: impl FnMut(u64) -> Result<bool, ReadError>,
) -> Result<u64, ReadError> {
    let (mut low, mut high) = (bundles.start, bundles.end);
    while low < high {
        let middle = low.midpoint(high);
        if is_later(middle)? {
            high = middle;
        } else {
            low = middle.saturating_add(1);
        }
    }
    Ok(low)
}

/// When the first record of a bundle was written; the beginning of time if it was pruned meanwhile.
fn begun_us(log: &str, reader: &FolderReader, bundle: u64) -> Result<i64, ReadError> {
    let record = reader.record(bundle.saturating_mul(BUNDLE));
    let record = record.map_err(|error| from_folder(log, &error))?;
    Ok(record.map_or(i64::MIN, |leaf| at_us(&leaf)))
}

/// The records of one log, one after the other.
#[derive(Debug)]
struct Stream {
    log: String,
    reader: FolderReader,
    /// Which are left.
    range: Range<u64>,
    oldest_first: bool,
    /// The bundle that is read: the index of its first record, and the records.
    first: u64,
    bundle: Vec<Vec<u8>>,
}

impl Stream {
    /// Reads the next record, if there is one, and answers where it stands: what is larger comes first.
    fn head(&mut self) -> Result<Option<i64>, ReadError> {
        let Some(index) = self.next() else {
            return Ok(None);
        };
        let first = index.saturating_sub(index % BUNDLE);
        if self.first != first {
            let end = first.saturating_add(BUNDLE);
            let records = self.reader.records(first, end).map(|record| Ok(record?.1));
            let records: Result<_, _> = records.collect();
            self.bundle = records.map_err(|error| from_folder(&self.log, &error))?;
            self.first = first;
        }
        let at = at_us(self.leaf(index));
        // The complement turns the order around, and no number is without one.
        Ok(Some(if self.oldest_first { !at } else { at }))
    }

    fn next(&self) -> Option<u64> {
        if self.range.is_empty() {
            return None;
        }
        let last = self.range.end.checked_sub(1)?;
        Some(if self.oldest_first {
            self.range.start
        } else {
            last
        })
    }

    /// Goes on behind the record that [`Self::head`] read.
    fn pass(&mut self) -> u64 {
        let index = self.next().unwrap_or(self.range.start);
        if self.oldest_first {
            self.range.start = index.saturating_add(1);
        } else {
            self.range.end = index;
        }
        index
    }

    fn leaf(&self, index: u64) -> &[u8] {
        let at = usize::try_from(index.saturating_sub(self.first)).ok();
        let leaf = at.and_then(|at| self.bundle.get(at));
        leaf.map(Vec::as_slice).unwrap_or_default()
    }
}
