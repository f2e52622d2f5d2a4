//! What Authorize answers.

use countersign::grpc::proto::batch_authorize_result::Result as BatchItem;
use countersign::grpc::proto::{
    AuthorizeRequest, AuthorizeResponse, Decision, DenyReason, Effect, EntityRef, Mode,
};
use prost_types::Duration;
use tonic::Code;

use crate::folder::Folder;
use crate::harness::{Pdp, Refusal, wait_until};
use crate::requests::{
    Change, agent_deployment, ask, determining, flag, number, role_grant, rules, script,
    small_start, text,
};

/// A forbid whose arithmetic overflows for every number of instances but 0 and 1.
const OVERFLOW: &str = r#"@id("overflows")
forbid (principal, action == Action::"StartInstances", resource)
when { context.count * 9223372036854775807 < 0 };
"#;

/// The same answer but for the id of the decision.
fn without_id(response: AuthorizeResponse) -> AuthorizeResponse {
    AuthorizeResponse {
        decision_id: String::new(),
        ..response
    }
}

#[test]
fn a_permitted_request_is_allowed() {
    let pdp = Pdp::sample();
    let answer = pdp.authorize(small_start()).unwrap();
    assert_eq!(answer.decision(), Decision::Allow);
    assert_eq!(answer.deny_reason(), DenyReason::Unspecified);
    assert_eq!(determining(&answer), ["capacity-agents-start-instances"]);
    assert_eq!(answer.determining[0].effect(), Effect::Permit);
    assert!(answer.determining[0].annotations["description"].contains("capacity team"));
    assert_eq!(answer.approval, None);
    assert!(answer.cacheable);
    assert_eq!(answer.policy_version, pdp.version());
}

#[test]
fn a_forbidden_request_is_denied_by_the_forbid() {
    let pdp = Pdp::sample();
    let answer = pdp
        .authorize(script().context("reviewed", flag(false)))
        .unwrap();
    assert_eq!(
        (answer.decision(), answer.deny_reason()),
        (Decision::Deny, DenyReason::Forbidden)
    );
    assert_eq!(determining(&answer), ["unreviewed-scripts-never-run"]);
    assert_eq!(answer.determining[0].effect(), Effect::Forbid);
}

#[test]
fn without_a_permit_nobody_is_asked() {
    let pdp = Pdp::sample();
    let mut request = agent_deployment();
    request.principal.as_mut().unwrap().id = "ops-bot".to_owned();
    let answer = pdp.authorize(request).unwrap();
    assert_eq!(
        (answer.decision(), answer.deny_reason()),
        (Decision::Deny, DenyReason::NoPermit)
    );
    assert_eq!((determining(&answer), &answer.approval), (vec![], &None));
}

#[test]
fn a_forbid_that_cannot_be_evaluated_denies() {
    let folder = Folder::sample();
    folder.write("overflow.cedar", OVERFLOW);
    // The sample's own cases start more than one instance.
    std::fs::remove_dir_all(folder.path().join("tests")).unwrap();
    let pdp = Pdp::start(folder);
    let answer = pdp.authorize(small_start()).unwrap();
    assert_eq!(
        (answer.decision(), answer.deny_reason()),
        (Decision::Deny, DenyReason::PolicyError)
    );
    assert_eq!(answer.errors[0].policy_id, "overflows");
    assert_eq!(answer.errors[0].effect(), Effect::Forbid);
    assert!(
        answer.errors[0].message.contains("overflow"),
        "{}",
        answer.errors[0].message
    );
    assert!(!answer.cacheable);
}

#[test]
fn an_entity_that_nobody_described_denies() {
    let pdp = Pdp::sample();
    let mut request = role_grant();
    request.resource.as_mut().unwrap().attributes = None;
    let answer = pdp.authorize(request).unwrap();
    assert_eq!(
        (answer.decision(), answer.deny_reason()),
        (Decision::Deny, DenyReason::EntityMissing)
    );
    let missing = EntityRef {
        r#type: "RoleAssignment".to_owned(),
        id: "lee-reads-logs".to_owned(),
    };
    assert_eq!(answer.missing_entities, [missing]);
}

