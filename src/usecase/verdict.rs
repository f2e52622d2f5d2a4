//! What an approval adds to what the policies say.

use crate::approval::Approval;
use crate::model::{Decided, Decision, Outcome};

/// What an approval adds to what the policies say.
#[derive(Clone, Debug, PartialEq)]
pub enum ApprovalPart {
    /// Nothing: no approval took part.
    None,
    /// The policies require approval, and this one waits, or waits to be redeemed.
    Waits(Box<Approval>),
    /// The policies require approval, and this one was redeemed: the request is allowed, once.
    Granted(Box<Approval>),
    /// The policies need no approval any more, or deny whatever people say; this one was handed in.
    Untouched(Box<Approval>),
    /// The policies require approval, and there is none that would do: the request is denied.
    Refused(Box<ApprovalRefusal>),
}

/// Why an approval does not do.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalRefusal {
    /// What is wrong.
    pub fault: ApprovalFault,
    /// The same, as a sentence for people and agents.
    pub message: String,
    /// The approval, if the caller may know of it.
    pub approval: Option<Approval>,
}

/// What is wrong with the approval of a request that requires one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalFault {
    /// It ended without being redeemed.
    Closed,
    /// It was redeemed before.
    Redeemed,
    /// It belongs to another request or another caller.
    Mismatch,
    /// The request was denied by a reviewer a short while ago.
    CoolingDown,
    /// There are not enough people who could approve.
    NobodyCanApprove,
}

impl ApprovalPart {
    pub(super) fn refused(
        fault: ApprovalFault,
        message: String,
        approval: Option<Box<Approval>>,
    ) -> Self {
        let approval = approval.map(|approval| *approval);
        Self::Refused(Box::new(ApprovalRefusal {
            fault,
            message,
            approval,
        }))
    }

    /// The decision on a request of which the policies say `decided`.
    pub(super) fn decision(&self, decided: &Decided) -> Decision {
        match self {
            Self::None | Self::Untouched(_) => decided.outcome.decision(),
            Self::Waits(_) => Decision::RequireApproval,
            // INVARIANT (spent-or-not-allowed): a grant lifts gates and nothing else.
            Self::Granted(_) => match decided.outcome {
                Outcome::RequireApproval(_) | Outcome::Allow => Decision::Allow,
                Outcome::Deny(_) => Decision::Deny,
            },
            Self::Refused(_) => Decision::Deny,
        }
    }

    /// The approval that took part, if the caller may know of it.
    pub fn approval(&self) -> Option<&Approval> {
        match self {
            Self::None => None,
            Self::Waits(approval) | Self::Granted(approval) | Self::Untouched(approval) => {
                Some(approval)
            }
            Self::Refused(refusal) => refusal.approval.as_ref(),
        }
    }
}
