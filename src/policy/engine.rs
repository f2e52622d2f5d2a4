//! Evaluates policies: the candidates of the index, or all of them with Cedar's own authorizer.

use super::cedar::{
    AuthorizationError, Authorizer, Entities, EntityUIDEntry, Evaluator, Expr, Extensions, Literal,
    PolicySet, Request, SlotEnv, StaticallyTyped, ValueKind,
};
use super::diagnostics::full_message;
use super::outcome::{Findings, at_position};
use super::policies::CompiledPolicy;
use crate::model::Effect;

/// Which evaluation decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The policies that the scope index finds.
    Index,
    /// Every policy, by Cedar's own authorizer: the reference that the index is measured against.
    Full,
}

/// The policy set as Cedar's authorizer takes it: permits and forbids apart from the gates.
///
/// Cedar's answer names only the satisfied forbids when it denies, so one call could not tell "gated" from "not permitted".
#[derive(Debug, Default)]
pub(super) struct Reference {
    base: PolicySet,
    gates: PolicySet,
}

impl Reference {
    /// Splits `policies`. What is added shares Cedar's syntax trees with the snapshot.
    pub(super) fn build(policies: &[CompiledPolicy]) -> Self {
        let mut reference = Self::default();
        for policy in policies {
            let set = match policy.effect {
                Effect::Permit | Effect::Forbid => &mut reference.base,
                Effect::Gate => &mut reference.gates,
            };
            // Ids are unique across the snapshot, so there is room; a set that lacked a policy would show in the shadow runs.
            let added = set.add(policy.cedar.clone());
            debug_assert!(added.is_ok(), "the id of every compiled policy is free");
        }
        reference
    }

    /// What Cedar's authorizer says. When a forbid is satisfied the satisfied permits are not among the findings.
    pub(super) fn evaluate(
        &self,
        policies: &[CompiledPolicy],
        request: &Request,
        entities: &Entities,
    ) -> Findings {
        let authorizer = Authorizer::new();
        let mut findings = Findings::default();
        for set in [&self.base, &self.gates] {
            let response = authorizer.is_authorized(request.clone(), set, entities);
            let reasons = response
                .diagnostics
                .reason
                .iter()
                .filter_map(|id| position(policies, id.as_ref()));
            findings.satisfied.extend(reasons);
            for error in &response.diagnostics.errors {
                let AuthorizationError::PolicyEvaluationError { id, error } = error;
                if let Some(at) = position(policies, id.as_ref()) {
                    findings.errors.push((at, full_message(error)));
                }
            }
        }
        findings.satisfied.sort_unstable();
        findings.errors.sort_unstable();
        findings
    }
}

fn position(policies: &[CompiledPolicy], id: &str) -> Option<u32> {
    let index = policies
        .binary_search_by(|policy| policy.id.as_str().cmp(id))
        .ok()?;
    u32::try_from(index).ok()
}

/// Evaluates the conditions of `candidates`, whose scopes fit.
pub(super) fn evaluate_candidates(
    policies: &[CompiledPolicy],
    candidates: &[u32],
    request: &Request,
    entities: &Entities,
) -> Findings {
    let evaluator = Evaluator::new(request.clone(), entities, Extensions::all_available());
    // Slots stand only in scopes, and the index has resolved those.
    let no_slots = SlotEnv::new();
    let mut findings = Findings::default();
    for at in candidates {
        let Some(policy) = at_position(policies, *at) else {
            continue;
        };
        let verdict = match &policy.condition {
            None => Ok(true),
            Some(condition) => holds(&evaluator, condition, &no_slots),
        };
        match verdict {
            Ok(true) => findings.satisfied.push(*at),
            Ok(false) => {}
            Err(message) => findings.errors.push((*at, message)),
        }
    }
    findings
}

/// Whether `condition` holds.
///
/// # Errors
/// Why it cannot be evaluated, or that it is not a truth value.
pub(super) fn holds(
    evaluator: &Evaluator<'_>,
    condition: &Expr,
    slots: &SlotEnv,
) -> Result<bool, String> {
    let value = evaluator
        .interpret(condition, slots)
        .map_err(|error| full_message(&error))?;
    match value.value_kind() {
        ValueKind::Lit(Literal::Bool(verdict)) => Ok(*verdict),
        ValueKind::Lit(Literal::Long(_) | Literal::String(_) | Literal::EntityUID(_))
        | ValueKind::Set(_)
        | ValueKind::Record(_)
        // In Cedar's words, so that both engines say the same.
        | ValueKind::ExtensionValue(_) => {
            Err(format!("type error: expected bool, got {}", value.type_of()))
        }
    }
}

/// A request in Cedar's form. The schema was checked before.
pub(super) fn unchecked_request(
    principal: super::cedar::EntityUID,
    action: super::cedar::EntityUID,
    resource: super::cedar::EntityUID,
    context: super::cedar::Context,
) -> Request {
    Request::new_unchecked(
        EntityUIDEntry::from(principal),
        EntityUIDEntry::from(action),
        EntityUIDEntry::from(resource),
        Some(context),
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::model::{EntityRef, Record, Request as Asked};
    use crate::policy::{Bundle, BundleFile, CompileOptions, compile};

    use super::*;

    #[test]
    fn both_engines_know_a_policy_by_its_id_as_it_is_written() {
        let text = r#"@id("all") permit (principal, action, resource);
            @id("don't") forbid (principal, action, resource);"#;
        let bundle = Bundle::new([BundleFile {
            path: "a.cedar".to_owned(),
            bytes: text.as_bytes().to_vec(),
        }]);
        let snapshot = compile(&bundle, &CompileOptions::default())
            .snapshot
            .unwrap();
        let user = EntityRef::new("User", "u");
        let request = Asked::new(user.clone(), "Read", user, Record::default());
        let prepared = snapshot.prepare(request).unwrap();
        let plan = snapshot.plan(&prepared, Timestamp::UNIX_EPOCH).unwrap();
        for engine in [Engine::Index, Engine::Full] {
            let ids: Vec<String> = plan
                .decide(engine)
                .determining
                .into_iter()
                .map(|policy| policy.id)
                .collect();
            assert_eq!(ids, ["don't"], "{engine:?}");
        }
    }
}
