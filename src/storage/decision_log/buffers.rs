//! The buffers that serving threads append to: one for each thread, or nearly so.
//!
//! INVARIANT (nothing-vanishes): whether a shard is open is only told and changed under its lock. Whoever closes it and then looks into
//! it sees every record that was ever accepted.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::usecase::decision_log::NoRoom;

/// A buffer with less room than this takes no record, so that hardly any record makes it grow.
const LEAST_ROOM: usize = 64 << 10;

/// A buffer that is fuller than this is worth a round of its own.
const MARK: usize = 1 << 20;

/// How many bytes tell the length of the record behind them.
const PREFIX: usize = size_of::<u32>();

/// Who waits until a record is durable. Dropped, it says that it never was.
pub(super) type Waiter = oneshot::Sender<()>;

/// What is behind `mutex`, also after somebody panicked: what is guarded here is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records one behind the other, each behind its length.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where the last whole record ends; what is behind it was left by somebody who panicked.
    end: usize,
    records: u64,
    waiters: Vec<Waiter>,
}

impl Buffer {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            end: 0,
            records: 0,
            waiters: Vec::new(),
        }
    }

    /// Appends what `write` writes. None if that is no record: it is taken back.
    fn append(&mut self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Option<()> {
        let start = self.end;
        if self.bytes.len() != start {
            self.bytes.truncate(start);
        }
        self.bytes.extend_from_slice(&[0; PREFIX]);
        write(&mut self.bytes);
        let record = self.bytes.get_mut(start..)?;
        let (prefix, record) = record.split_first_chunk_mut::<PREFIX>()?;
        *prefix = u32::try_from(record.len()).ok()?.to_le_bytes();
        self.end = self.bytes.len();
        self.records += 1;
        Some(())
    }

    /// How many records it holds.
    pub(super) fn len(&self) -> u64 {
        self.records
    }

    /// The records, oldest first.
    pub(super) fn records(&self) -> Records<'_> {
        Records {
            rest: self.bytes.get(..self.end).unwrap_or_default(),
        }
    }

    /// Who waits for its records.
    pub(super) fn take_waiters(&mut self) -> impl Iterator<Item = Waiter> {
        self.waiters.drain(..)
    }

    /// Forgets everything; a buffer that had to grow shrinks to `bytes` again.
    pub(super) fn clear(&mut self, bytes: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(bytes);
        self.waiters.clear();
        self.end = 0;
        self.records = 0;
    }
}

/// Walks over the records of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Records<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Records<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<PREFIX>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (record, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(record)
    }
}

/// What a thread appends to. Two of them never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(Mutex<Filling>);

#[derive(Debug)]
struct Filling {
    is_open: bool,
    buffer: Buffer,
    accepted: u64,
}

/// All shards.
#[derive(Debug)]
pub(super) struct Buffers {
    shards: Box<[Shard]>,
    bytes: usize,
}

impl Buffers {
    /// `shards` open buffers of `bytes` bytes, but at least one, and of twice the least room.
    pub(super) fn new(shards: usize, bytes: usize) -> Self {
        let bytes = bytes.max(2 * LEAST_ROOM);
        let shard = |_| {
            Shard(Mutex::new(Filling {
                is_open: true,
                buffer: Buffer::new(bytes),
                accepted: 0,
            }))
        };
        Self {
            shards: (0..shards.max(1)).map(shard).collect(),
            bytes,
        }
    }

    /// As many empty buffers, to exchange with.
    pub(super) fn spares(&self) -> Vec<Buffer> {
        let spare = |_: &Shard| Buffer::new(self.bytes);
        self.shards.iter().map(spare).collect()
    }

    /// How large a buffer is.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.bytes
    }

    /// Appends to this thread's buffer what `write` writes, and remembers who waits for it. Answers whether the buffer passed the mark.
    ///
    /// # Errors
    /// [`NoRoom`]: the shard is closed or full. `write` was not called, unless it wrote what no record can be.
    pub(super) fn append(
        &self,
        write: &mut dyn FnMut(&mut Vec<u8>),
        waiter: Option<Waiter>,
    ) -> Result<bool, NoRoom> {
        let mut guard = lock(&self.shard_of_this_thread().ok_or(NoRoom)?.0);
        let filling = &mut *guard;
        let start = filling.buffer.end;
        if !filling.is_open || self.bytes.saturating_sub(start) < LEAST_ROOM {
            return Err(NoRoom);
        }
        filling.buffer.append(write).ok_or(NoRoom)?;
        filling.buffer.waiters.extend(waiter);
        filling.accepted += 1;
        Ok(start < MARK && filling.buffer.end >= MARK)
    }

    fn shard_of_this_thread(&self) -> Option<&Shard> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static INDEX: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        let index = INDEX.with(|index| *index);
        let shared = || self.shards.get(index.checked_rem(self.shards.len())?);
        self.shards.get(index).or_else(shared)
    }

    /// Exchanges every buffer for one of `spares`, which are empty.
    pub(super) fn exchange(&self, spares: &mut [Buffer]) {
        for (shard, spare) in self.shards.iter().zip(spares) {
            mem::swap(&mut lock(&shard.0).buffer, spare);
        }
    }

    /// Accepts records, or no more.
    pub(super) fn set_open(&self, is_open: bool) {
        for shard in &self.shards {
            lock(&shard.0).is_open = is_open;
        }
    }

    /// Whether no record is in any buffer.
    pub(super) fn are_empty(&self) -> bool {
        let mut shards = self.shards.iter();
        shards.all(|shard| lock(&shard.0).buffer.records == 0)
    }

    /// How many records were ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| lock(&shard.0).accepted).sum()
    }

    /// Tells everybody who waits for a record in a buffer that it will not become durable.
    pub(super) fn turn_away_waiters(&self) {
        for shard in &self.shards {
            lock(&shard.0).buffer.waiters.clear();
        }
    }
}
