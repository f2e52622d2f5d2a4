//! Opens an approval for a request that requires one, or joins the one that waits.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::approval::quorum::Seats;
use crate::approval::{
    Approval, ApprovalId, Asked, FrozenRequirement, Opening, Status, View, ViewWords,
    request_digest, seats_of,
};
use crate::model::{Decided, EntityRef, Request, Requirement, RuleRequirement};
use crate::policy::{Engine, Snapshot, canonical_extension};
use crate::usecase::ActiveSnapshot;
use crate::usecase::approval_store::{OpenCommand, Opened};
use crate::usecase::ids::new_id;
use crate::usecase::verdict::{ApprovalFault, ApprovalPart};

use super::keys::{Owner, key};
use super::redeem::explain_closing;
use super::standing::{Question, apart, reviewers};
use super::{Approvals, ApprovalsError};

/// The description that a gate gives of itself.
const DESCRIPTION: &str = "description";

impl Approvals {
    /// Asks people about `request`, which is about the action `action` by its full name and requires approval as `decided` says.
    pub(in crate::usecase) async fn ask(
        &self,
        active: &ActiveSnapshot,
        decided: &Decided,
        requirements: &[Requirement],
        (request, action): (Request, String),
    ) -> Result<ApprovalPart, ApprovalsError> {
        check_required(&request, requirements)?;
        let now = self.clock.now();
        let frozen: Vec<FrozenRequirement> =
            requirements.iter().map(FrozenRequirement::from).collect();
        let question = question_of(&request, &frozen, now, active.engine());
        let seats = seats_of(&frozen);
        let barred = match apart(&active.snapshot, move |snapshot| {
            side_of(snapshot, &question, &seats)
        })
        .await?
        {
            Ok(barred) => barred,
            Err(message) => {
                return Ok(ApprovalPart::refused(
                    ApprovalFault::NobodyCanApprove,
                    message,
                    None,
                ));
            }
        };
        let asked = asked(active, decided, (&request, action), &frozen, barred);
        let command = OpenCommand {
            key: key(
                &Owner::Caller(&asked.request.caller),
                "open",
                asked.request.request_id.clone(),
                asked.digest,
            ),
            opening: Opening {
                id: ApprovalId::new(new_id(now).to_string()),
                asked,
                requirements: frozen,
            },
            limits: self.limits,
        };
        match self.store.open(command, now).await? {
            Opened::New(approval) | Opened::Joined(approval) => Ok(ApprovalPart::Waits(approval)),
            Opened::Repeated(approval) => Ok(repeated(approval, now)),
            Opened::CoolDown { denied, until } => {
                let message =
                    format!("this very request was denied; people can be asked again at {until}");
                Ok(ApprovalPart::refused(
                    ApprovalFault::CoolingDown,
                    message,
                    Some(denied),
                ))
            }
            Opened::TooMany { limit, retry_at } => {
                let retry_after = retry_at.duration_since(now).try_into().unwrap_or_default();
                Err(ApprovalsError::TooMany {
                    limit,
                    retry_at,
                    retry_after,
                })
            }
            Opened::KeyReused => Err(ApprovalsError::KeyReused),
        }
    }
}

/// The same call again: what it opened may have ended meanwhile, and then there is nothing to wait for.
fn repeated(approval: Box<Approval>, now: Timestamp) -> ApprovalPart {
    let status = approval.status_at(now);
    if !status.is_terminal() {
        return ApprovalPart::Waits(approval);
    }
    let fault = match status {
        Status::Redeemed => ApprovalFault::Redeemed,
        Status::Pending
        | Status::Approved
        | Status::Denied
        | Status::Expired
        | Status::Cancelled
        | Status::Superseded
        | Status::Revoked
        | Status::Lapsed => ApprovalFault::Closed,
    };
    let message = format!(
        "the approval that this call opened is {status}; use a new `request_id` to ask again"
    );
    let message = explain_closing(&approval, message);
    ApprovalPart::refused(fault, message, Some(approval))
}

fn check_required(request: &Request, requirements: &[Requirement]) -> Result<(), ApprovalsError> {
    let has_reason = request
        .justification
        .as_ref()
        .is_some_and(|reason| !reason.trim().is_empty());
    let lacking = requirements
        .iter()
        .find(|each| !has_reason && each.rule.require.contains(&RuleRequirement::Justification));
    match lacking {
        Some(requirement) => Err(ApprovalsError::FieldRequired {
            field: RuleRequirement::Justification.as_str(),
            rule: requirement.rule.name.clone(),
        }),
        None => Ok(()),
    }
}

/// Those who may be asked once further people are asked count too: somebody will be able to approve.
fn question_of(
    request: &Request,
    frozen: &[FrozenRequirement],
    now: Timestamp,
    engine: Engine,
) -> Question {
    Question {
        asked: request.clone(),
        seats: seats_of(frozen).into_keys().collect(),
        is_escalated: frozen.iter().any(|each| each.escalate_after.is_some()),
        now,
        engine,
    }
}

/// The requester's side, if enough people are left beside it to fill every seat.
///
/// # Errors
/// A sentence that says why nobody needs to be bothered.
fn side_of(
    snapshot: &Snapshot,
    question: &Question,
    seats: &Seats,
) -> Result<BTreeMap<EntityRef, String>, String> {
    let closure = snapshot
        .requester_closure(&question.asked)
        .map_err(|problem| {
            format!("it cannot be told who belongs to the requester's side: {problem}")
        })?;
    let (_, filling) = reviewers(snapshot, question, seats);
    if !filling.is_full() {
        let missing = filling
            .missing
            .iter()
            .map(|(seat, count)| format!("{count} for `{seat}`"));
        let missing: Vec<String> = missing.collect();
        return Err(format!(
            "too few people can approve this: missing {}",
            missing.join(", ")
        ));
    }
    let members = closure
        .members
        .into_iter()
        .map(|(uid, why)| (uid, why.to_string()));
    Ok(members.collect())
}

fn asked(
    active: &ActiveSnapshot,
    decided: &Decided,
    (request, action): (&Request, String),
    frozen: &[FrozenRequirement],
    barred: BTreeMap<EntityRef, String>,
) -> Asked {
    let descriptions = decided
        .determining
        .iter()
        .filter_map(|policy| {
            Some((
                policy.id.clone(),
                policy.annotations.get(DESCRIPTION)?.clone(),
            ))
        })
        .collect();
    let view = View::of(&ViewWords {
        request,
        action: &action,
        requirements: frozen,
        descriptions: &descriptions,
        barred: &barred,
    });
    Asked {
        digest: request_digest(request, &action, canonical_extension),
        view_digest: view.digest(),
        view,
        request: request.clone(),
        action,
        policy_version: active.snapshot.version().clone(),
        barred,
    }
}
