//! From what each policy says to one decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Decided, DenyReason, DeterminingPolicy, Effect, EntityRef, Outcome, PolicyFault, Posture,
    Requirement, Rule,
};

use super::policies::CompiledPolicy;

/// What the policies say of one request, by position in the snapshot's list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// The satisfied policies, ascending.
    pub(super) satisfied: Vec<u32>,
    /// The policies that could not be evaluated, ascending, with what went wrong.
    pub(super) errors: Vec<(u32, String)>,
}

/// The decision that `findings` come to.
///
/// In this order: a satisfied forbid denies; in strict posture a forbid that errs denies; without a satisfied permit nobody is asked;
/// in strict posture a gate that errs denies; satisfied gates require approval; what is left is allowed. An erring permit only
/// grants nothing.
pub(super) fn decide(
    policies: &[CompiledPolicy],
    findings: Findings,
    posture: Posture,
    read_clock: bool,
) -> Decided {
    let satisfied: Vec<&CompiledPolicy> = findings
        .satisfied
        .iter()
        .filter_map(|at| at_position(policies, *at))
        .collect();
    let errors: Vec<PolicyFault> = findings
        .errors
        .into_iter()
        .filter_map(|(at, message)| {
            at_position(policies, at).map(|policy| PolicyFault {
                id: policy.id.clone(),
                effect: policy.effect,
                message,
            })
        })
        .collect();
    let is_satisfied = |effect| satisfied.iter().any(|policy| policy.effect == effect);
    let errs =
        |effect| posture == Posture::Strict && errors.iter().any(|error| error.effect == effect);

    let (outcome, determined_by) = if is_satisfied(Effect::Forbid) {
        (Outcome::Deny(DenyReason::Forbidden), Some(Effect::Forbid))
    } else if errs(Effect::Forbid) {
        (Outcome::Deny(DenyReason::PolicyError), None)
    } else if !is_satisfied(Effect::Permit) {
        (Outcome::Deny(DenyReason::NoPermit), None)
    } else if errs(Effect::Gate) {
        (Outcome::Deny(DenyReason::PolicyError), None)
    } else if is_satisfied(Effect::Gate) {
        (
            Outcome::RequireApproval(requirements(&satisfied)),
            Some(Effect::Gate),
        )
    } else {
        (Outcome::Allow, Some(Effect::Permit))
    };
    Decided {
        outcome,
        determining: determining(&satisfied, determined_by),
        errors,
        read_clock,
    }
}

/// The decision when entities are missing: nothing is evaluated.
pub(super) fn missing(entities: Vec<EntityRef>, read_clock: bool) -> Decided {
    Decided {
        outcome: Outcome::Deny(DenyReason::EntityMissing(entities)),
        determining: Vec::new(),
        errors: Vec::new(),
        read_clock,
    }
}

pub(super) fn at_position(policies: &[CompiledPolicy], position: u32) -> Option<&CompiledPolicy> {
    policies.get(usize::try_from(position).ok()?)
}

/// The policies are sorted by id, so what is taken from them in order is too.
fn determining(satisfied: &[&CompiledPolicy], effect: Option<Effect>) -> Vec<DeterminingPolicy> {
    satisfied
        .iter()
        .filter(|policy| Some(policy.effect) == effect)
        .map(|policy| DeterminingPolicy {
            id: policy.id.clone(),
            effect: policy.effect,
            annotations: Arc::clone(&policy.annotations),
        })
        .collect()
}

/// The union of the satisfied gates' rules: every one must be fulfilled.
fn requirements(satisfied: &[&CompiledPolicy]) -> Vec<Requirement> {
    let mut by_rule: BTreeMap<&str, (Arc<Rule>, Vec<String>)> = BTreeMap::new();
    for policy in satisfied {
        if let (Effect::Gate, Some(rule)) = (policy.effect, &policy.rule) {
            let (_, gates) = by_rule
                .entry(&rule.name)
                .or_insert_with(|| (Arc::clone(rule), Vec::new()));
            gates.push(policy.id.clone());
        }
    }
    by_rule
        .into_values()
        .map(|(rule, gates)| Requirement { rule, gates })
        .collect()
}
