//! How the writing thread sleeps, and how it is woken.
//!
//! INVARIANT (no-lost-wake): the thread says that it sleeps before it looks, under each buffer's lock, whether there is work; an append
//! asks whether the thread sleeps after it has had that lock. So one of the two sees the other, and a relaxed load is enough.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::time::Instant;

/// Wakes the writing thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// The thread sleeps until it is woken.
    is_asleep: AtomicBool,
    /// The next round shall begin now.
    is_urgent: AtomicBool,
    /// The thread shall end.
    is_stopping: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Bell {
    /// Wakes this thread from now on.
    pub(super) fn answer_here(&self) {
        self.thread.get_or_init(thread::current);
    }

    /// Wakes the thread if it sleeps; a thread that looks every few milliseconds is left alone. Call it after an append.
    pub(super) fn ring_if_asleep(&self) {
        if self.is_asleep.load(Ordering::Relaxed) {
            self.wake_sleeper();
        }
    }

    #[cold]
    fn wake_sleeper(&self) {
        if self.is_asleep.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Asks for a round now.
    pub(super) fn ring(&self) {
        // Whoever finds it rung already leaves the waking to the one who rang: that one has not been answered yet.
        if !self.is_urgent.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the thread was asked to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn wake(&self) {
        // A thread that has not begun yet has not slept yet.
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Sleeps until somebody rings, unless there is work already; no longer than `limit`. May wake without a reason.
    pub(super) fn sleep(&self, limit: Option<Duration>, has_work: impl Fn() -> bool) {
        self.is_asleep.store(true, Ordering::Relaxed);
        let is_urgent = self.is_urgent.load(Ordering::Acquire);
        if !is_urgent && !has_work() && !self.is_stopping() {
            match limit {
                Some(limit) => thread::park_timeout(limit),
                None => thread::park(),
            }
        }
        self.is_asleep.store(false, Ordering::Relaxed);
        self.is_urgent.store(false, Ordering::Release);
    }

    /// Waits until `deadline`, until a round is asked for, or until the end is.
    pub(super) fn doze_until(&self, deadline: Instant) {
        while !self.is_urgent.swap(false, Ordering::AcqRel) && self.park_until(deadline) {}
    }

    /// Waits until `deadline`, or until the end is asked for.
    pub(super) fn pause_until(&self, deadline: Instant) {
        while self.park_until(deadline) {}
    }

    /// Waits for anything. Answers whether there is more to wait for.
    fn park_until(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.is_stopping() {
            return false;
        }
        thread::park_timeout(left);
        true
    }
}
