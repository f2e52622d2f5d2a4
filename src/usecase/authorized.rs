//! What comes out of deciding a request.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::approval::State;
use crate::audit::decision_record::Evaluation;
use crate::model::{Decided, Decision};

use super::active::ActiveSnapshot;
use super::cache::CachedDecision;
use super::ids::new_id;
use super::verdict::ApprovalPart;

/// A decision, with what the answer to the caller needs.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// Identifies the decision.
    pub decision_id: Uuid,
    /// The snapshot that decided.
    pub active: Arc<ActiveSnapshot>,
    /// What was decided.
    pub decision: Arc<CachedDecision>,
    /// What an approval adds to it.
    pub approval: ApprovalPart,
    /// How it was made.
    pub evaluation: Evaluation,
    /// Whether the decision is not in the audit log, but only counted there.
    pub is_unlogged: bool,
}

impl Authorized {
    /// What the policies say.
    pub fn decided(&self) -> &Decided {
        &self.decision.decided
    }

    /// The decision: what the policies say, with what an approval adds to it.
    pub fn decision(&self) -> Decision {
        self.approval.decision(self.decided())
    }

    /// Whether the caller may keep the answer until the policy version changes.
    pub fn is_cacheable(&self) -> bool {
        self.approval == ApprovalPart::None
            && !self.is_unlogged
            && self.decided().is_cacheable()
            && self.decided().outcome.decision() != Decision::RequireApproval
    }
}

/// The decision of `active` as it is answered, under a new id.
pub(super) fn authorized(
    active: &Arc<ActiveSnapshot>,
    decision: Arc<CachedDecision>,
    approval: ApprovalPart,
    (evaluation, now): (Evaluation, Timestamp),
) -> Authorized {
    Authorized {
        decision_id: new_id(now),
        active: Arc::clone(active),
        decision,
        approval,
        evaluation,
        is_unlogged: false,
    }
}

/// The decision that spent the grant: the same one whenever the same call comes again.
pub(super) fn spent_by(part: &ApprovalPart) -> Option<Uuid> {
    let ApprovalPart::Granted(approval) = part else {
        return None;
    };
    match &approval.state {
        State::Redeemed { redemption, .. } => redemption.decision_id.parse().ok(),
        State::Pending | State::Approved(_) | State::Closed(..) => None,
    }
}
