//! How often a caller may call, and how many calls it may have under way, on all cores together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use thiserror::Error;

use super::CallerKey;

/// When to try again after too many calls under way: none of them says when it will end.
const RETRY_CONCURRENT_AFTER: Duration = Duration::from_millis(50);
/// Into how many parts the counts are divided, so that cores seldom wait for each other.
const PARTS: usize = 16;

/// The limits of one caller. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RateSettings {
    /// How many calls a second.
    pub per_second: Option<NonZeroU32>,
    /// How many of them at once, after a pause; if not set, as many as in a second.
    pub burst: Option<NonZeroU32>,
    /// How many calls under way at a time.
    pub concurrency: Option<u32>,
}

/// A limit that a call exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Calls a second.
    Rate,
    /// Calls under way at a time.
    Concurrency,
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rate => "calls a second",
            Self::Concurrency => "calls under way",
        })
    }
}

/// A caller has reached a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the caller's limit of {which} is reached")]
pub struct Limited {
    /// When a call may succeed again.
    pub retry_after: Duration,
    /// The limit.
    pub which: Limit,
}

/// Counts the calls of every caller against its limits. Idle callers take no memory after the next [`tick`](Self::tick).
#[derive(Debug, Default)]
pub struct CallerLimits {
    rates: Rates<DefaultClock>,
    under_way: Arc<UnderWay>,
}

impl CallerLimits {
    /// Counts a call of `caller`, which is under way as long as the permit lives. A call that is refused does not count.
    ///
    /// # Errors
    /// [`Limited`] if the caller calls more often than `settings` allow, or has as many calls under way.
    pub fn admit(&self, caller: CallerKey, settings: &RateSettings) -> Result<Permit, Limited> {
        let permit = match settings.concurrency {
            Some(limit) => self.under_way.enter(caller, limit)?,
            None => Permit { counted: None },
        };
        // Last, because what was taken of a rate cannot be given back.
        if let Some(per_second) = settings.per_second {
            let burst = settings.burst.unwrap_or(per_second);
            self.rates.take(caller, (per_second, burst))?;
        }
        Ok(permit)
    }

    /// Forgets callers that have been idle for so long that nothing is counted against them. To be called every few seconds.
    pub fn tick(&self) {
        self.rates.forget_idle();
        self.under_way.shrink();
    }

    /// How many callers are remembered, for metrics; one may count for its rate and again for its calls under way.
    pub fn remembered(&self) -> usize {
        self.rates.remembered() + self.under_way.remembered()
    }
}

/// A quota: calls a second, and at once.
type Rate = (NonZeroU32, NonZeroU32);

type Limiter<C> =
    RateLimiter<CallerKey, DashMapStateStore<CallerKey>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// What was taken of rates: callers with the same rate are counted in one place.
#[derive(Debug)]
struct Rates<C: Clock> {
    clock: C,
    by_rate: RwLock<HashMap<Rate, Arc<Limiter<C>>, RandomState>>,
}

impl Default for Rates<DefaultClock> {
    fn default() -> Self {
        Self::with_clock(DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    fn with_clock(clock: C) -> Self {
        Self {
            clock,
            by_rate: RwLock::default(),
        }
    }

    fn take(&self, caller: CallerKey, rate: Rate) -> Result<(), Limited> {
        let limiter = self.find(rate).unwrap_or_else(|| self.add(rate));
        limiter.check_key(&caller).map_err(|not_until| Limited {
            retry_after: not_until.wait_time_from(self.clock.now()),
            which: Limit::Rate,
        })
    }

    fn find(&self, rate: Rate) -> Option<Arc<Limiter<C>>> {
        let by_rate = self.by_rate.read().unwrap_or_else(PoisonError::into_inner);
        by_rate.get(&rate).map(Arc::clone)
    }

    fn add(&self, rate: Rate) -> Arc<Limiter<C>> {
        let (per_second, burst) = rate;
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = || Arc::new(RateLimiter::dashmap_with_clock(quota, self.clock.clone()));
        let mut by_rate = self.by_rate.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_rate.entry(rate).or_insert_with(limiter))
    }

    fn forget_idle(&self) {
        let mut by_rate = self.by_rate.write().unwrap_or_else(PoisonError::into_inner);
        // A rate that nobody uses is one that the configuration no longer has, or will have again at once.
        by_rate.retain(|_, limiter| {
            limiter.retain_recent();
            limiter.shrink_to_fit();
            !limiter.is_empty()
        });
    }

    fn remembered(&self) -> usize {
        let by_rate = self.by_rate.read().unwrap_or_else(PoisonError::into_inner);
        by_rate.values().map(|limiter| limiter.len()).sum()
    }
}

type Counts = HashMap<CallerKey, u32, RandomState>;

/// How many calls each caller has under way; callers without any are not there.
#[derive(Debug, Default)]
struct UnderWay {
    parts: [Mutex<Counts>; PARTS],
    hasher: RandomState,
}

impl UnderWay {
    fn enter(self: &Arc<Self>, caller: CallerKey, limit: u32) -> Result<Permit, Limited> {
        let limited = Limited {
            retry_after: RETRY_CONCURRENT_AFTER,
            which: Limit::Concurrency,
        };
        let Some(mut counts) = self.part(caller) else {
            return Err(limited);
        };
        if counts.get(&caller).copied().unwrap_or(0) >= limit {
            return Err(limited);
        }
        *counts.entry(caller).or_insert(0) += 1;
        Ok(Permit {
            counted: Some((Arc::clone(self), caller)),
        })
    }

