//! The log as whoever decides sees it.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::model::Decision;
use crate::usecase::decision_log::{DecisionLog, LogUnavailable, Logged, NoRoom, OnFailure};
use crate::usecase::ports::PortFuture;

use super::shared::{Condition, DecisionLogStats, Shared};

/// The decision log of this process, to append to.
///
/// A record whose caller was told that the decision cannot be recorded may be in the log nevertheless: it was accepted and to be durable,
/// its log failed, and the next log came too late for the caller.
pub struct BufferedLog {
    shared: Arc<Shared>,
}

/// Tells when a record is durable.
struct Durability {
    answer: oneshot::Receiver<()>,
    failures: watch::Receiver<()>,
}

impl BufferedLog {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How the log does.
    pub fn stats(&self) -> DecisionLogStats {
        self.shared.stats()
    }

    async fn keep(
        &self,
        decision: Decision,
        record: &[u8],
        is_durable: bool,
    ) -> Result<Logged, LogUnavailable> {
        let offered = match self.offer(record, is_durable) {
            Ok(durability) => Ok(durability),
            Err(NoRoom) => match self.shared.settings.on_failure {
                OnFailure::Deny => self.offer_for_a_while(record, is_durable).await,
                OnFailure::Shed => Err(self.refusal()),
                OnFailure::Count => return self.count(decision),
            },
        };
        match offered? {
            Some(durability) => self.wait_until_durable(durability).await,
            None => Ok(Logged::Kept),
        }
    }

    /// Appends `record` if there is room.
    fn offer(&self, record: &[u8], is_durable: bool) -> Result<Option<Durability>, NoRoom> {
        let mut write = |buffer: &mut Vec<u8>| buffer.extend_from_slice(record);
        if !is_durable {
            self.append(&mut write)?;
            return Ok(None);
        }
        // Heard from before the record is accepted, so that no failure that concerns it is missed.
        let failures = self.shared.failures.subscribe();
        let (waiter, answer) = oneshot::channel();
        self.shared.buffers.append(&mut write, Some(waiter))?;
        self.shared.bell.ring();
        Ok(Some(Durability { answer, failures }))
    }

    /// Appends `record` as soon as there is room.
    async fn offer_for_a_while(
        &self,
        record: &[u8],
        is_durable: bool,
    ) -> Result<Option<Durability>, LogUnavailable> {
        let deadline = Instant::now() + self.shared.settings.wait;
        loop {
            let mut room = pin!(self.shared.room.notified());
            // Heard from before looking for room, so that none is missed.
            room.as_mut().enable();
            if let Ok(durability) = self.offer(record, is_durable) {
                return Ok(durability);
            }
            let condition = self.shared.condition();
            let is_over = condition == Condition::Stopped;
            if is_over || timeout_at(deadline, room).await.is_err() {
                return Err(self.refusal());
            }
        }
    }

    /// Waits until the record is durable; after a failure not long.
    async fn wait_until_durable(&self, durability: Durability) -> Result<Logged, LogUnavailable> {
        let Durability {
            mut answer,
            mut failures,
        } = durability;
        let answered = tokio::select! {
            biased;
            answered = &mut answer => Ok(answered),
            _ = failures.changed() => timeout(self.shared.settings.wait, answer).await,
        };
        match answered {
            Ok(Ok(())) => Ok(Logged::Kept),
            // The log has ended without the record, or takes too long to begin anew.
            Ok(Err(_)) | Err(_) => Err(match self.shared.condition() {
                Condition::Writable => LogUnavailable("it took too long to begin anew".to_owned()),
                Condition::Failed(_) | Condition::Stopped => self.refusal(),
            }),
        }
    }

    /// Counts a decision that is answered without a record.
    fn count(&self, decision: Decision) -> Result<Logged, LogUnavailable> {
        let reason = self.shared.condition().to_string();
        let at_us = (self.shared.settings.now_us)();
        if !self.shared.losses.count(decision, at_us, &reason) {
            return Err(self.refusal());
        }
        self.shared.bell.ring_if_asleep();
        Ok(Logged::Counted)
    }

    fn refusal(&self) -> LogUnavailable {
        LogUnavailable(self.shared.condition().to_string())
    }
}

impl DecisionLog for BufferedLog {
    fn append(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Result<(), NoRoom> {
        let is_past_mark = self.shared.buffers.append(write, None)?;
        if is_past_mark {
            self.shared.bell.ring();
        } else {
            self.shared.bell.ring_if_asleep();
        }
        Ok(())
    }

    fn ready(&self) -> Result<(), LogUnavailable> {
        let counts = self.shared.settings.on_failure == OnFailure::Count;
        if counts || self.shared.stats().is_writable {
            Ok(())
        } else {
            Err(self.refusal())
        }
    }

    fn append_waiting(
        &self,
        decision: Decision,
        record: Vec<u8>,
        is_durable: bool,
    ) -> PortFuture<'_, Result<Logged, LogUnavailable>> {
        Box::pin(async move { self.keep(decision, &record, is_durable).await })
    }
}

impl fmt::Debug for BufferedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedLog")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
