//! From the model to the wire.

use std::sync::Arc;

use jiff::Timestamp;

use crate::approval::FrozenRequirement;
use crate::model::{
    Decision, DenyReason, DeterminingPolicy, Effect, EntityRef, Explanation, LoadAttempt, Outcome,
    PolicyFault, PolicyOutcome, PolicyProblem, PolicyVerdict, Posture, Severity, ValidationMode,
};
use crate::usecase::{ActiveSnapshot, ApprovalFault, ApprovalPart, Authorized};

use super::{approval, proto};

/// The answer to a request.
pub(super) fn response(authorized: &Authorized) -> proto::AuthorizeResponse {
    let decided = authorized.decided();
    let (deny_reason, missing, deny_message) = denial(authorized);
    proto::AuthorizeResponse {
        decision: decision(authorized.decision()).into(),
        decision_id: authorized.decision_id.to_string(),
        policy_version: authorized.active.snapshot.version().as_str().to_owned(),
        determining: decided.determining.iter().map(determining).collect(),
        errors: decided.errors.iter().map(policy_error).collect(),
        deny_reason: deny_reason.into(),
        approval: approval_of(authorized).map(Box::new),
        cacheable: authorized.is_cacheable(),
        missing_entities: missing.iter().map(reference).collect(),
        deny_message,
        unlogged: authorized.is_unlogged,
    }
}

fn decision(decision: Decision) -> proto::Decision {
    match decision {
        Decision::Allow => proto::Decision::Allow,
        Decision::Deny => proto::Decision::Deny,
        Decision::RequireApproval => proto::Decision::RequireApproval,
    }
}

/// Why it is denied, if it is: for the sake of an approval, or by the policies.
fn denial(authorized: &Authorized) -> (proto::DenyReason, &[EntityRef], String) {
    let reason = deny_reason(authorized);
    if let ApprovalPart::Refused(refusal) = &authorized.approval {
        return (reason, &[], refusal.message.clone());
    }
    let missing: &[EntityRef] = match &authorized.decided().outcome {
        Outcome::Deny(DenyReason::EntityMissing(missing)) => missing,
        Outcome::Allow | Outcome::RequireApproval(_) | Outcome::Deny(_) => &[],
    };
    (reason, missing, String::new())
}

fn deny_reason(authorized: &Authorized) -> proto::DenyReason {
    if let ApprovalPart::Refused(refusal) = &authorized.approval {
        return match refusal.fault {
            ApprovalFault::Closed => proto::DenyReason::ApprovalClosed,
            ApprovalFault::Redeemed => proto::DenyReason::ApprovalRedeemed,
            ApprovalFault::Mismatch => proto::DenyReason::ApprovalMismatch,
            ApprovalFault::CoolingDown => proto::DenyReason::CoolingDown,
            ApprovalFault::NobodyCanApprove => proto::DenyReason::NobodyCanApprove,
        };
    }
    match &authorized.decided().outcome {
        Outcome::Allow | Outcome::RequireApproval(_) => proto::DenyReason::Unspecified,
        Outcome::Deny(DenyReason::Forbidden) => proto::DenyReason::Forbidden,
        Outcome::Deny(DenyReason::NoPermit) => proto::DenyReason::NoPermit,
        Outcome::Deny(DenyReason::PolicyError) => proto::DenyReason::PolicyError,
        Outcome::Deny(DenyReason::EntityMissing(_)) => proto::DenyReason::EntityMissing,
    }
}

/// The API's name for why it is denied, such as `FORBIDDEN`.
pub(super) fn deny_reason_name(authorized: &Authorized) -> &'static str {
    let name = deny_reason(authorized).as_str_name();
    name.strip_prefix("DENY_REASON_").unwrap_or(name)
}

/// The approval that took part; where none is kept, what it would take.
fn approval_of(authorized: &Authorized) -> Option<proto::Approval> {
    if let Some(approval) = authorized.approval.approval() {
        return Some(approval::summary(approval));
    }
    match (&authorized.decided().outcome, authorized.decision()) {
        (Outcome::RequireApproval(requirements), Decision::RequireApproval) => {
            let frozen: Vec<FrozenRequirement> =
                requirements.iter().map(FrozenRequirement::from).collect();
            Some(proto::Approval {
                requirements: frozen.iter().map(approval::requirement).collect(),
                ..proto::Approval::default()
            })
        }
        (Outcome::RequireApproval(_) | Outcome::Allow | Outcome::Deny(_), _) => None,
    }
}

