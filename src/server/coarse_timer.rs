//! The time as keepalive needs it: a tenth of a second is near enough.
//!
//! HTTP/2 keepalive asks for the time several times a call, to know when a peer last spoke; asking the system costs 40 ns each time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// How far the time may lag behind.
const TICK: Duration = Duration::from_millis(100);

/// A timer whose `now` is read from a counter that one task of the thread moves on.
#[derive(Clone, Debug)]
pub(super) struct CoarseTimer {
    start: Instant,
    elapsed_ms: Arc<AtomicU64>,
    timer: TokioTimer,
}

impl Default for CoarseTimer {
    fn default() -> Self {
        Self {
            start: tokio::time::Instant::now().into_std(),
            elapsed_ms: Arc::default(),
            timer: TokioTimer::new(),
        }
    }
}

impl CoarseTimer {
    /// Moves the time on, for ever.
    pub(super) async fn tick(&self) {
        loop {
            tokio::time::sleep(TICK).await;
            let elapsed = tokio::time::Instant::now()
                .into_std()
                .saturating_duration_since(self.start);
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            self.elapsed_ms.store(elapsed_ms, Ordering::Relaxed);
        }
    }
}

impl Timer for CoarseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.timer.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.timer.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        let elapsed = Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed));
        self.start.checked_add(elapsed).unwrap_or(self.start)
    }
}
