//! Why something about an approval was not done.

use std::time::Duration;

use jiff::Timestamp;

use crate::approval::flood::FloodLimit;
use crate::approval::{Approval, ApprovalId, Refusal};
use crate::usecase::approval_store::{Applied, StoreError};

/// Why something about an approval was not done. Whatever it is, nothing is allowed by it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApprovalsError {
    /// Nothing has been loaded yet, so nobody can be told eligible.
    #[error("no policies have been loaded yet")]
    NoPolicies,
    /// This server keeps no approvals.
    #[error("this server keeps no approvals")]
    NotKept,
    /// There is no such approval.
    #[error("there is no approval `{0}`")]
    NotFound(ApprovalId),
    /// The state machine refused.
    #[error("{1}")]
    Refused(Box<Approval>, Refusal),
    /// The idempotency key belongs to another call.
    #[error(
        "this `request_id` was used for something else; choose a new one for each thing you do"
    )]
    KeyReused,
    /// The request lacks what its rules demand.
    #[error("the rule `{rule}` requires a {field}")]
    FieldRequired {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// The requester asks for too many approvals.
    #[error("{}", describe(*.limit))]
    TooMany {
        /// The limit that was met.
        limit: FloodLimit,
        /// When asking again may help.
        retry_at: Timestamp,
        /// How long that is from now.
        retry_after: Duration,
    },
    /// The mode has no side effects, and redeeming is one.
    #[error("an approval cannot be redeemed in mode CHECK, which has no side effects")]
    CheckOnly,
    /// Others changed the approval each time it was about to be changed.
    #[error("the approval is being changed by others; try again")]
    Contended,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that asked the policies ended without an answer.
    #[error("the evaluation did not end")]
    EvaluationLost,
}

fn describe(limit: FloodLimit) -> String {
    match limit {
        FloodLimit::PendingPerRequester(count) => {
            format!(
                "{count} approvals of this requester are waiting, which is as many as may wait at once"
            )
        }
        FloodLimit::OpenedPerMinute(count) => {
            format!(
                "this requester opened {count} approvals within a minute, which is as many as it may"
            )
        }
    }
}

/// The approval after a wish was fulfilled, now or before.
pub(super) fn fulfilled(id: &ApprovalId, applied: Applied) -> Result<Approval, ApprovalsError> {
    match applied {
        Applied::Done(approval) | Applied::Repeated(approval) => Ok(*approval),
        Applied::Refused(approval, refusal) => Err(ApprovalsError::Refused(approval, refusal)),
        Applied::Moved(_) => Err(ApprovalsError::Contended),
        Applied::KeyReused => Err(ApprovalsError::KeyReused),
        Applied::Unknown => Err(ApprovalsError::NotFound(id.clone())),
    }
}
