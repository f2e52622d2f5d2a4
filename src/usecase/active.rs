//! A snapshot in force, with its cache.
//!
//! INVARIANT (one-version): a call takes one `Arc` of this and every part of its answer comes from there. The cache belongs to the
//! snapshot, so a new snapshot cannot meet an old answer.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;

use crate::model::{Decided, Request, RequestProblem};
use crate::policy::{Engine, Plan, Prepared, Snapshot};

use super::cache::{CachedDecision, DecisionCache};

/// How large the cache is.
#[derive(Clone, Copy, Debug)]
pub struct CacheSettings {
    /// Bytes of kept decisions, for all threads together.
    pub max_bytes: u64,
    /// How many threads serve.
    pub threads: usize,
    /// How many decisions are made again before a new snapshot comes into force.
    pub warm_up: usize,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
            threads: 1,
            warm_up: 10_000,
        }
    }
}

thread_local! {
    /// Where keys are written; one buffer for each thread spares an allocation a call.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A snapshot in force.
#[derive(Debug)]
pub struct ActiveSnapshot {
    /// What decides.
    pub snapshot: Arc<Snapshot>,
    /// When it came into force.
    pub activated: Timestamp,
    /// How many have been in force on this server before it.
    pub(super) sequence: u64,
    cache: DecisionCache,
    index_disagreed: AtomicBool,
    misses: AtomicU64,
}

/// A request that fits the schema, with what was decided of it before.
pub(super) struct Lookup {
    pub(super) prepared: Prepared,
    pub(super) found: Option<Arc<CachedDecision>>,
}

impl ActiveSnapshot {
    /// Puts `snapshot` in force at `now`.
    pub fn new(snapshot: Arc<Snapshot>, settings: CacheSettings, now: Timestamp) -> Self {
        Self::after(0, snapshot, settings, now)
    }

    /// Puts `snapshot` in force at `now`, after `sequence` others.
    pub(super) fn after(
        sequence: u64,
        snapshot: Arc<Snapshot>,
        settings: CacheSettings,
        now: Timestamp,
    ) -> Self {
        Self {
            snapshot,
            activated: now,
            sequence,
            cache: DecisionCache::new(settings.max_bytes, settings.threads),
            index_disagreed: AtomicBool::new(false),
            misses: AtomicU64::new(0),
        }
    }

    /// Which evaluation decides: the index, unless a shadow run disagreed with it.
    pub fn engine(&self) -> Engine {
        if self.index_disagreed.load(Ordering::Relaxed) {
            Engine::Full
        } else {
            Engine::Index
        }
    }

    /// Whether the index was switched off because it disagreed with the full evaluation.
    pub fn is_index_distrusted(&self) -> bool {
        self.engine() == Engine::Full
    }

    /// How many decisions are kept, and about how many bytes they take.
    pub fn cache_size(&self) -> (u64, u64) {
        self.cache.size()
    }

    /// Switches the index off for the rest of this snapshot's life.
    pub(super) fn distrust_index(&self) {
        self.index_disagreed.store(true, Ordering::Relaxed);
    }

    /// Whether this miss is one of the sample that is evaluated twice.
    pub(super) fn is_sampled(&self, one_in: u64) -> bool {
        one_in > 0
            && self
                .misses
                .fetch_add(1, Ordering::Relaxed)
                .checked_rem(one_in)
                == Some(0)
    }

    pub(super) fn look_up(&self, request: Request) -> Result<Lookup, RequestProblem> {
        let prepared = self.snapshot.prepare(request)?;
        let look = |key: &mut Vec<u8>| {
            prepared.write_key(key);
            self.cache.get(key)
        };
        // What a distrusted index decided is not to be found any more.
        let found = if prepared.is_cacheable() && self.engine() == Engine::Index {
            KEY.with_borrow_mut(look)
        } else {
            None
        };
        Ok(Lookup { prepared, found })
    }

    /// Keeps `decided` if the same request will always be answered so.
    pub(super) fn keep(&self, prepared: &Prepared, decided: Decided) -> Arc<CachedDecision> {
        let request = prepared.request().clone();
        let is_kept =
            prepared.is_cacheable() && decided.is_cacheable() && self.engine() == Engine::Index;
        if !is_kept {
            return Arc::new(CachedDecision::unkept(decided, request));
        }
        KEY.with_borrow_mut(|key| {
            prepared.write_key(key);
            self.cache.insert(key, decided, request)
        })
    }

    /// Decides again what `before` decided most often, so that the first calls after the swap find their answers.
    pub(super) fn warm_up_from(&self, before: &Self, count: usize, now: Timestamp) -> usize {
        let mut warmed: usize = 0;
        for entry in before.cache.hottest(count) {
            // What the new schema refuses, the next call will hear for itself.
            let Ok(Lookup {
                prepared,
                found: None,
            }) = self.look_up(entry.request.clone())
            else {
                continue;
            };
            let Ok(plan) = self.snapshot.plan(&prepared, now) else {
                continue;
            };
            if plan.evaluations(Engine::Index) <= super::authorize::INLINE_EVALUATIONS {
                self.keep(&prepared, plan.decide(Engine::Index));
                warmed = warmed.saturating_add(1);
            }
        }
        warmed
    }

    pub(super) fn plan(&self, prepared: &Prepared, now: Timestamp) -> Result<Plan, RequestProblem> {
        self.snapshot.plan(prepared, now)
    }
}
