//! Whether the policies let a reviewer approve a request.
//!
//! It is the built-in action `Countersign::Action::"Approve"`, asked with the reviewer as principal and the request's own resource.
//! INVARIANT (named): a permit counts only if its scope names that action, so `permit (principal, action, resource)` makes nobody a
//! reviewer. Forbids and gates count however they are written.
//! Never: the floors under the policies; those are in `closure`.

use jiff::Timestamp;

use crate::model::{Effect, EntityRef, Record, Request, RequestProblem, Seat, Value};

use super::APPROVE_ACTION;
use super::cedar::EntityUID;
use super::convert::{from_uid, to_uid};
use super::engine::Engine;
use super::outcome::{Findings, at_position};
use super::policies::CompiledPolicy;
use super::prepare::{Door, prepare};
use super::snapshot::{PlanParts, Snapshot};

/// Asks whether `reviewer` may take `seat` in the approval of `asked`.
#[derive(Clone, Copy, Debug)]
pub struct ApproveQuestion<'a> {
    /// The request that waits.
    pub asked: &'a Request,
    /// Who would approve it.
    pub reviewer: &'a EntityRef,
    /// The seat to be filled.
    pub seat: &'a Seat,
    /// Whether the approval has been escalated, so that more people may approve it.
    pub is_escalated: bool,
    /// The present time, for policies that read it.
    pub now: Timestamp,
}

/// What the policies say of a reviewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// The reviewer may approve.
    Eligible {
        /// The ids of the permits that say so, sorted.
        policies: Vec<String>,
    },
    /// The reviewer may not.
    NotEligible {
        /// Why.
        why: NotEligible,
    },
}

/// Why a reviewer may not approve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEligible {
    /// The reviewer's type is not among those of people.
    #[error("only people may approve, and the reviewer is not one")]
    NotAPerson,
    /// The reviewer's type is not in the schema, or nobody stored the reviewer; what a request describes does not count.
    #[error("the reviewer is not known here")]
    UnknownReviewer,
    /// No permit that names the action is satisfied.
    #[error("no policy lets the reviewer approve this")]
    NoPolicy,
    /// A forbid or gate is satisfied.
    #[error("the reviewer may not approve this because of {}", list(policies))]
    Forbidden {
        /// The ids of the forbids and gates, sorted.
        policies: Vec<String>,
    },
    /// A policy or the question itself cannot be read.
    #[error("it cannot be told whether the reviewer may approve this: {message}")]
    Error {
        /// What went wrong.
        message: String,
    },
}

fn list(policies: &[String]) -> String {
    format!("`{}`", policies.join("`, `"))
}

impl From<RequestProblem> for NotEligible {
    fn from(problem: RequestProblem) -> Self {
        Self::Error {
            message: problem.to_string(),
        }
    }
}

impl Snapshot {
    /// Says whether the policies let the reviewer approve. In doubt they do not, whatever the posture.
    ///
    /// An escalation only adds reviewers: who may approve before it may approve after it.
    /// Who is behind the request is not looked at here: see [`Snapshot::requester_closure`].
    pub fn eligibility(&self, question: &ApproveQuestion<'_>) -> Eligibility {
        self.eligibility_by(question, Engine::Index)
    }

    /// The same, by the evaluation of one's choice.
    pub fn eligibility_by(&self, question: &ApproveQuestion<'_>, engine: Engine) -> Eligibility {
        let before = ApproveQuestion {
            is_escalated: false,
            ..*question
        };
        let answer = self.ask(&before, engine);
        let answer = if answer.is_err() && question.is_escalated {
            self.ask(question, engine)
        } else {
            answer
        };
        match answer {
            Ok(policies) => Eligibility::Eligible { policies },
            Err(why) => Eligibility::NotEligible { why },
        }
    }

    fn ask(
        &self,
        question: &ApproveQuestion<'_>,
        engine: Engine,
    ) -> Result<Vec<String>, NotEligible> {
        let reviewer = self.check_reviewer(question)?;
        let prepared = prepare(self, self.approve_request(question)?, Door::Engine)?;
        let parts = self.parts(&prepared, question.now)?;
        check_missing(&parts, &reviewer)?;
        let findings = self.findings(&parts, engine);
        judge(&self.policies, &findings, &prepared.action.uid)
    }

