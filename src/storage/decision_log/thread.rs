//! The writing thread as whoever starts and ends it sees it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::shared::Shared;
use super::sink::LogHead;
use super::writer::DecisionLogWriter;

/// What became of all decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// The head of the last log, if it was closed as it should be; otherwise the log is to be looked into before it is trusted.
    pub head: Option<LogHead>,
    /// How many decisions could be answered: `logged` and `lost` together.
    pub accepted: u64,
    /// How many have a durable record. The logs may have more records: gaps, and repetitions after a failure.
    pub logged: u64,
    /// How many have none.
    pub lost: u64,
    /// How many of the lost ones no log declares, because none could be written at the end.
    pub undeclared: u64,
}

/// The thread that writes the decision log.
///
/// Dropped, it ends as by [`DecisionLogThread::stop`].
pub struct DecisionLogThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<LogSummary>>,
}

impl DecisionLogThread {
    pub(super) fn start(writer: DecisionLogWriter, shared: Arc<Shared>) -> io::Result<Self> {
        let thread = std::thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Takes no more records, writes those that were accepted, and closes the log. Blocks for as long as that takes.
    ///
    /// Whoever appends should have ended before; who has not is told that there is no room.
    pub fn stop(mut self) -> LogSummary {
        let summary = self.join();
        summary.unwrap_or_else(|| {
            // The thread panicked: nothing is known but what it had counted.
            let stats = self.shared.stats();
            LogSummary {
                head: None,
                accepted: stats.accepted,
                logged: stats.logged,
                lost: stats.lost,
                undeclared: stats.lost,
            }
            .checked()
        })
    }

    fn join(&mut self) -> Option<LogSummary> {
        let thread = self.thread.take()?;
        self.shared.bell.stop();
        thread.join().ok()
    }
}

impl Drop for DecisionLogThread {
    fn drop(&mut self) {
        drop(self.join());
    }
}

impl fmt::Debug for DecisionLogThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionLogThread").finish_non_exhaustive()
    }
}

impl LogSummary {
    /// Itself, having said so if decisions are missing.
    pub(super) fn checked(self) -> Self {
        // INVARIANT (nothing-vanishes)
        if self.logged.checked_add(self.lost) != Some(self.accepted) {
            tracing::error!(
                decision_log.accepted = self.accepted,
                decision_log.logged = self.logged,
                decision_log.lost = self.lost,
                "decisions were answered that are neither in the log nor counted as lost",
            );
        }
        self
    }
}
