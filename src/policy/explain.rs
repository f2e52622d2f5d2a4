//! Takes a decision apart: what each applicable policy said, and for a denial without a permit what came nearest.
//!
//! Not for the hot path: it looks at every permit.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    DenyReason, Effect, Explanation, NearMiss, Outcome, PolicyOutcome, PolicyVerdict, Request,
    RequestProblem,
};

use super::cedar::{EntityUIDEntry, Evaluator, Expr, ExprKind, Extensions, SlotEnv};
use super::engine::{Engine, holds};
use super::index::{Side, action_fits, fits, side_fits};
use super::policies::{CompiledPolicy, Scope};
use super::prepare::Prepared;
use super::snapshot::{PlanParts, Snapshot, find};

const MAX_NEAR_MISSES: usize = 5;

/// Explains how `snapshot` decides `request`.
///
/// # Errors
/// What the caller got wrong, with the field.
pub fn explain(
    snapshot: &Arc<Snapshot>,
    request: Request,
    now: Timestamp,
) -> Result<Explanation, RequestProblem> {
    let prepared = snapshot.prepare(request)?;
    let plan = snapshot.plan(&prepared, now)?;
    let decided = plan.decide(Engine::Index);
    let parts = snapshot.parts(&prepared, now)?;
    let examiner = Examiner::new(snapshot, &prepared, &parts);
    let policies = snapshot
        .policies
        .iter()
        .filter(|policy| examiner.scope_fits(policy))
        .map(|policy| examiner.verdict(policy))
        .collect();
    let nearest_permits = match decided.outcome {
        Outcome::Deny(DenyReason::NoPermit) => examiner.nearest_permits(),
        Outcome::Deny(
            DenyReason::Forbidden | DenyReason::PolicyError | DenyReason::EntityMissing(_),
        )
        | Outcome::Allow
        | Outcome::RequireApproval(_) => Vec::new(),
    };
    let footprint = &prepared.action.footprint;
    Ok(Explanation {
        decided,
        policies,
        nearest_permits,
        relevant_context: footprint.context.iter().cloned().collect(),
    })
}

/// Evaluates single conditions of policies for one request.
struct Examiner<'e> {
    snapshot: &'e Snapshot,
    prepared: &'e Prepared,
    parts: &'e PlanParts,
    evaluator: Evaluator<'e>,
}

impl<'e> Examiner<'e> {
    fn new(snapshot: &'e Snapshot, prepared: &'e Prepared, parts: &'e PlanParts) -> Self {
        Self {
            snapshot,
            prepared,
            parts,
            evaluator: Evaluator::new(
                parts.request.clone(),
                &parts.entities,
                Extensions::all_available(),
            ),
        }
    }