fn determining(policy: &DeterminingPolicy) -> proto::DeterminingPolicy {
    proto::DeterminingPolicy {
        id: policy.id.clone(),
        effect: effect(policy.effect).into(),
        annotations: policy.annotations.as_ref().clone(),
    }
}

fn policy_error(fault: &PolicyFault) -> proto::PolicyError {
    proto::PolicyError {
        policy_id: fault.id.clone(),
        effect: effect(fault.effect).into(),
        message: fault.message.clone(),
    }
}

fn effect(effect: Effect) -> proto::Effect {
    match effect {
        Effect::Permit => proto::Effect::Permit,
        Effect::Forbid => proto::Effect::Forbid,
        Effect::Gate => proto::Effect::Gate,
    }
}

fn reference(uid: &EntityRef) -> proto::EntityRef {
    proto::EntityRef {
        r#type: uid.type_name.clone(),
        id: uid.id.clone(),
    }
}

/// The explanation of a decision.
pub(super) fn explanation(
    authorized: &Authorized,
    explanation: Explanation,
) -> proto::ExplainResponse {
    let near_misses = explanation
        .nearest_permits
        .into_iter()
        .map(|miss| proto::NearMiss {
            id: miss.id,
            failed: miss.failed,
            explanation: miss.explanation,
            location: miss.location,
        });
    proto::ExplainResponse {
        response: Some(response(authorized)),
        policies: explanation.policies.into_iter().map(verdict).collect(),
        nearest_permits: near_misses.collect(),
        relevant_context: explanation.relevant_context,
    }
}

fn verdict(verdict: PolicyVerdict) -> proto::PolicyExplanation {
    let (outcome, condition, error) = match verdict.outcome {
        PolicyOutcome::Satisfied => (
            proto::PolicyOutcome::Satisfied,
            String::new(),
            String::new(),
        ),
        PolicyOutcome::NotSatisfied { condition } => {
            (proto::PolicyOutcome::NotSatisfied, condition, String::new())
        }
        PolicyOutcome::Error { condition, message } => {
            (proto::PolicyOutcome::Error, condition, message)
        }
    };
    proto::PolicyExplanation {
        id: verdict.id,
        effect: effect(verdict.effect).into(),
        outcome: outcome.into(),
        annotations: Arc::unwrap_or_clone(verdict.annotations),
        condition,
        error,
        rule: verdict.rule.unwrap_or_default(),
        location: verdict.location,
    }
}

/// What is in force.
pub(super) fn policy_set(active: &ActiveSnapshot) -> proto::PolicySetInfo {
    let info = active.snapshot.info();
    proto::PolicySetInfo {
        version: info.version.as_str().to_owned(),
        activate_time: Some(timestamp(active.activated)),
        permits: count(info.permits),
        forbids: count(info.forbids),
        gates: count(info.gates),
        rules: count(info.rules),
        entities: count(info.entities),
        cases_passed: count(info.cases_passed),
        posture: posture(info.posture).into(),
        validation: validation(info.validation).into(),
        index_enabled: active.engine() == crate::policy::Engine::Index,
        warnings: info.warnings.iter().map(problem).collect(),
    }
}

/// How the last load went.
pub(super) fn attempt(attempt: &LoadAttempt) -> proto::LoadAttempt {
    proto::LoadAttempt {
        time: Some(timestamp(attempt.time)),
        succeeded: attempt.succeeded,
        version: attempt
            .version
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        problems: attempt.problems.iter().map(problem).collect(),
    }
}

fn problem(problem: &PolicyProblem) -> proto::PolicyProblem {
    let severity = match problem.severity {
        Severity::Error => proto::Severity::Error,
        Severity::Warning => proto::Severity::Warning,
    };
    proto::PolicyProblem {
        severity: severity.into(),
        file: problem.file.clone(),
        line: problem.line,
        column: problem.column,
        message: problem.message.clone(),
        help: problem.help.clone(),
        source_line: problem.source_line.clone(),
    }
}

fn posture(posture: Posture) -> proto::Posture {
    match posture {
        Posture::Strict => proto::Posture::Strict,
        Posture::Cedar => proto::Posture::Cedar,
    }
}

fn validation(validation: ValidationMode) -> proto::ValidationMode {
    match validation {
        ValidationMode::Strict => proto::ValidationMode::Strict,
        ValidationMode::Warn => proto::ValidationMode::Warn,
        ValidationMode::Off => proto::ValidationMode::Off,
    }
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