    /// The reviewer must be a person whom the store knows. A request that describes the reviewer, or a group that the reviewer is in,
    /// would choose its own approvers.
    fn check_reviewer(&self, question: &ApproveQuestion<'_>) -> Result<EntityUID, NotEligible> {
        let reviewer = question.reviewer;
        if !self.persons.are_people(&reviewer.type_name) {
            return Err(NotEligible::NotAPerson);
        }
        let can_exist = !reviewer.id.is_empty() && self.types.check_reference(reviewer).is_ok();
        let uid = to_uid(reviewer, &self.types)
            .filter(|_| can_exist)
            .ok_or(NotEligible::UnknownReviewer)?;
        let Some(stored) = self.store.get(&uid) else {
            let is_bare = self.types.is_bare(&reviewer.type_name);
            return is_bare.then_some(uid).ok_or(NotEligible::UnknownReviewer);
        };
        let is_shaped_by_request = question.asked.entities.iter().any(|description| {
            to_uid(&description.uid, &self.types)
                .is_some_and(|described| described == uid || stored.is_descendant_of(&described))
        });
        if is_shaped_by_request {
            return Err(NotEligible::UnknownReviewer);
        }
        Ok(uid)
    }

    fn approve_request(&self, question: &ApproveQuestion<'_>) -> Result<Request, RequestProblem> {
        let asked = question.asked;
        // By one name, however the caller wrote it: policies compare it.
        let action = self.actions.find(&asked.action, &self.store)?;
        let chain = asked.on_behalf_of.iter().map(as_record).collect();
        let text = |text: &str| Value::String(text.to_owned());
        let context: Record = [
            ("rule", text(&question.seat.rule)),
            ("slot", text(&question.seat.slot)),
            ("action", text(&action.id)),
            ("requester", as_record(&asked.principal)),
            ("on_behalf_of", Value::Set(chain)),
            ("escalated", Value::Bool(question.is_escalated)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect();
        Ok(Request {
            entities: asked.entities.clone(),
            ..Request::new(
                question.reviewer.clone(),
                APPROVE_ACTION,
                asked.resource.clone(),
                context,
            )
        })
    }
}

fn as_record(uid: &EntityRef) -> Value {
    let fields = [("type", &uid.type_name), ("id", &uid.id)];
    let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text.clone())));
    Value::Record(fields.into_iter().collect())
}

fn check_missing(parts: &PlanParts, reviewer: &EntityUID) -> Result<(), NotEligible> {
    if parts.missing.is_empty() {
        return Ok(());
    }
    if parts.missing.contains(&from_uid(reviewer)) {
        return Err(NotEligible::UnknownReviewer);
    }
    let missing: Vec<String> = parts.missing.iter().map(ToString::to_string).collect();
    Err(NotEligible::Error {
        message: format!("neither stored nor described: {}", list(&missing)),
    })
}

/// The permits that let the reviewer approve. A permit that does not name the action is out of the question, its errors included.
fn judge(
    policies: &[CompiledPolicy],
    findings: &Findings,
    approve: &EntityUID,
) -> Result<Vec<String>, NotEligible> {
    let (mut permits, mut barring) = (Vec::new(), Vec::new());
    for policy in findings
        .satisfied
        .iter()
        .filter_map(|at| at_position(policies, *at))
    {
        match policy.effect {
            Effect::Permit if policy.action.names(approve) => permits.push(policy.id.clone()),
            Effect::Permit => {}
            Effect::Forbid | Effect::Gate => barring.push(policy.id.clone()),
        }
    }
    if !barring.is_empty() {
        return Err(NotEligible::Forbidden { policies: barring });
    }
    for (at, message) in &findings.errors {
        let counts = |policy: &&CompiledPolicy| {
            policy.effect != Effect::Permit || policy.action.names(approve)
        };
        if let Some(policy) = at_position(policies, *at).filter(counts) {
            let message = format!("`{}`: {message}", policy.id);
            return Err(NotEligible::Error { message });
        }
    }
    if permits.is_empty() {
        return Err(NotEligible::NoPolicy);
    }
    Ok(permits)
}
