//! What follows from the semantics, over random policy sets: above all, that whoever ignores annotations is never laxer than we are.

use std::sync::Arc;

use countersign::model::{Decided, Decision, DenyReason, Outcome, Posture, Request};
use countersign::policy::{Engine, Snapshot};

use crate::random::{Dice, IDS};
use crate::random::{Kind, NEW_ID, PolicySpec, random_entity, random_policies};
use crate::stock::to_entity;
use crate::support::{NOW, words};
use crate::trial::Trial;

/// The sets of each test, and the requests for each set.
const SETS: u64 = 40;
const REQUESTS: usize = 80;

/// Checks each of many random requests against a set that `derive` makes of the trial's.
fn each(
    first_seed: u64,
    derive: impl Fn(&mut Trial) -> Vec<PolicySpec>,
    check: impl Fn(&Case<'_>) -> Result<(), String>,
) {
    for seed in first_seed..first_seed + SETS {
        let mut trial = Trial::new(seed);
        let policies = derive(&mut trial);
        let derived = trial.files_with(&policies).snapshot();
        for _ in 0..REQUESTS {
            let request = trial.request_with_clock();
            let case = Case::new(&trial, &request, &derived);
            if let Err(violation) = check(&case) {
                panic!(
                    "{violation}\nour decision: {}\non the derived set: {}\n{}",
                    words(&case.ours),
                    words(&case.derived),
                    trial.reproduction(&request)
                );
            }
        }
    }
}

/// One request with everybody's answer.
struct Case<'t> {
    trial: &'t Trial,
    ours: Decided,
    /// Our answer on the derived set.
    derived: Decided,
    /// Whether stock Cedar allows on all policies, and on all but the gates.
    whole_allows: bool,
    base_allows: bool,
    /// Whether a forbid or gate could not be evaluated.
    forbids_err: bool,
}

impl<'t> Case<'t> {
    fn new(trial: &'t Trial, request: &Request, derived: &Arc<Snapshot>) -> Self {
        let cedar = trial.stock.request(request).unwrap();
        let entities = trial.stock.entities(request, &[]).unwrap();
        Self {
            trial,
            ours: decide(&trial.snapshot, request),
            derived: decide(derived, request),
            whole_allows: trial.stock.allows("whole", &cedar, &entities),
            base_allows: trial.stock.allows("base", &cedar, &entities),
            forbids_err: trial.stock.sets(&cedar, &entities).forbids_err(),
        }
    }

    /// Whether entities are missing, which only strict posture minds.
    fn is_missing(&self) -> bool {
        [&self.ours, &self.derived]
            .iter()
            .any(|decided| matches!(decided.outcome, Outcome::Deny(DenyReason::EntityMissing(_))))
    }
}

fn decide(snapshot: &Arc<Snapshot>, request: &Request) -> Decided {
    let prepared = snapshot.prepare(request.clone()).unwrap();
    let plan = snapshot.plan(&prepared, NOW).unwrap();
    plan.decide(Engine::Index)
}

/// `claim`, or what it says.
fn claim(holds: bool, claim: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(claim.to_owned()) }
}

fn same(trial: &mut Trial) -> Vec<PolicySpec> {
    trial.policies.clone()
}

#[test]
fn stock_cedar_denies_wherever_we_require_approval_or_deny_on_the_base() {
    each(10_000, same, |case| {
        let decision = case.ours.outcome.decision();
        claim(
            decision != Decision::RequireApproval || !case.whole_allows,
            "we require approval, and stock Cedar allows",
        )?;
        claim(
            case.base_allows || decision == Decision::Deny,
            "stock Cedar denies without the gates, and we do not",
        )
    });
}

#[test]
fn what_we_allow_stock_cedar_allows_and_conversely_without_errors() {
    each(20_000, same, |case| {
        let allows = case.ours.outcome == Outcome::Allow;
        claim(
            !allows || case.whole_allows,
            "we allow, and stock Cedar does not",
        )?;
        let must_agree =
            case.trial.posture == Posture::Cedar || !(case.forbids_err || case.is_missing());
        claim(
            !must_agree || allows == case.whole_allows,
            "stock Cedar allows, no forbid errs, and we do not allow",
        )
    });
}