    /// Not asked of the index, which leaves out policies whose scope fits and whose condition cannot hold.
    fn scope_fits(&self, policy: &CompiledPolicy) -> bool {
        let side = |uid: &'e EntityUIDEntry| {
            let uid = uid.uid()?;
            let entity = find(&self.parts.entities, uid);
            Some(Side { uid, entity })
        };
        let sides = (
            side(self.parts.request.principal()),
            side(self.parts.request.resource()),
        );
        match sides {
            (Some(principal), Some(resource)) => {
                fits(policy, principal, &self.prepared.action.entity, resource)
            }
            // Requests are built with both.
            (None, _) | (_, None) => false,
        }
    }

    fn verdict(&self, policy: &CompiledPolicy) -> PolicyVerdict {
        PolicyVerdict {
            id: policy.id.clone(),
            effect: policy.effect,
            outcome: self.outcome(policy),
            annotations: Arc::clone(&policy.annotations),
            rule: policy.rule.as_ref().map(|rule| rule.name.clone()),
            location: policy.location(),
        }
    }

    /// Evaluates the parts of the condition one after the other, as Cedar does.
    fn outcome(&self, policy: &CompiledPolicy) -> PolicyOutcome {
        let mut conjuncts = Vec::new();
        if let Some(condition) = &policy.condition {
            flatten(condition, &mut conjuncts);
        }
        for conjunct in conjuncts {
            match holds(&self.evaluator, conjunct, &SlotEnv::new()) {
                Ok(true) => {}
                Ok(false) => {
                    return PolicyOutcome::NotSatisfied {
                        condition: source_of(conjunct),
                    };
                }
                Err(message) => {
                    return PolicyOutcome::Error {
                        condition: source_of(conjunct),
                        message,
                    };
                }
            }
        }
        PolicyOutcome::Satisfied
    }

    /// The permits for this action that fail in the fewest parts.
    fn nearest_permits(&self) -> Vec<NearMiss> {
        let mut near: Vec<(usize, NearMiss)> = self
            .snapshot
            .policies
            .iter()
            .filter(|policy| {
                policy.effect == Effect::Permit
                    && action_fits(&policy.action, &self.prepared.action.entity)
            })
            .filter_map(|policy| self.near_miss(policy))
            .collect();
        near.sort_by(|left, right| (left.0, &left.1.id).cmp(&(right.0, &right.1.id)));
        near.into_iter()
            .take(MAX_NEAR_MISSES)
            .map(|(_, miss)| miss)
            .collect()
    }

    fn near_miss(&self, policy: &CompiledPolicy) -> Option<(usize, NearMiss)> {
        let mut failed: Vec<String> = Vec::new();
        let mut sentences: Vec<String> = Vec::new();
        for (name, scope, uid) in [
            (
                "principal",
                &policy.principal,
                self.parts.request.principal(),
            ),
            ("resource", &policy.resource, self.parts.request.resource()),
        ] {
            let uid = uid.uid()?;
            let entity = find(&self.parts.entities, uid);
            if !side_fits(scope, Side { uid, entity }) {
                let constraint = describe_scope(name, scope);
                sentences.push(format!(
                    "the {name} is `{uid}`, and the permit is for `{constraint}`"
                ));
                failed.push(constraint);
            }
        }
        let scope_failures = failed.len();
        let condition_fails = match self.outcome(policy) {
            PolicyOutcome::Satisfied => false,
            PolicyOutcome::NotSatisfied { condition } => {
                sentences.push(format!("the condition `{condition}` does not hold"));
                failed.push(condition);
                true
            }
            PolicyOutcome::Error { condition, message } => {
                sentences.push(format!(
                    "the condition `{condition}` cannot be evaluated: {message}"
                ));
                failed.push(condition);
                true
            }
        };
        let score = scope_failures
            .saturating_mul(2)
            .saturating_add(usize::from(condition_fails));
        let miss = NearMiss {
            id: policy.id.clone(),
            failed: failed.first()?.clone(),
            explanation: sentences.join("; "),
            location: policy.location(),
        };
        Some((score, miss))
    }
}

fn describe_scope(name: &str, scope: &Scope) -> String {
    match scope {
        Scope::Any => name.to_owned(),
        Scope::Eq(uid) => format!("{name} == {uid}"),
        Scope::In(uid) => format!("{name} in {uid}"),
        Scope::Is(entity_type) => format!("{name} is {entity_type}"),
        Scope::IsIn(entity_type, uid) => format!("{name} is {entity_type} in {uid}"),
    }
}

fn flatten<'e>(expr: &'e Expr, conjuncts: &mut Vec<&'e Expr>) {
    if let ExprKind::And { left, right } = expr.expr_kind() {
        flatten(left, conjuncts);
        flatten(right, conjuncts);
    } else {
        conjuncts.push(expr);
    }
}

/// The condition as its author wrote it.
fn source_of(expr: &Expr) -> String {
    expr.source_loc().and_then(|loc| loc.snippet()).map_or_else(
        || expr.to_string(),
        |snippet| snippet.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}
