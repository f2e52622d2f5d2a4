//! Encodes decisions.
//!
//! What a decision says of itself (`verdict`) is the same for every request that gets it, so it is encoded once and kept with it.
//! INVARIANT (one-record): what `write` appends decodes to one `Record` with a `Decision`.

use crate::model::{
    Decided, Decision, DenyReason, Mode, Outcome, PolicyVersion, Request, TraceContext,
};

use super::control_record::NOT_RECORDED;
use super::encode::Fields;
use super::proto;
use super::record_values::{attributes, described, entities, entity};
use super::redaction::Redactor;

/// What is recorded of one decision.
#[derive(Clone, Copy, Debug)]
pub struct DecisionFacts<'a> {
    /// When it was made, in microseconds since the epoch.
    pub at_us: i64,
    /// Its id.
    pub decision_id: [u8; 16],
    /// What was decided, as [`verdict`] encodes it.
    pub verdict: &'a [u8],
    /// What was asked, with what no policy reads.
    pub request: &'a Request,
    /// What no policy reads, where it was taken out of the request.
    pub beside: Beside<'a>,
    /// How it was decided.
    pub evaluation: Evaluation,
    /// The approval that took part.
    pub approval: Option<ApprovalFacts<'a>>,
}

/// What no policy reads of a request.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// The service on the connection.
    pub caller: &'a str,
    /// For whom, nearest first.
    pub on_behalf_of: &'a [crate::model::EntityRef],
    /// The caller's idempotency key.
    pub request_id: Option<&'a str>,
    /// The requester's words.
    pub justification: Option<&'a str>,
    /// The caller's labels.
    pub labels: &'a std::collections::BTreeMap<String, String>,
    /// The span that the call was made from.
    pub trace: Option<TraceContext>,
    /// Whether `on_behalf_of` is what the caller's credential says.
    pub is_chain_verified: bool,
    /// Whether the caller will act on the answer.
    pub mode: Mode,
}

impl<'a> Beside<'a> {
    /// What `request` itself holds of it.
    pub fn of(request: &'a Request) -> Self {
        Self {
            caller: &request.caller,
            on_behalf_of: &request.on_behalf_of,
            request_id: request.request_id.as_deref(),
            justification: request.justification.as_deref(),
            labels: &request.labels,
            trace: request.trace,
            is_chain_verified: request.is_chain_verified,
            mode: request.mode,
        }
    }
}

/// How a decision was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether it was found in the cache.
    pub is_cached: bool,
    /// How long the evaluation took, in microseconds.
    pub took_us: u32,
    /// The clock that the policies read; 0 if none did.
    pub clock_us: i64,
}

/// An approval's part in a decision.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalFacts<'a> {
    /// Its id.
    pub id: &'a str,
    /// Whether the decision rests on its grant.
    pub is_granted: bool,
    /// The digest of its request.
    pub request_digest: [u8; 32],
}

/// How many policies a record names at most, and how many bytes of an error's message it holds: a record must fit in the log.
const POLICIES: usize = 200;
const ERRORS: usize = 50;
const MESSAGE_BYTES: usize = 500;
/// What stands for what is left out.
const MORE: &str = "\u{2026}";

/// Encodes what `decision` says of itself: the first fields of `Decision`, but for the id. Messages of errors can hold values, so they
/// are left out where policies keep values out (`has_redactions`).
pub fn verdict(
    (decision, deny_reason): (Decision, proto::DenyReason),
    decided: &Decided,
    version: &PolicyVersion,
    has_redactions: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut fields = Fields(&mut bytes);
    let outcome = match decision {
        Decision::Allow => proto::Outcome::Allow,
        Decision::Deny => proto::Outcome::Deny,
        Decision::RequireApproval => proto::Outcome::RequireApproval,
    };
    fields.signed(2, i64::from(i32::from(outcome)));
    fields.signed(3, i64::from(i32::from(deny_reason)));
    fields.text(4, version.as_str());
    for policy in decided.determining.iter().take(POLICIES) {
        fields.member(5, shortened(&policy.id).as_bytes());
    }
    if decided.determining.len() > POLICIES {
        fields.member(5, MORE.as_bytes());
    }
    if let Outcome::RequireApproval(requirements) = &decided.outcome {
        for requirement in requirements {
            fields.member(6, requirement.rule.name.as_bytes());
        }
    }
    for fault in decided.errors.iter().take(ERRORS) {
        fields.message(7, |inner| {
            inner.text(1, shortened(&fault.id));
            let message = shortened(&fault.message);
            inner.text(
                2,
                if has_redactions {
                    NOT_RECORDED
                } else {
                    message
                },
            );
        });
    }
    if decided.errors.len() > ERRORS {
        fields.message(7, |inner| inner.text(1, MORE));
    }
    if let Outcome::Deny(DenyReason::EntityMissing(missing)) = &decided.outcome {
        entities(&mut fields, 8, missing);
    }
    bytes
}

/// As much of `text` as a record holds.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// Why the policies deny, as it is recorded.
pub fn deny_reason(outcome: &Outcome) -> proto::DenyReason {
    match outcome {
        Outcome::Allow | Outcome::RequireApproval(_) => proto::DenyReason::Unspecified,
        Outcome::Deny(DenyReason::Forbidden) => proto::DenyReason::Forbidden,
        Outcome::Deny(DenyReason::NoPermit) => proto::DenyReason::NoPermit,
        Outcome::Deny(DenyReason::PolicyError) => proto::DenyReason::PolicyError,
        Outcome::Deny(DenyReason::EntityMissing(_)) => proto::DenyReason::EntityMissing,
    }
}

/// Appends the record of a decision to `buffer`.
pub fn write(facts: &DecisionFacts<'_>, redactor: &Redactor<'_>, buffer: &mut Vec<u8>) {
    let mut record = Fields(buffer);
    record.signed(1, facts.at_us);
    record.message(2, |fields| {
        fields.bytes(1, &facts.decision_id);
        fields.0.extend_from_slice(facts.verdict);
        write_request(fields, facts, redactor);
        let evaluation = facts.evaluation;
        fields.flag(40, evaluation.is_cached);
        fields.number(41, u64::from(evaluation.took_us));
        fields.signed(42, evaluation.clock_us);
        if let Some(approval) = &facts.approval {
            fields.text(50, approval.id);
            fields.flag(51, approval.is_granted);
            fields.bytes(52, &approval.request_digest);
        }
    });
}

fn write_request(fields: &mut Fields<'_>, facts: &DecisionFacts<'_>, redactor: &Redactor<'_>) {
    let (request, beside) = (facts.request, &facts.beside);
    fields.text(20, beside.caller);
    entity(fields, 21, &request.principal);
    fields.text(22, &request.action);
    entity(fields, 23, &request.resource);
    attributes(fields, 24, &request.context, redactor.below("context"));
    for description in &request.entities {
        described(fields, 25, description, redactor);
    }
    entities(fields, 26, beside.on_behalf_of);
    fields.flag(27, beside.mode == Mode::Check);
    fields.text(28, beside.request_id.unwrap_or_default());
    fields.text(29, beside.justification.unwrap_or_default());
    for (name, value) in beside.labels {
        fields.message(30, |entry| {
            entry.text(1, name);
            entry.text(2, value);
        });
    }
    if let Some(trace) = &beside.trace {
        fields.bytes(31, &trace.trace_id);
    }
    fields.flag(32, beside.is_chain_verified);
}
