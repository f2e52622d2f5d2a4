//! Records decisions before they are answered.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use crate::approval::ControlRecord;
use crate::audit::control_record;
use crate::audit::decision_record::{
    ApprovalFacts, Beside, DecisionFacts, Evaluation, deny_reason, verdict, write,
};
use crate::audit::proto::DenyReason;
use crate::audit::redaction::{RedactionKey, Redactor};
use crate::model::{Redactions, Request};

use super::active::ActiveSnapshot;
use super::authorized::Authorized;
use super::control_log::RecordEncoder;
use super::decision_log::{DecisionLog, LogUnavailable, Logged, NoRoom, Seal};
use super::verdict::{ApprovalFault, ApprovalPart};

/// Writes what was decided to the log of decisions.
#[derive(Debug)]
pub struct Recorder {
    log: Arc<dyn DecisionLog>,
    key: RedactionKey,
    seal: Arc<Seal>,
}

/// What is recorded beside the decision itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) at: Timestamp,
    pub(super) request: &'a Request,
    pub(super) beside: Beside<'a>,
    pub(super) evaluation: Evaluation,
}

impl Recorder {
    /// Writes to `log` until `seal` is set; values that may only be compared are hashed under `key`.
    pub fn new(log: Arc<dyn DecisionLog>, key: RedactionKey, seal: Arc<Seal>) -> Self {
        Self { log, key, seal }
    }

    /// Records a decision without waiting.
    pub(super) fn record(
        &self,
        authorized: &Authorized,
        circumstances: &Circumstances<'_>,
    ) -> Result<(), NoRoom> {
        if self.seal.reason().is_some() {
            return Err(NoRoom);
        }
        self.log
            .append(&mut |buffer| self.write(authorized, circumstances, buffer))
    }

    /// The record of a decision.
    pub(super) fn encode(
        &self,
        authorized: &Authorized,
        circumstances: &Circumstances<'_>,
    ) -> Vec<u8> {
        let mut record = Vec::new();
        self.write(authorized, circumstances, &mut record);
        record
    }

    /// Whether decisions can be recorded now: asked before something is done that cannot be undone.
    pub(super) fn ready(&self) -> Result<(), LogUnavailable> {
        match self.seal.reason() {
            Some(reason) => Err(LogUnavailable(reason.to_owned())),
            None => self.log.ready(),
        }
    }

    /// Keeps the record of `authorized`; waits until it is on the disk if it is to be durable.
    pub(super) async fn keep(
        &self,
        authorized: Authorized,
        record: Vec<u8>,
        is_durable: bool,
    ) -> Result<Authorized, LogUnavailable> {
        if let Some(reason) = self.seal.reason() {
            return Err(LogUnavailable(reason.to_owned()));
        }
        let decision = authorized.decision();
        let logged = self.log.append_waiting(decision, record, is_durable);
        let is_unlogged = logged.await? == Logged::Counted;
        Ok(Authorized {
            is_unlogged,
            ..authorized
        })
    }

    fn write(
        &self,
        authorized: &Authorized,
        circumstances: &Circumstances<'_>,
        buffer: &mut Vec<u8>,
    ) {
        let Circumstances {
            at,
            request,
            beside,
            evaluation,
        } = *circumstances;
        let snapshot = &authorized.active.snapshot;
        let anew;
        let verdict = if authorized.approval == ApprovalPart::None {
            let kept = &authorized.decision.recorded;
            kept.get_or_init(|| verdict_of(authorized).into_boxed_slice())
        } else {
            anew = verdict_of(authorized);
            &anew[..]
        };
        let is_granted = matches!(authorized.approval, ApprovalPart::Granted(_));
        let approval = authorized
            .approval
            .approval()
            .map(|approval| ApprovalFacts {
                id: approval.id.as_str(),
                is_granted,
                request_digest: *approval.asked.digest.as_bytes(),
            });
        let facts = DecisionFacts {
            at_us: at.as_microsecond(),
            decision_id: *authorized.decision_id.as_bytes(),
            verdict,
            request,
            beside,
            evaluation,
            approval,
        };
        let redactor = Redactor {
            redactions: snapshot.redactions(),
            key: self.key,
        };
        write(&facts, &redactor, buffer);
    }
}

fn verdict_of(authorized: &Authorized) -> Vec<u8> {
    let decided = authorized.decided();
    let reason = match &authorized.approval {
        ApprovalPart::Refused(refusal) => match refusal.fault {
            ApprovalFault::Closed => DenyReason::ApprovalClosed,
            ApprovalFault::Redeemed => DenyReason::ApprovalRedeemed,
            ApprovalFault::Mismatch => DenyReason::ApprovalMismatch,
            ApprovalFault::CoolingDown => DenyReason::CoolingDown,
            ApprovalFault::NobodyCanApprove => DenyReason::NobodyCanApprove,
        },
        ApprovalPart::None
        | ApprovalPart::Waits(_)
        | ApprovalPart::Granted(_)
        | ApprovalPart::Untouched(_) => deny_reason(&decided.outcome),
    };
    let version = authorized.active.snapshot.version();
    let has_redactions = !authorized.active.snapshot.redactions().is_empty();
    let answer = (authorized.decision(), reason);
    verdict(answer, decided, version, has_redactions)
}

/// Writes what happens to approvals, without what the policies in force keep out of the log.
#[derive(Debug)]
pub struct PolicyRecords {
    active: Arc<ArcSwapOption<ActiveSnapshot>>,
    key: RedactionKey,
}

impl PolicyRecords {
    /// Asks whatever `active` holds at the time; values that may only be compared are hashed under `key`.
    pub fn new(active: Arc<ArcSwapOption<ActiveSnapshot>>, key: RedactionKey) -> Self {
        Self { active, key }
    }
}

impl RecordEncoder for PolicyRecords {
    fn encode(&self, record: &ControlRecord) -> Vec<u8> {
        let active = self.active.load_full();
        // Nothing is opened before policies are in force, and only an opening holds values.
        let nothing = Redactions::default();
        let redactions = active
            .as_ref()
            .map_or(&nothing, |active| active.snapshot.redactions());
        let redactor = Redactor {
            redactions,
            key: self.key,
        };
        control_record::encode(record, &redactor)
    }
}