#[test]
fn a_gate_requires_approval_by_its_rule() {
    let pdp = Pdp::sample();
    let answer = pdp.authorize(agent_deployment()).unwrap();
    assert_eq!(answer.decision(), Decision::RequireApproval);
    assert_eq!(answer.deny_reason(), DenyReason::Unspecified);
    assert_eq!(determining(&answer), ["prod-deploy-is-reviewed"]);
    assert_eq!(answer.determining[0].effect(), Effect::Gate);
    assert!(!answer.cacheable);
    let approval = answer.approval.unwrap();
    assert_eq!(approval.id, "", "this server keeps no approvals");
    let [rule] = approval.requirements.as_slice() else {
        panic!("{approval:?}")
    };
    assert_eq!(
        (rule.rule.as_str(), rule.title.as_str()),
        ("prod-deploy", "Production deployment by an agent")
    );
    assert_eq!((rule.approvals, rule.slots.len()), (2, 0));
    assert_eq!(
        rule.expires_after,
        Some(Duration {
            seconds: 30 * 60,
            nanos: 0
        })
    );
    assert_eq!(
        rule.redeem_within,
        Some(Duration {
            seconds: 10 * 60,
            nanos: 0
        })
    );
    assert_eq!(rule.require, ["justification"]);
    assert_eq!(rule.gates, ["prod-deploy-is-reviewed"]);
}

#[test]
fn several_gates_require_the_union_of_their_rules() {
    let pdp = Pdp::sample();
    let answer = pdp
        .authorize(agent_deployment().context("migration", flag(true)))
        .unwrap();
    assert_eq!(answer.decision(), Decision::RequireApproval);
    assert_eq!(rules(&answer), ["change-board", "prod-deploy"]);
    assert_eq!(
        determining(&answer),
        [
            "migrations-need-the-change-board",
            "prod-deploy-is-reviewed"
        ]
    );
}

#[test]
fn a_rule_with_seats_names_them() {
    let pdp = Pdp::sample();
    let request = ask(&serde_json::json!({
        "principal": { "type": "Pipeline", "id": "model-release" },
        "action": "ReleaseModel",
        "resource": { "type": "Model", "id": "fraud-score" },
        "context": { "version": "2026-11-20", "traffic_percent": 100, "signed": true },
    }));
    let answer = pdp.authorize(request).unwrap();
    let requirement = &answer.approval.unwrap().requirements[0];
    let slots: Vec<(&str, u32)> = requirement
        .slots
        .iter()
        .map(|(slot, count)| (slot.as_str(), *count))
        .collect();
    assert_eq!(slots, [("ml", 1), ("operations", 1)]);
    assert_eq!(requirement.approvals, 2);
}

#[test]
fn a_dry_run_gets_the_same_decisions() {
    let pdp = Pdp::sample();
    for request in [
        small_start(),
        agent_deployment(),
        script().context("reviewed", flag(false)),
    ] {
        let enforced = pdp.authorize(request.clone()).unwrap();
        let checked = pdp
            .authorize(AuthorizeRequest {
                mode: Mode::Check.into(),
                ..request
            })
            .unwrap();
        assert_eq!(without_id(checked), without_id(enforced));
    }
}

#[test]
fn an_approval_cannot_be_redeemed_here_and_never_allows() {
    let pdp = Pdp::sample();
    for request in [small_start(), agent_deployment()] {
        let request = AuthorizeRequest {
            approval_id: "a-1".to_owned(),
            ..request
        };
        let refusal = pdp.authorize(request.clone()).unwrap_err();
        assert_eq!(refusal.code, Code::Unimplemented);
        assert_eq!(
            (refusal.reason.as_str(), refusal.domain.as_str()),
            ("APPROVALS_NOT_AVAILABLE", "countersign.v1")
        );
        let explained: Refusal = pdp.explain(request.clone()).unwrap_err();
        assert_eq!(
            explained.code,
            Code::InvalidArgument,
            "Explain has no side effects, and redeeming is one"
        );
        let BatchItem::Error(error) = pdp.batch(vec![request]).unwrap().remove(0) else {
            panic!("a batch redeemed it")
        };
        assert_eq!(Code::from_i32(error.code), Code::Unimplemented);
    }
}

