//! Counts the decisions that were answered without a record, until a record declares them.

use std::sync::Mutex;

use crate::audit::proto::Gap;
use crate::model::Decision;

use super::buffers::lock;

/// What was lost and not yet declared, and how much was lost at all.
#[derive(Debug, Default)]
pub(super) struct Losses(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    is_closed: bool,
    undeclared: Option<Gap>,
    total: u64,
}

impl Losses {
    /// Counts a decision that was answered at `at_us`. Answers whether it is counted: after the end nobody would declare it.
    pub(super) fn count(&self, decision: Decision, at_us: i64, reason: &str) -> bool {
        let mut counts = lock(&self.0);
        if counts.is_closed {
            return false;
        }
        counts.total += 1;
        let gap = counts.undeclared.get_or_insert_with(|| Gap {
            since_us: at_us,
            until_us: at_us,
            reason: reason.to_owned(),
            ..Gap::default()
        });
        // Two threads may tell the time in one order and come here in the other.
        gap.since_us = gap.since_us.min(at_us);
        gap.until_us = gap.until_us.max(at_us);
        match decision {
            Decision::Allow => gap.allowed += 1,
            Decision::Deny => gap.denied += 1,
            Decision::RequireApproval => gap.approval_required += 1,
        }
        true
    }

    /// What is to be declared; it is somebody else's from now on.
    pub(super) fn take(&self) -> Option<Gap> {
        lock(&self.0).undeclared.take()
    }

    /// Whether something is to be declared.
    pub(super) fn are_undeclared(&self) -> bool {
        lock(&self.0).undeclared.is_some()
    }

    /// Counts nothing any more.
    pub(super) fn close(&self) {
        lock(&self.0).is_closed = true;
    }

    /// How many were ever counted.
    pub(super) fn total(&self) -> u64 {
        lock(&self.0).total
    }
}

/// How many decisions a gap stands for.
pub(super) fn size(gap: &Gap) -> u64 {
    gap.allowed
        .saturating_add(gap.denied)
        .saturating_add(gap.approval_required)
}
