//! The cache of decisions that one snapshot owns.
//!
//! Two levels: a small direct-mapped table for each serving thread, then moka, bounded by bytes, for all of them. Keys are compared
//! in full; the hash, keyed for each process, only finds the slot.
//! Never: a decision that met an error, read the clock or was decided by an approval. Whoever inserts has asked
//! `Decided::is_cacheable`.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use moka::sync::Cache;

use crate::model::{Decided, Outcome, Request};

/// Slots of one thread's table.
const FRONT_SLOTS: usize = 4_096;
/// Entries larger than this stay out of the first level, which bounds entries and not bytes.
const FRONT_MAX_BYTES: u32 = 8 * 1_024;
/// What an entry costs beside what it holds: the cache's own bookkeeping and the fixed part of the answer.
const ENTRY_OVERHEAD_BYTES: usize = 700;

/// A decision kept with what is needed to find it and to decide it again.
pub struct CachedDecision {
    hash: u64,
    key: Box<[u8]>,
    /// What was decided.
    pub decided: Decided,
    /// The request as it was asked first; decided again before a new snapshot comes into force.
    pub request: Request,
    hits: AtomicU32,
    weight: u32,
    /// An adapter's encoding of the decision, kept with it so that it is made once.
    pub rendered: OnceLock<Box<[u8]>>,
    /// What the audit log holds of the decision whoever asks, for the same reason.
    pub(super) recorded: OnceLock<Box<[u8]>>,
}

impl fmt::Debug for CachedDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedDecision")
            .field("decided", &self.decided)
            .finish_non_exhaustive()
    }
}

impl CachedDecision {
    /// A decision that is not kept: it has no key.
    pub(super) fn unkept(decided: Decided, request: Request) -> Self {
        Self {
            hash: 0,
            key: Box::default(),
            decided,
            request,
            hits: AtomicU32::new(0),
            weight: 0,
            rendered: OnceLock::new(),
            recorded: OnceLock::new(),
        }
    }
}

/// A key with its hash; found by reference, owned by the entry.
#[derive(Clone)]
struct Key(Arc<CachedDecision>);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// A key that is being looked up.
struct Probe<'k> {
    hash: u64,
    key: &'k [u8],
}

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl equivalent::Equivalent<Key> for Probe<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.key == *key.0.key
    }
}

/// Passes on the hash that was made already.
#[derive(Clone, Copy, Default)]
struct Unhashed;

impl BuildHasher for Unhashed {
    type Hasher = PassOn;

    fn build_hasher(&self) -> PassOn {
        PassOn(0)
    }
}

struct PassOn(u64);

impl Hasher for PassOn {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys write one u64; anything else still hashes, slowly.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Front = Mutex<Vec<Option<Arc<CachedDecision>>>>;

/// The decisions of one snapshot.
pub(super) struct DecisionCache {
    hasher: foldhash::quality::RandomState,
    front: Vec<Front>,
    back: Cache<Key, Arc<CachedDecision>, Unhashed>,
}

impl fmt::Debug for DecisionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionCache")
            .field("entries", &self.back.entry_count())
            .finish_non_exhaustive()
    }
}

impl DecisionCache {
    /// A cache of `max_bytes` for `threads` serving threads; nothing is kept if that is 0.
    pub(super) fn new(max_bytes: u64, threads: usize) -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            front: (0..if max_bytes == 0 { 0 } else { threads.max(1) })
                .map(|_| Mutex::new(Vec::new()))
                .collect(),
            back: Cache::builder()
                .max_capacity(max_bytes)
                .weigher(|_, entry: &Arc<CachedDecision>| entry.weight)
                .build_with_hasher(Unhashed),
        }
    }

    /// How many entries there are, and about how many bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.back.entry_count(), self.back.weighted_size())
    }

    /// The decision kept under `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<CachedDecision>> {
        let hash = self.hasher.hash_one(key);
        let found = self.front_get(hash, key).or_else(|| {
            let found = self.back.get(&Probe { hash, key })?;
            self.front_insert(&found);
            Some(found)
        })?;
        found.hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// Keeps `decided` under `key`.
    pub(super) fn insert(
        &self,
        key: &[u8],
        decided: Decided,
        request: Request,
    ) -> Arc<CachedDecision> {
        let hash = self.hasher.hash_one(key);
        let weight = weigh(key, &decided, &request);
        let entry = Arc::new(CachedDecision {
            hash,
            key: key.into(),
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            ..CachedDecision::unkept(decided, request)
        });
        self.back
            .insert(Key(Arc::clone(&entry)), Arc::clone(&entry));
        self.front_insert(&entry);
        entry
    }

    /// The entries, most used first, at most `count`.
    pub(super) fn hottest(&self, count: usize) -> Vec<Arc<CachedDecision>> {
        let mut entries: Vec<Arc<CachedDecision>> =
            self.back.iter().map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.hits.load(Ordering::Relaxed)));
        entries.truncate(count);
        entries
    }

    fn front_get(&self, hash: u64, key: &[u8]) -> Option<Arc<CachedDecision>> {
        let table = self
            .front_of_thread()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = table.get(slot(hash))?.as_ref()?;
        (entry.hash == hash && *entry.key == *key).then(|| Arc::clone(entry))
    }

    fn front_insert(&self, entry: &Arc<CachedDecision>) {
        if entry.weight > FRONT_MAX_BYTES {
            return;
        }
        let Some(front) = self.front_of_thread() else {
            return;
        };
        let mut table = front.lock().unwrap_or_else(PoisonError::into_inner);
        if table.is_empty() {
            table.resize(FRONT_SLOTS, None);
        }
        if let Some(place) = table.get_mut(slot(entry.hash)) {
            *place = Some(Arc::clone(entry));
        }
    }

    /// Each thread has a table of its own, as long as there are no more threads than tables.
    fn front_of_thread(&self) -> Option<&Front> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        let number = NUMBER.with(|number| *number);
        self.front.get(number.checked_rem(self.front.len())?)
    }
}

/// About how many bytes an entry takes: the key and the request as they are, and every text of the decision three times: as it is,
/// encoded, and once for what allocators round up.
fn weigh(key: &[u8], decided: &Decided, request: &Request) -> usize {
    let policies = decided.determining.iter().map(|policy| {
        let annotations = policy.annotations.iter();
        let texts = annotations.fold(policy.id.len(), |sum, (name, value)| {
            sum.saturating_add(name.len()).saturating_add(value.len())
        });
        texts.saturating_mul(3).saturating_add(64)
    });
    let requirements = match &decided.outcome {
        Outcome::RequireApproval(requirements) => requirements.len().saturating_mul(1_024),
        Outcome::Allow | Outcome::Deny(_) => 0,
    };
    policies
        .chain([
            key.len(),
            request.approximate_bytes(),
            requirements,
            ENTRY_OVERHEAD_BYTES,
        ])
        .fold(0, usize::saturating_add)
}

fn slot(hash: u64) -> usize {
    // The table has 4,096 slots: the upper 12 bits choose.
    usize::try_from(hash >> 52).unwrap_or(0)
}
