//! What the writing thread does: rest, write a round, open the next log if this one has failed; and at the end write what is left.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::log::BufferedLog;
use super::round::Round;
use super::settings::DecisionLogSettings;
use super::shared::Shared;
use super::sink::{FailedLog, LogHead, LogSink, OpenLog, SinkError};
use super::thread::{DecisionLogThread, LogSummary};

/// A log without a record for so long is left alone until there is one.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// How often it is tried at the end to write what is left, each time to another log.
const LAST_ATTEMPTS: u32 = 3;

/// Writes the decision log.
pub struct DecisionLogWriter {
    shared: Arc<Shared>,
    opener: Box<dyn OpenLog>,
    stage: Stage,
    /// What was taken out of the buffers and is not durable.
    round: Round,
    /// No record of the round was accepted before.
    round_since: Instant,
    /// When the buffers were last seen empty.
    emptied_at: Instant,
    /// When there was last a record.
    active_at: Instant,
    checkpoint_at: Instant,
    has_grown: bool,
    /// When a log was last opened, or failed to open.
    opened_at: Option<Instant>,
}

enum Stage {
    /// A log is open.
    Writing(Box<dyn LogSink>),
    /// None is.
    Failed(FailedLog),
}

impl DecisionLogWriter {
    /// Starts the thread that writes to `first`, and to what `opener` opens whenever a log has failed.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        settings: DecisionLogSettings,
        first: Box<dyn LogSink>,
        opener: Box<dyn OpenLog>,
    ) -> io::Result<(Arc<BufferedLog>, DecisionLogThread)> {
        let shared = Arc::new(Shared::new(settings, first.head()));
        let now = Instant::now();
        let writer = Self {
            round: Round::new(&shared.buffers),
            shared: Arc::clone(&shared),
            opener,
            stage: Stage::Writing(first),
            round_since: now,
            emptied_at: now,
            active_at: now,
            checkpoint_at: now,
            has_grown: false,
            opened_at: None,
        };
        let thread = DecisionLogThread::start(writer, Arc::clone(&shared))?;
        Ok((Arc::new(BufferedLog::new(shared)), thread))
    }

    /// Writes until it is asked to end, and then what is left.
    pub(super) fn run(mut self) -> LogSummary {
        let _guard = StopAtEnd(Arc::clone(&self.shared));
        self.shared.bell.answer_here();
        while !self.shared.bell.is_stopping() {
            match &self.stage {
                Stage::Writing(_) => {
                    self.rest();
                    let done = self.commit().and_then(|()| self.checkpoint_if_due());
                    self.fail_unless(done);
                }
                Stage::Failed(_) => {
                    self.shared.bell.pause_until(self.next_attempt());
                    if !self.shared.bell.is_stopping() {
                        self.begin_anew();
                    }
                }
            }
        }
        self.finish()
    }

    /// Waits until it is time for the next round.
    fn rest(&mut self) {
        let settings = &self.shared.settings;
        if self.active_at.elapsed() < IDLE_AFTER {
            let next = self.emptied_at + settings.commit_interval;
            self.shared.bell.doze_until(next);
        } else {
            let due = self.has_grown.then(|| {
                let due = self.checkpoint_at + settings.checkpoint_interval;
                due.saturating_duration_since(Instant::now())
            });
            self.shared.bell.sleep(due, || self.shared.has_work());
            // Whatever is there now woke this thread.
            self.emptied_at = Instant::now();
        }
    }

    /// Writes what an earlier log could not take, and then what is in the buffers.
    fn commit(&mut self) -> Result<(), SinkError> {
        // INVARIANT (kept-first)
        self.write_round()?;
        self.round_since = self.emptied_at;
        let shared = &self.shared;
        self.round
            .take(&shared.buffers, &shared.losses, &*shared.settings.now_us);
        self.emptied_at = Instant::now();
        shared.room.notify_waiters();
        self.write_round()
    }

    /// Makes the round durable, if there is anything in it.
    fn write_round(&mut self) -> Result<(), SinkError> {
        let Stage::Writing(sink) = &mut self.stage else {
            return Ok(());
        };
        if self.round.is_empty() {
            return Ok(());
        }
        sink.append_round(&self.round.records())?;
        let now = Instant::now();
        let took = now.saturating_duration_since(self.round_since);
        // Counted before anybody is answered, so that whoever was answered finds it counted.
        self.shared.note_round(self.round.len(), took, sink.head());
        self.round.settle();
        self.active_at = now;
        self.has_grown = true;
        Ok(())
    }

    fn checkpoint_if_due(&mut self) -> Result<(), SinkError> {
        let Stage::Writing(sink) = &mut self.stage else {
            return Ok(());
        };
        let is_due = self.checkpoint_at.elapsed() >= self.shared.settings.checkpoint_interval;
        if self.has_grown && is_due {
            sink.checkpoint()?;
            self.checkpoint_at = Instant::now();
            self.has_grown = false;
        }
        Ok(())
    }

    /// Gives up a log that cannot be written. The round stays.
    fn fail_unless(&mut self, done: Result<(), SinkError>) {
        let (Err(error), Stage::Writing(sink)) = (done, &self.stage) else {
            return;
        };
        let failed = FailedLog {
            head: sink.head(),
            reason: error.to_string(),
        };
        tracing::error!(
            decision_log.incarnation = failed.head.incarnation,
            decision_log.size = failed.head.size,
            decision_log.reason = failed.reason,
            "the decision log has failed; another one is opened",
        );
        self.shared.fail(&failed);
        self.stage = Stage::Failed(failed);
    }

    /// When a log may be opened: at once, unless one was opened a moment ago.
    fn next_attempt(&self) -> Instant {
        let now = Instant::now();
        let retry = self.shared.settings.retry;
        self.opened_at.map_or(now, |opened_at| opened_at + retry)
    }

    /// Opens another log, writes the round to it, and takes records again.
    fn begin_anew(&mut self) {
        self.open();
        let done = self.write_round();
        self.fail_unless(done);
        if let Stage::Writing(sink) = &self.stage {
            self.shared.open(sink.head());
        }
    }

    /// Opens another log, if none is open.
    fn open(&mut self) {
        let Stage::Failed(failed) = &self.stage else {
            return;
        };
        let opened = self.opener.open(Some(failed.clone()));
        let now = Instant::now();
        self.opened_at = Some(now);
        match opened {
            Ok(sink) => {
                tracing::info!(
                    decision_log.incarnation = sink.head().incarnation,
                    "another decision log is open"
                );
                self.stage = Stage::Writing(sink);
                self.active_at = now;
                self.checkpoint_at = now;
                self.has_grown = false;
            }
            Err(error) => {
                tracing::warn!(decision_log.reason = %error, "no other decision log can be opened yet");
            }
        }
    }

    /// Takes no more records, writes what is left, and closes the log.
    fn finish(mut self) -> LogSummary {
        self.shared.stop();
        self.drain();
        let undeclared = self.abandon();
        let stats = self.shared.stats();
        LogSummary {
            head: self.close(),
            accepted: stats.accepted,
            logged: stats.logged,
            lost: stats.lost,
            undeclared,
        }
        .checked()
    }

    /// Writes what is left, if need be to another log.
    fn drain(&mut self) {
        for _ in 0..LAST_ATTEMPTS {
            if self.round.is_empty() && !self.shared.has_work() {
                return;
            }
            if matches!(&self.stage, Stage::Failed(_)) {
                let pause = self.next_attempt();
                std::thread::sleep(pause.saturating_duration_since(Instant::now()));
                self.open();
            }
            if matches!(&self.stage, Stage::Writing(_)) {
                let done = self.commit();
                self.fail_unless(done);
            }
        }
    }

    /// Counts as lost what could not be written. Answers how many lost decisions no log declares.
    fn abandon(&mut self) -> u64 {
        let mut declarations = self.round.declared();
        let mut records = self.round.len();
        self.round.clear();
        let shared = &self.shared;
        self.round
            .take(&shared.buffers, &shared.losses, &*shared.settings.now_us);
        records = records.saturating_add(self.round.len());
        declarations = declarations.saturating_add(self.round.declared());
        self.round.clear();
        let undeclared = records.saturating_add(declarations);
        if undeclared > 0 {
            tracing::error!(
                decision_log.abandoned = records,
                decision_log.undeclared = undeclared,
                "decisions were answered that no decision log could be found for",
            );
        }
        shared.note_abandoned(records);
        undeclared
    }

    /// Closes the log. Its head, if it ends as it should.
    fn close(self) -> Option<LogHead> {
        let Stage::Writing(mut sink) = self.stage else {
            return None;
        };
        let closed = sink.checkpoint().and_then(|()| sink.close());
        closed
            .inspect_err(|error| {
                tracing::error!(decision_log.reason = %error, "the decision log could not be closed");
            })
            .ok()
    }
}

impl fmt::Debug for DecisionLogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionLogWriter").finish_non_exhaustive()
    }
}

/// However the thread ends: nobody appends to buffers that nobody empties, and nobody waits for it.
struct StopAtEnd(Arc<Shared>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
        self.0.buffers.turn_away_waiters();
    }
}
