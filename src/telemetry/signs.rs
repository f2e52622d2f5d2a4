//! The vital signs, read once for all instruments that show them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::usecase::observing::{VitalSigns, Vitals};

/// A collection asks some thirty instruments one after another, and is over long before this.
const FRESH: Duration = Duration::from_millis(250);

/// The vital signs of one collection.
#[derive(Debug, Default)]
pub(super) struct Signs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    vitals: Option<Arc<dyn Vitals>>,
    last: Option<(Instant, Arc<VitalSigns>)>,
}

impl Signs {
    /// Reads from `vitals` from now on.
    pub(super) fn watch(&self, vitals: Arc<dyn Vitals>) {
        self.with_state(|state| {
            state.vitals = Some(vitals);
            state.last = None;
        });
    }

    /// Makes the next [`Signs::read`] read anew.
    pub(super) fn forget(&self) {
        self.with_state(|state| state.last = None);
    }

    /// The signs as they are, or were a moment ago; none while nothing is watched.
    pub(super) fn read(&self) -> Option<Arc<VitalSigns>> {
        self.read_at(Instant::now())
    }

    fn read_at(&self, now: Instant) -> Option<Arc<VitalSigns>> {
        self.with_state(|state| {
            let fresh = state.last.as_ref().filter(|(at, _)| now - *at < FRESH);
            if let Some((_, signs)) = fresh {
                return Some(Arc::clone(signs));
            }
            let signs = Arc::new(state.vitals.as_ref()?.read());
            state.last = Some((now, Arc::clone(&signs)));
            Some(signs)
        })
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Whoever panicked here left nothing half-done.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl Vitals for Counting {
        fn read(&self) -> VitalSigns {
            VitalSigns {
                waiting_calls: self.0.fetch_add(1, Ordering::Relaxed),
                ..VitalSigns::default()
            }
        }
    }

    #[test]
    fn signs_are_read_once_for_a_collection() {
        let signs = Signs::default();
        let begin = Instant::now();
        assert_eq!(signs.read_at(begin), None);
        signs.watch(Arc::new(Counting::default()));
        let waiting = |now| signs.read_at(now).map(|signs| signs.waiting_calls);
        assert_eq!((waiting(begin), waiting(begin)), (Some(0), Some(0)));
        signs.forget();
        assert_eq!((waiting(begin), waiting(begin)), (Some(1), Some(1)));
        let later = begin + FRESH;
        assert_eq!((waiting(later), waiting(later)), (Some(2), Some(2)));
    }
}
