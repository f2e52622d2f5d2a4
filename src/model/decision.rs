//! What a policy set says of a request, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{EntityRef, Rule};

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The action may be done now.
    Allow,
    /// The action must not be done.
    Deny,
    /// The action must not be done unless humans approve it first.
    RequireApproval,
}

/// What a policy does when it is satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// Permits the request.
    Permit,
    /// Forbids the request.
    Forbid,
    /// Forbids the request until its approval rule is fulfilled.
    Gate,
}

/// A decision with what belongs to it alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A permit is satisfied, no forbid and no gate is.
    Allow,
    /// Gates are satisfied; every requirement must be fulfilled. Sorted by rule, never empty.
    RequireApproval(Vec<Requirement>),
    /// The request is denied.
    Deny(DenyReason),
}

impl Outcome {
    /// The answer without its reasons.
    pub fn decision(&self) -> Decision {
        match self {
            Self::Allow => Decision::Allow,
            Self::RequireApproval(_) => Decision::RequireApproval,
            Self::Deny(_) => Decision::Deny,
        }
    }
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq)]
pub enum DenyReason {
    /// A forbid that is not a gate is satisfied.
    Forbidden,
    /// No permit is satisfied, so approval could not help.
    NoPermit,
    /// A forbid or a gate could not be evaluated, so what it forbids is unknown.
    PolicyError,
    /// These entities are neither stored nor described, and the policies may look at them.
    EntityMissing(Vec<EntityRef>),
}

/// One rule that must be fulfilled, and the gates that ask for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    /// What it takes.
    pub rule: Arc<Rule>,
    /// The `@id` of each satisfied gate that refers to the rule, sorted.
    pub gates: Vec<String>,
}

/// A policy that a decision rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct DeterminingPolicy {
    /// The policy's `@id`.
    pub id: String,
    /// What the policy does.
    pub effect: Effect,
    /// Its annotations but `@id`.
    pub annotations: Arc<BTreeMap<String, String>>,
}

/// A policy that could not be evaluated for a request.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFault {
    /// The policy's `@id`.
    pub id: String,
    /// What the policy does.
    pub effect: Effect,
    /// What went wrong, in Cedar's words.
    pub message: String,
}

/// The whole answer of a policy set to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The decision.
    pub outcome: Outcome,
    /// The policies it rests on, sorted by id.
    pub determining: Vec<DeterminingPolicy>,
    /// The policies that could not be evaluated, sorted by id.
    pub errors: Vec<PolicyFault>,
    /// Whether an applicable policy read the server's clock.
    pub read_clock: bool,
}

impl Decided {
    /// Whether the same request always gets this answer from the same policy set.
    ///
    /// An answer that met an error or read the clock is not kept, whatever it says.
    pub fn is_cacheable(&self) -> bool {
        self.errors.is_empty() && !self.read_clock
    }
}

/// How a policy turned out for a request.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyOutcome {
    /// Scope and conditions hold.
    Satisfied,
    /// The scope holds; this condition, as written, does not.
    NotSatisfied {
        /// The first condition that is false.
        condition: String,
    },
    /// A condition could not be evaluated.
    Error {
        /// The condition, as written.
        condition: String,
        /// What went wrong.
        message: String,
    },
}

/// How one applicable policy turned out.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyVerdict {
    /// The policy's `@id`.
    pub id: String,
    /// What the policy does.
    pub effect: Effect,
    /// How it turned out.
    pub outcome: PolicyOutcome,
    /// Its annotations but `@id`.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// The approval rule, when it is a gate.
    pub rule: Option<String>,
    /// Where it stands, `file:line`.
    pub location: String,
}

/// A permit that would have applied but for one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct NearMiss {
    /// The policy's `@id`.
    pub id: String,
    /// The part of the scope or the condition that does not fit, as written.
    pub failed: String,
    /// The same, as a sentence.
    pub explanation: String,
    /// Where it stands, `file:line`.
    pub location: String,
}

/// A decision taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The decision.
    pub decided: Decided,
    /// Every policy whose scope fits the request, sorted by id.
    pub policies: Vec<PolicyVerdict>,
    /// For a denial without a permit: the permits that came nearest, best first.
    pub nearest_permits: Vec<NearMiss>,
    /// The context attributes that can change this action's decisions.
    pub relevant_context: Vec<String>,
}
