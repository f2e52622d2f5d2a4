//! What becomes durable together.

use std::fmt;

use crate::audit::control_record::encode_control;
use crate::audit::proto::record::What;

use super::buffers::{Buffer, Buffers};
use super::losses::{self, Losses};

/// The records that were taken out of the buffers and are not durable yet.
pub(super) struct Round {
    buffers: Vec<Buffer>,
    /// How large a buffer may stay.
    buffer_bytes: usize,
    gap: Option<DeclaredGap>,
}

/// A record that declares losses. It is encoded once: if it must be written again, its repetition shows.
struct DeclaredGap {
    record: Vec<u8>,
    decisions: u64,
}

impl Round {
    pub(super) fn new(buffers: &Buffers) -> Self {
        Self {
            buffers: buffers.spares(),
            buffer_bytes: buffers.buffer_bytes(),
            gap: None,
        }
    }

    /// Takes what is in the buffers, and what was lost. Nothing else may be in the round.
    pub(super) fn take(&mut self, buffers: &Buffers, losses: &Losses, now_us: &dyn Fn() -> i64) {
        // Losses first: what was lost because a buffer was full is then declared behind what was in it, or later.
        let gap = losses.take();
        buffers.exchange(&mut self.buffers);
        self.gap = gap.map(|gap| {
            tracing::warn!(
                decision_log.allowed = gap.allowed,
                decision_log.denied = gap.denied,
                decision_log.approval_required = gap.approval_required,
                decision_log.reason = gap.reason,
                "decisions were answered without a record",
            );
            DeclaredGap {
                decisions: losses::size(&gap),
                record: encode_control(now_us(), What::Gap(gap)),
            }
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.gap.is_none()
    }

    /// How many decisions it holds the records of.
    pub(super) fn len(&self) -> u64 {
        self.buffers.iter().map(Buffer::len).sum()
    }

    /// How many lost decisions it declares.
    pub(super) fn declared(&self) -> u64 {
        self.gap.as_ref().map_or(0, |gap| gap.decisions)
    }

    pub(super) fn records(&self) -> RoundRecords<'_> {
        RoundRecords {
            buffers: &self.buffers,
            gap: self.gap.as_ref().map(|gap| gap.record.as_slice()),
        }
    }

    /// Answers everybody who waits for a record of this round: it is durable. Empties the round.
    pub(super) fn settle(&mut self) {
        for waiter in self.buffers.iter_mut().flat_map(Buffer::take_waiters) {
            // Whoever waited may have gone.
            let _ = waiter.send(());
        }
        self.clear();
    }

    /// Empties the round; who waits for a record of it is told that it is not durable.
    pub(super) fn clear(&mut self) {
        for buffer in &mut self.buffers {
            buffer.clear(self.buffer_bytes);
        }
        self.gap = None;
    }
}

/// The records of a round, in the order in which they are to be appended.
#[derive(Clone, Copy)]
pub struct RoundRecords<'r> {
    buffers: &'r [Buffer],
    gap: Option<&'r [u8]>,
}

impl<'r> RoundRecords<'r> {
    /// The bytes of each record.
    pub fn iter(&self) -> impl Iterator<Item = &'r [u8]> + Clone + use<'r> {
        self.buffers
            .iter()
            .flat_map(Buffer::records)
            .chain(self.gap)
    }

    /// How many records there are.
    pub fn len(&self) -> u64 {
        let records: u64 = self.buffers.iter().map(Buffer::len).sum();
        records.saturating_add(u64::from(self.gap.is_some()))
    }

    /// Whether there is none. A sink is never given none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for RoundRecords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoundRecords({})", self.len())
    }
}