#[test]
fn a_caller_may_name_the_version_in_force_or_one_before_it() {
    let pdp = Pdp::sample();
    let first = pdp.version();
    pdp.folder
        .write("more.cedar", "// Another version, the same decisions.\n");
    wait_until("the new version is in force", || pdp.version() != first);
    for version in [first, pdp.version()] {
        let request = AuthorizeRequest {
            min_policy_version: version,
            ..small_start()
        };
        assert_eq!(pdp.authorize(request).unwrap().decision(), Decision::Allow);
    }
}

#[test]
fn a_version_that_was_never_in_force_is_not_decided_with() {
    let pdp = Pdp::sample();
    let request = AuthorizeRequest {
        min_policy_version: "0".repeat(64),
        ..small_start()
    };
    for refusal in [
        pdp.authorize(request.clone()).unwrap_err(),
        pdp.explain(request).unwrap_err(),
    ] {
        assert_eq!(refusal.code, Code::FailedPrecondition);
        assert_eq!(refusal.reason, "POLICY_VERSION_NOT_REACHED");
        assert!(
            refusal.message.contains(&"0".repeat(64)),
            "{}",
            refusal.message
        );
    }
}

#[test]
fn what_no_policy_reads_changes_nothing() {
    let pdp = Pdp::sample();
    let plain = without_id(pdp.authorize(agent_deployment()).unwrap());
    let mut request = agent_deployment().context("version", text("2.4.1"));
    request.justification = "Please.".to_owned();
    request.request_id = "r-1".to_owned();
    request
        .labels
        .insert("ticket".to_owned(), "OPS-1".to_owned());
    request.on_behalf_of.push(EntityRef {
        r#type: "User".to_owned(),
        id: "sofia".to_owned(),
    });
    assert_eq!(without_id(pdp.authorize(request).unwrap()), plain);
}

#[test]
fn the_same_request_gets_the_same_answer_with_an_id_of_its_own() {
    let pdp = Pdp::sample();
    let answers: Vec<AuthorizeResponse> =
        (0..3).map(|_| pdp.authorize(script()).unwrap()).collect();
    let ids: Vec<&str> = answers
        .iter()
        .map(|answer| answer.decision_id.as_str())
        .collect();
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids.iter().all(|id| id.len() == 36),
        "{ids:?}"
    );
    assert_eq!(
        without_id(answers[0].clone()),
        without_id(answers[1].clone())
    );
    assert_eq!(
        without_id(answers[0].clone()),
        without_id(answers[2].clone())
    );
}

#[test]
fn a_value_on_either_side_of_a_limit_is_told_apart_in_the_cache() {
    let pdp = Pdp::sample();
    for _ in 0..2 {
        for (count, decision) in [(8.0, Decision::Allow), (9.0, Decision::RequireApproval)] {
            let answer = pdp
                .authorize(small_start().context("count", number(count)))
                .unwrap();
            assert_eq!(answer.decision(), decision, "{count}");
        }
    }
}

#[test]
fn reviewing_is_no_action_of_callers() {
    let pdp = Pdp::sample();
    for action in ["Countersign::Action::\"Approve\"", "Approve"] {
        let mut request = small_start();
        request.action = action.to_owned();
        let refusal = pdp.authorize(request).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.field.as_str()),
            (Code::InvalidArgument, "action")
        );
        assert!(
            refusal.message.contains("reserved"),
            "{action}: {}",
            refusal.message
        );
    }
}