    fn leave(&self, caller: CallerKey) {
        let Some(mut counts) = self.part(caller) else {
            return;
        };
        if let Entry::Occupied(mut count) = counts.entry(caller) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// The part that counts `caller`. There is always one.
    fn part(&self, caller: CallerKey) -> Option<MutexGuard<'_, Counts>> {
        let parts = u64::try_from(PARTS).ok()?;
        let number = usize::try_from(self.hasher.hash_one(caller) % parts).ok()?;
        self.parts.get(number).map(locked)
    }

    fn shrink(&self) {
        for part in &self.parts {
            locked(part).shrink_to_fit();
        }
    }

    fn remembered(&self) -> usize {
        self.parts.iter().map(|part| locked(part).len()).sum()
    }
}

fn locked(part: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that counts as under way until this is dropped.
#[derive(Debug)]
#[must_use = "the call is under way as long as this lives"]
pub struct Permit {
    counted: Option<(Arc<UnderWay>, CallerKey)>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((under_way, caller)) = &self.counted {
            under_way.leave(*caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const AIKO: CallerKey = CallerKey::new(1);
    const BRUNO: CallerKey = CallerKey::new(2);

    fn count(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn concurrency(limit: u32) -> RateSettings {
        RateSettings {
            concurrency: Some(limit),
            ..RateSettings::default()
        }
    }

    #[test]
    fn a_caller_without_limits_is_not_remembered() {
        let limits = CallerLimits::default();
        let _permit = limits.admit(AIKO, &RateSettings::default()).unwrap();
        assert_eq!(limits.remembered(), 0);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_does() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(clock.clone());
        let rate = (count(10), count(3));
        for _ in 0..3 {
            rates.take(AIKO, rate).unwrap();
        }
        let limited = rates.take(AIKO, rate).unwrap_err();
        assert_eq!(limited.which, Limit::Rate);
        assert_eq!(limited.retry_after, Duration::from_millis(100));
        clock.advance(limited.retry_after);
        rates.take(AIKO, rate).unwrap();
        rates.take(AIKO, rate).unwrap_err();
    }

    #[test]
    fn callers_do_not_share_a_rate() {
        let rates = Rates::with_clock(FakeRelativeClock::default());
        rates.take(AIKO, (count(1), count(1))).unwrap();
        rates.take(AIKO, (count(1), count(1))).unwrap_err();
        rates.take(BRUNO, (count(1), count(1))).unwrap();
    }

    #[test]
    fn idle_callers_are_forgotten_and_busy_ones_are_not() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(clock.clone());
        for number in 0..1_000 {
            let caller = CallerKey::new(number);
            rates.take(caller, (count(10), count(10))).unwrap();
        }
        clock.advance(Duration::from_secs(2));
        rates.take(AIKO, (count(10), count(10))).unwrap();
        assert_eq!(rates.remembered(), 1_000);
        rates.forget_idle();
        assert_eq!(rates.remembered(), 1);
        clock.advance(Duration::from_secs(2));
        rates.forget_idle();
        assert!(rates.by_rate.read().unwrap().is_empty());
    }

    #[test]
    fn a_permit_counts_until_it_is_dropped() {
        let limits = CallerLimits::default();
        let first = limits.admit(AIKO, &concurrency(2)).unwrap();
        let second = limits.admit(AIKO, &concurrency(2)).unwrap();
        let limited = limits.admit(AIKO, &concurrency(2)).unwrap_err();
        assert_eq!(limited.which, Limit::Concurrency);
        let _other = limits.admit(BRUNO, &concurrency(2)).unwrap();
        drop(first);
        let _third = limits.admit(AIKO, &concurrency(2)).unwrap();
        drop(second);
        assert_eq!(limits.remembered(), 2);
    }

    #[test]
    fn a_call_that_its_rate_refuses_is_not_under_way() {
        let limits = CallerLimits::default();
        let settings = RateSettings {
            per_second: Some(count(1)),
            burst: None,
            concurrency: Some(5),
        };
        drop(limits.admit(AIKO, &settings).unwrap());
        let limited = limits.admit(AIKO, &settings).unwrap_err();
        assert_eq!(limited.which, Limit::Rate);
        assert_eq!(limits.under_way.remembered(), 0);
    }

    #[test]
    fn a_concurrency_of_nothing_admits_nothing() {
        let limits = CallerLimits::default();
        limits.admit(AIKO, &concurrency(0)).unwrap_err();
        assert_eq!(limits.remembered(), 0);
    }

    #[test]
    fn permits_of_many_threads_come_back() {
        let limits = CallerLimits::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..1_000 {
                        drop(limits.admit(CallerKey::new(number % 7), &concurrency(3)));
                    }
                });
            }
        });
        assert_eq!(limits.remembered(), 0);
    }
}
