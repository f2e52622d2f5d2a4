//! Which of this process's decisions belong to the present log: a process begins another log when the one before it fails.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::audit::control_record::gap_in;
use crate::storage::decision_log::{BufferedLog, LogSummary};

/// What the logs before the present one hold.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    logged: u64,
    declared_lost: u64,
}

/// Counts what belongs to the present log.
#[derive(Debug, Default)]
pub(super) struct Counts {
    log: OnceLock<Arc<BufferedLog>>,
    before: Mutex<Before>,
    /// How many decisions all logs have declared lost.
    declared_lost: Mutex<u64>,
}

impl Counts {
    /// Counts for `log`.
    pub(super) fn watch(&self, log: &Arc<BufferedLog>) {
        // It is set once.
        self.log.set(Arc::clone(log)).ok();
    }

    /// Another log begins.
    pub(super) fn begin(&self) {
        let logged = self.log.get().map_or(0, |log| log.stats().logged);
        let declared_lost = *self.declared();
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Before {
            logged,
            declared_lost,
        };
    }

    /// These records are on the disk.
    pub(super) fn note<'r>(&self, records: impl Iterator<Item = &'r [u8]>) {
        for gap in records.filter_map(gap_in) {
            let lost = [gap.allowed, gap.denied, gap.approval_required];
            let lost: u64 = lost.into_iter().fold(0, u64::saturating_add);
            let mut declared = self.declared();
            *declared = declared.saturating_add(lost);
        }
    }

    /// How many decisions the present log accepted, and how many of them it declares lost.
    pub(super) fn of_present_log(&self, summary: &LogSummary) -> (u64, u64) {
        let before = *self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = summary.lost.saturating_sub(before.declared_lost);
        let accepted = summary
            .accepted
            .saturating_sub(before.logged)
            .saturating_sub(before.declared_lost);
        (accepted, lost)
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, u64> {
        self.declared_lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
