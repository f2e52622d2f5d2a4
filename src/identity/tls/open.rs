//! TLS while it is served: one generation after another.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::usecase::ports::Clock;

use super::{TlsError, TlsFiles, TlsGeneration};

/// TLS while it is served: one generation after another.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    current: ArcSwap<TlsGeneration>,
    numbers: watch::Sender<u64>,
    /// Held while the files are read: of two readings, the later one must win.
    reloading: Mutex<()>,
}

impl Tls {
    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] for the first fault; a certificate that has ended is one.
    pub fn open(files: TlsFiles, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        files.check()?;
        let generation = TlsGeneration::new(&files, &files.read()?, 1, &clock)?;
        Ok(Self {
            files,
            clock,
            current: ArcSwap::from_pointee(generation),
            numbers: watch::Sender::new(1),
            reloading: Mutex::new(()),
        })
    }

    /// Reads all files again, and puts what they hold in force if it is something else: all of it or nothing. Answers whether
    /// something changed. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] for the first fault; what was in force remains so.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let _alone = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let contents = self.files.read()?;
        let current = self.current();
        if contents.digest() == current.digest {
            return Ok(false);
        }
        let number = current.number.saturating_add(1);
        let next = TlsGeneration::new(&self.files, &contents, number, &self.clock)?;
        self.current.store(Arc::new(next));
        self.numbers.send_replace(number);
        Ok(true)
    }

    /// What is in force. A connection keeps the generation that did its handshake.
    pub fn current(&self) -> Arc<TlsGeneration> {
        self.current.load_full()
    }

    /// Tells the number of each generation that comes into force.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.numbers.subscribe()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "reload_tests.rs"]
mod reload_tests;
