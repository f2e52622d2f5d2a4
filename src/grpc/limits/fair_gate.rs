//! The gate in front of a core's work: a noisy caller's calls wait behind it, and a polite caller's pass.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::CallerKey;
use super::turns::{Arrival, FairSettings, Pass, Place, TurnedAway, Turns};

/// The gate of one core. Cheap to clone; meant for one thread, though it may be used from several.
///
/// Calls pass at once while one caller is active, or several with little to do. Somebody must [`run`](Self::run) the gate; while
/// nobody does, all calls pass.
#[derive(Clone)]
pub struct FairGate {
    shared: Arc<Shared>,
}

struct Shared {
    /// Whether there is a sole caller, and who; as in `turns`, but to be had without its lock.
    has_sole: AtomicBool,
    sole: AtomicU64,
    waiting: AtomicU64,
    turns: Mutex<Turns>,
    end_of_turn: Notify,
}

impl FairGate {
    /// A gate that shares a core as `settings` say.
    pub fn new(settings: FairSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                has_sole: AtomicBool::new(false),
                sole: AtomicU64::new(0),
                waiting: AtomicU64::new(0),
                turns: Mutex::new(Turns::new(settings)),
                end_of_turn: Notify::new(),
            }),
        }
    }

    /// Waits for the turn of a call of `caller`, which is counted when the answer is first polled.
    pub fn enter(&self, caller: CallerKey, deadline: Option<Instant>) -> Entering {
        Entering {
            gate: self.clone(),
            caller,
            deadline,
            progress: Progress::Outside,
        }
    }

    /// Tells that a call of `caller` took as much time as `calls` ordinary ones: its next ones count as many, for a while.
    ///
    /// Only calls that took much more than others need to be told of.
    pub fn charge(&self, caller: CallerKey, calls: u32) {
        if !self.is_sole(caller) {
            self.with(|turns| turns.charge(caller, calls));
        }
    }

    /// How many calls wait.
    pub fn waiting(&self) -> u64 {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Ends the turns, for ever. To be run beside the calls, on the same runtime: what it waits for is that their tasks had a go.
    ///
    /// When this is dropped, all that wait pass.
    pub async fn run(self) {
        self.with(Turns::attend);
        let attended = Attended(self);
        let gate = &attended.0;
        let mut wakers = Vec::new();
        loop {
            gate.shared.end_of_turn.notified().await;
            // What has woken this task was put behind all calls that were there.
            while gate.end_turn(&mut wakers) {
                // Behind the sockets too, so that whoever has called meanwhile is seen.
                tokio::task::yield_now().await;
            }
        }
    }

    fn end_turn(&self, wakers: &mut Vec<Waker>) -> bool {
        let now = Instant::now();
        let is_waiting = self.with(|turns| turns.end_turn(now, wakers));
        wakers.drain(..).for_each(Waker::wake);
        is_waiting
    }

    /// Whether `caller` is the only active one, without a lock: most calls need to know no more.
    fn is_sole(&self, caller: CallerKey) -> bool {
        self.shared.has_sole.load(Ordering::Relaxed)
            && self.shared.sole.load(Ordering::Relaxed) == caller.get()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Turns) -> T) -> T {
        let shared = &self.shared;
        let (result, asks_for_end) = {
            let mut turns = shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut turns);
            let sole = turns.sole();
            if let Some(sole) = sole {
                shared.sole.store(sole.get(), Ordering::Relaxed);
            }
            shared.has_sole.store(sole.is_some(), Ordering::Relaxed);
            let waiting = u64::try_from(turns.waiting()).unwrap_or(u64::MAX);
            shared.waiting.store(waiting, Ordering::Relaxed);
            (result, turns.asks_for_end())
        };
        if asks_for_end {
            shared.end_of_turn.notify_one();
        }
        result
    }
}

impl fmt::Debug for FairGate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FairGate")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// Opens the gate when nobody runs it any more.
struct Attended(FairGate);

impl Drop for Attended {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        self.0.with(|turns| turns.abandon(&mut wakers));
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    Outside,
    Waits(Place),
    Done,
}

/// A call at the gate. Dropped before it is through, it leaves no trace.
#[derive(Debug)]
#[must_use = "a call is counted when this is polled"]
pub struct Entering {
    gate: FairGate,
    caller: CallerKey,
    deadline: Option<Instant>,
    progress: Progress,
}

impl Entering {
    /// Counts the call: it is through, or waits.
    fn arrive(&self, waker: &Waker) -> Result<Progress, TurnedAway> {
        if self.gate.is_sole(self.caller) {
            return Ok(Progress::Done);
        }
        self.gate.with(|turns| match turns.arrive(self.caller) {
            Arrival::Passes => Ok(Progress::Done),
            Arrival::IsTooMany => Err(TurnedAway::TooManyWaiting),
            Arrival::MustWait => {
                let now = Instant::now();
                let place = turns.park(self.caller, self.deadline, now, waker.clone());
                Ok(Progress::Waits(place))
            }
        })
    }
}

impl Future for Entering {
    type Output = Result<Pass, TurnedAway>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match self.progress {
            Progress::Outside => match self.arrive(cx.waker()) {
                Ok(progress @ Progress::Waits(_)) => {
                    self.progress = progress;
                    return Poll::Pending;
                }
                Ok(Progress::Outside | Progress::Done) => Ok(Pass::default()),
                Err(turned_away) => Err(turned_away),
            },
            Progress::Waits(place) => {
                match self.gate.with(|turns| turns.outcome(place, cx.waker())) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => return Poll::Pending,
                }
            }
            Progress::Done => return Poll::Pending,
        };
        self.progress = Progress::Done;
        Poll::Ready(outcome)
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        if let Progress::Waits(place) = self.progress {
            self.gate.with(|turns| turns.forget(place));
        }
    }
}

#[cfg(test)]
#[path = "fair_gate_tests.rs"]
mod tests;
