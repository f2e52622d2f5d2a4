//! How many connections are open, by transport.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many connections are open.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    tcp: AtomicU64,
    tls: AtomicU64,
    unix: AtomicU64,
}

/// An open connection; it counts as long as this lives.
#[derive(Debug)]
pub(super) struct Open<'a>(&'a AtomicU64);

impl OpenConnections {
    pub(super) fn tcp(&self) -> Open<'_> {
        Open::of(&self.tcp)
    }

    pub(super) fn tls(&self) -> Open<'_> {
        Open::of(&self.tls)
    }

    pub(super) fn unix(&self) -> Open<'_> {
        Open::of(&self.unix)
    }

    /// How many there are of each.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = [("tcp", &self.tcp), ("tls", &self.tls), ("unix", &self.unix)];
        counts
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .to_vec()
    }
}

impl<'a> Open<'a> {
    fn of(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
