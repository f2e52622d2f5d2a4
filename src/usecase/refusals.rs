//! Notes what is turned away before anything is done for it.
//!
//! A refused caller must not be able to fill the disk, so not more than some refusals a second get a record of their own; the next one
//! that does says how many did not.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::audit::refusal_record::{RefusalFacts, encode};

use super::decision_log::DecisionLog;
use super::observing::{Observer, RefusalKind};
use super::ports::Clock;

/// How many refusals are recorded one by one in a second.
const RECORDED_A_SECOND: u32 = 50;

/// Notes what is turned away.
pub struct Refusals {
    log: Option<Arc<dyn DecisionLog>>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    present: Mutex<Second>,
    unrecorded: AtomicU64,
}

/// How many were recorded in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: i64,
    recorded: u32,
}

impl Refusals {
    /// Records in `log`, where there is one, and tells `observer`.
    pub fn new(
        log: Option<Arc<dyn DecisionLog>>,
        observer: Arc<dyn Observer>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            log,
            observer,
            clock,
            present: Mutex::default(),
            unrecorded: AtomicU64::new(0),
        }
    }

    /// A call is turned away. It is answered whether or not this can be recorded: nothing was decided.
    pub fn note(&self, kind: RefusalKind, facts: &RefusalFacts<'_>) {
        self.observer.refused(kind);
        self.record(&RefusalFacts {
            reason: kind.name(),
            ..*facts
        });
    }

    /// Records what is turned away for the reason that `facts` name.
    pub fn record(&self, facts: &RefusalFacts<'_>) {
        let Some(log) = &self.log else {
            return;
        };
        let now = self.clock.now();
        if !self.has_room(now.as_second()) {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let unrecorded = self.unrecorded.swap(0, Ordering::Relaxed);
        let record = encode(now.as_microsecond(), facts, unrecorded);
        let written = log.append(&mut |buffer| buffer.extend_from_slice(&record));
        if written.is_err() {
            self.unrecorded
                .fetch_add(unrecorded.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Records how many were turned away since the last record without one of their own.
    pub fn flush(&self) {
        let Some(log) = &self.log else {
            return;
        };
        let count = self.unrecorded.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        // The record stands for one of them.
        let facts = RefusalFacts {
            reason: "unrecorded",
            detail: "turned away without records of their own",
            ..RefusalFacts::default()
        };
        let now = self.clock.now().as_microsecond();
        let record = encode(now, &facts, count.saturating_sub(1));
        let written = log.append(&mut |buffer| buffer.extend_from_slice(&record));
        if written.is_err() {
            self.unrecorded.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn has_room(&self, second: i64) -> bool {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.number != second {
            *present = Second {
                number: second,
                recorded: 0,
            };
        }
        present.recorded = present.recorded.saturating_add(1);
        present.recorded <= RECORDED_A_SECOND
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals")
            .field("unrecorded", &self.unrecorded)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::audit::refusal_record::read;
    use crate::model::Decision;
    use crate::usecase::decision_log::{LogUnavailable, Logged, NoRoom};
    use crate::usecase::observing::NoObserver;
    use crate::usecase::ports::PortFuture;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Vec<u8>>>);

    impl DecisionLog for Kept {
        fn append(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Result<(), NoRoom> {
            let mut record = Vec::new();
            write(&mut record);
            self.0.lock().unwrap().push(record);
            Ok(())
        }

        fn ready(&self) -> Result<(), LogUnavailable> {
            Ok(())
        }

        fn append_waiting(
            &self,
            _: Decision,
            _: Vec<u8>,
            _: bool,
        ) -> PortFuture<'_, Result<Logged, LogUnavailable>> {
            Box::pin(async { Ok(Logged::Kept) })
        }
    }

    #[derive(Debug)]
    struct Hand(Mutex<Timestamp>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_recorded_one_by_one() {
        let (log, clock) = (Arc::new(Kept::default()), Arc::new(Hand(Mutex::default())));
        let refusals = Refusals::new(
            Some(Arc::clone(&log) as _),
            Arc::new(NoObserver),
            Arc::clone(&clock) as _,
        );
        for _ in 0..1_000 {
            refusals.note(RefusalKind::NotBound, &RefusalFacts::default());
        }
        assert_eq!(log.0.lock().unwrap().len(), 50);
        *clock.0.lock().unwrap() = Timestamp::from_second(1).unwrap();
        refusals.note(RefusalKind::NotBound, &RefusalFacts::default());
        let last = log.0.lock().unwrap().last().cloned().unwrap();
        let refused = read(&last).unwrap();
        assert_eq!(
            (refused.unrecorded, refused.reason.as_str()),
            (950, "not_bound")
        );
        for _ in 0..60 {
            refusals.note(RefusalKind::NotBound, &RefusalFacts::default());
        }
        refusals.flush();
        refusals.flush();
        let all = log.0.lock().unwrap();
        let told: u64 = all
            .iter()
            .map(|record| 1 + read(record).unwrap().unrecorded)
            .sum();
        assert_eq!(told, 1_061);
    }
}