#[test]
fn a_permit_for_everything_bypasses_no_gate_and_no_forbid() {
    let permit_all = |trial: &mut Trial| {
        let mut policies = trial.policies.clone();
        policies.push(PolicySpec {
            id: "zz-all".to_owned(),
            kind: Kind::Permit,
            rule: "",
            body: "permit (principal, action, resource);".to_owned(),
            links: Vec::new(),
        });
        policies
    };
    each(30_000, permit_all, |case| {
        let is_settled = match &case.ours.outcome {
            Outcome::RequireApproval(_)
            | Outcome::Allow
            | Outcome::Deny(
                DenyReason::Forbidden | DenyReason::PolicyError | DenyReason::EntityMissing(_),
            ) => true,
            Outcome::Deny(DenyReason::NoPermit) => false,
        };
        claim(
            !is_settled || case.ours.outcome == case.derived.outcome,
            "one more permit changes the outcome",
        )
    });
}

#[test]
fn no_permit_lifts_a_forbid() {
    let more_permits = |trial: &mut Trial| {
        let mut permits = random_policies(
            &mut Dice::new(trial.seed),
            &trial.schema,
            20,
            !trial.is_validated(),
        );
        permits.retain(|policy| policy.kind == Kind::Permit);
        for permit in &mut permits {
            permit.rename("more-");
        }
        trial.compiling(trial.policies.iter().cloned().chain(permits).collect())
    };
    each(40_000, more_permits, |case| {
        let is_forbidden = case.ours.outcome == Outcome::Deny(DenyReason::Forbidden);
        claim(
            !is_forbidden || case.derived.outcome.decision() == Decision::Deny,
            "more permits lift a forbid",
        )
    });
}

#[test]
fn a_set_without_gates_decides_as_cedar_does() {
    let without_gates = |trial: &mut Trial| {
        let mut policies = trial.policies.clone();
        policies.retain(|policy| policy.kind != Kind::Gate);
        policies
    };
    each(50_000, without_gates, |case| {
        let allows = case.derived.outcome == Outcome::Allow;
        let differs_by_design = matches!(
            case.derived.outcome,
            Outcome::Deny(DenyReason::PolicyError | DenyReason::EntityMissing(_))
        );
        claim(
            allows == case.base_allows
                || (case.trial.posture == Posture::Strict && differs_by_design),
            "without gates we differ from stock Cedar",
        )
    });
}

#[test]
fn a_deleted_annotation_only_moves_require_approval_to_deny() {
    let without_annotations = |trial: &mut Trial| {
        let mut policies = trial.policies.clone();
        for policy in &mut policies {
            if policy.kind == Kind::Gate {
                policy.kind = Kind::Forbid;
            }
        }
        policies
    };
    each(60_000, without_annotations, |case| {
        let expected = match case.ours.outcome.decision() {
            Decision::Allow => Decision::Allow,
            Decision::Deny | Decision::RequireApproval => Decision::Deny,
        };
        claim(
            case.derived.outcome.decision() == expected,
            "without annotations the decision moves elsewhere",
        )
    });
}

/// Strict posture decides only on what it knows: whatever the entities that are neither stored nor described might be, they could
/// not have changed the decision.
#[test]
fn what_is_nowhere_cannot_change_a_strict_decision() {
    let mut decided_without_missing = 0;
    for seed in 70_000..70_000 + SETS {
        let mut trial = Trial::strict(seed);
        let nowhere = entities_nowhere(&mut trial);
        for _ in 0..REQUESTS {
            let request = trial.request_with_clock();
            let ours = decide(&trial.snapshot, &request);
            if matches!(ours.outcome, Outcome::Deny(DenyReason::EntityMissing(_))) {
                continue;
            }
            decided_without_missing += 1;
            let cedar = trial.stock.request(&request).unwrap();
            let entities = trial.stock.entities(&request, &nowhere).unwrap();
            let sets = trial.stock.sets(&cedar, &entities);
            let expected = trial.stock.words(&sets, Posture::Strict);
            assert!(
                words(&ours) == expected,
                "we say {}\nwith more entities it would be {expected}\nmore entities: {nowhere:#?}\n{}",
                words(&ours),
                trial.reproduction(&request)
            );
        }
    }
    assert!(decided_without_missing > 1_000);
}

/// A random entity for every name that the store does not hold.
fn entities_nowhere(trial: &mut Trial) -> Vec<cedar_policy::Entity> {
    let mut nowhere = Vec::new();
    for position in 0..trial.schema.types.len() {
        let known = &trial.schema.types[position];
        let name = known.name;
        let names = IDS.iter().chain([&NEW_ID]);
        for id in names.filter(|_| !known.is_enumerated) {
            let uid = countersign::model::EntityRef::new(name, *id);
            if trial.store.iter().all(|stored| stored.uid != uid) {
                let entity = random_entity(&mut trial.dice, &trial.schema, position, uid, false);
                nowhere.push(to_entity(&entity));
            }
        }
    }
    nowhere
}
