//! Policies change between approval and redemption: what counts is what they say when the grant is spent.

use countersign::approval::{Approval, Status};
use countersign::model::{Decision, DenyReason, Outcome, Value};
use serde_json::json;

use crate::request::{deploy, record, uid};
use crate::world::{World, by_caller};

/// Redeems after a change of policies.
async fn redeem(world: &World, approval: &Approval) -> String {
    world.answer(&deploy().redeeming(approval)).await
}

async fn check(change: impl FnOnce(&World), expected: &str) {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    change(&world);
    assert_eq!(redeem(&world, &approval).await, expected);
}

/// The approval ends as superseded for this reason, the answer says so, and people can be asked again.
async fn check_superseded(change: impl FnOnce(&World), standing: &str) {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    change(&world);
    assert_eq!(redeem(&world, &approval).await, "DENY Closed");
    assert_eq!(
        world.standing(&approval).await,
        format!("SUPERSEDED {standing}")
    );
    // It stays so, whatever comes next.
    assert_eq!(redeem(&world, &approval).await, "DENY Closed");
}

fn forbid_all(world: &World) {
    let text = "@id(\"frozen\") forbid (principal, action, resource);\n";
    world.add("frozen.cedar", text);
}

#[tokio::test]
async fn a_new_forbid_denies() {
    check(forbid_all, "DENY beside SUPERSEDED POLICY_NOW_DENIES").await;
}

#[tokio::test]
async fn a_new_forbid_ends_what_is_pending_too() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    forbid_all(&world);
    assert_eq!(
        redeem(&world, &approval).await,
        "DENY beside SUPERSEDED POLICY_NOW_DENIES"
    );
}

#[tokio::test]
async fn a_forbid_that_went_again_brings_no_grant_back() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    forbid_all(&world);
    redeem(&world, &approval).await;
    world.write("frozen.cedar", "");
    world.reload();
    assert_eq!(redeem(&world, &approval).await, "DENY Closed");
}

#[tokio::test]
async fn a_deleted_permit_denies() {
    let change = |world: &World| {
        world.replace(
            "policies.cedar",
            "permit (principal, action in",
            "permit (principal is User, action in",
        );
        world.reload();
    };
    check(change, "DENY beside SUPERSEDED POLICY_NOW_DENIES").await;
}

#[tokio::test]
async fn a_deleted_gate_allows_and_leaves_the_grant() {
    let change = |world: &World| {
        world.replace("policies.cedar", "== \"prod\"", "== \"moon\"");
        world.reload();
    };
    check(change, "ALLOW beside APPROVED").await;
}

#[tokio::test]
async fn a_rule_that_needs_more_persons_supersedes() {
    let change = |world: &World| {
        world.replace("approvals.toml", "approvals     = 2", "approvals     = 3");
        world.reload();
    };
    check_superseded(change, "REQUIREMENT_STRONGER").await;
}

#[tokio::test]
async fn a_rule_that_needs_fewer_persons_allows() {
    let change = |world: &World| {
        world.replace("approvals.toml", "approvals     = 2", "approvals     = 1");
        world.reload();
    };
    check(change, "ALLOW granted by REDEEMED").await;
}

#[tokio::test]
async fn another_gate_with_another_rule_supersedes() {
    let change = |world: &World| {
        world.replace("approvals.toml", "[rule.prod]", "[rule.second]\ntitle = \"Second\"\napprovals = 1\nexpires_after = \"30m\"\nredeem_within = \"10m\"\n\n[rule.prod]");
        let gate = "@id(\"second\") @approval(\"second\") forbid (principal, action == Action::\"Deploy\", resource) when { resource.env == \"prod\" };\n";
        let reviewers = "@id(\"second-approves\") permit (principal in Team::\"sre\", action == Countersign::Action::\"Approve\", resource) when { context.rule == \"second\" };\n";
        world.add("second.cedar", &format!("{gate}{reviewers}"));
    };
    check_superseded(change, "REQUIREMENT_STRONGER").await;
}

/// Another gate that asks for the same rule asks for nothing more.
#[tokio::test]
async fn another_gate_with_the_same_rule_allows() {
    let change = |world: &World| {
        let gate = "@id(\"again\") @approval(\"prod\") forbid (principal, action == Action::\"Deploy\", resource);\n";
        world.add("again.cedar", gate);
    };
    check(change, "ALLOW granted by REDEEMED").await;
}

#[tokio::test]
async fn an_approver_who_left_the_team_does_not_count() {
    check_superseded(|world| world.user("alice", &[], &[]), "APPROVER_INELIGIBLE").await;
}

#[tokio::test]
async fn an_approver_who_is_not_stored_any_more_does_not_count() {
    check_superseded(
        |world| world.forget("User::\"alice\""),
        "APPROVER_INELIGIBLE",
    )
    .await;
}

/// Enough are left without the one who left.
#[tokio::test]
async fn an_approver_who_is_not_needed_may_leave() {
    let change = |world: &World| {
        world.replace("approvals.toml", "approvals     = 2", "approvals     = 1");
        world.user("alice", &[], &[]);
    };
    check(change, "ALLOW granted by REDEEMED").await;
}

#[tokio::test]
async fn an_approver_who_came_to_own_the_agent_does_not_count() {
    let change = |world: &World| {
        let owner = json!({ "owner": { "__entity": { "type": "User", "id": "alice" } } });
        world.entity("Agent::\"bot\"", owner);
    };
    check_superseded(change, "APPROVER_INELIGIBLE").await;
}

#[tokio::test]
async fn an_approver_who_turns_out_to_be_the_owner_does_not_count() {
    let change = |world: &World| world.user("alice", &["olive"], &["sre"]);
    check_superseded(change, "APPROVER_INELIGIBLE").await;
    let change = |world: &World| world.user("olive", &["bob"], &["sre"]);
    check_superseded(change, "APPROVER_INELIGIBLE").await;
}

#[tokio::test]
async fn an_approver_who_turns_out_to_be_in_the_chain_does_not_count() {
    let world = World::new();
    let ask = deploy().for_people(&["paul"]);
    let approval = world.approved(&ask).await;
    world.user("alice", &["paul-admin"], &["sre"]);
    assert_eq!(world.answer(&ask.redeeming(&approval)).await, "DENY Closed");
    assert_eq!(
        world.standing(&approval).await,
        "SUPERSEDED APPROVER_INELIGIBLE"
    );
}

#[tokio::test]
async fn two_approvers_who_turn_out_to_be_one_person_count_once() {
    let change = |world: &World| world.user("bob", &["alice"], &["sre"]);
    check_superseded(change, "APPROVER_INELIGIBLE").await;
    // Over a third account, too.
    let change = |world: &World| world.user("eve", &["alice", "bob"], &[]);
    check_superseded(change, "APPROVER_INELIGIBLE").await;
}

/// Between two votes of one person, their accounts are linked: the second vote is no other person's.
#[tokio::test]
async fn accounts_linked_between_the_votes_are_one_person() {
    for (first, second) in [("alice", "bob"), ("bob", "alice")] {
        let world = World::new();
        let approval = world.open(&deploy()).await;
        world.approve(first, &approval).await.unwrap();
        world.user("bob", &["alice"], &["sre"]);
        drop(world.approve(second, &approval).await);
        let answer = redeem(&world, &approval).await;
        assert!(!answer.starts_with("ALLOW"), "{first}, {second}: {answer}");
        assert_ne!(world.status(&approval).await, Status::Redeemed);
    }
}

fn rename_rule(world: &World) {
    world.replace("approvals.toml", "[rule.prod]", "[rule.production]");
    world.replace(
        "policies.cedar",
        "@approval(\"prod\")",
        "@approval(\"production\")",
    );
}

#[tokio::test]
async fn a_renamed_rule_that_the_approvers_fulfil_allows() {
    let change = |world: &World| {
        rename_rule(world);
        world.replace(
            "reviewers.cedar",
            "context.rule == \"prod\"",
            "context.rule == \"production\"",
        );
        world.reload();
    };
    check(change, "ALLOW granted by REDEEMED").await;
}

#[tokio::test]
async fn a_renamed_rule_that_nobody_may_approve_supersedes() {
    let change = |world: &World| {
        rename_rule(world);
        world.reload();
    };
    check_superseded(change, "APPROVER_INELIGIBLE").await;
}

#[tokio::test]
async fn a_deleted_reviewer_policy_supersedes() {
    let change = |world: &World| {
        world.write("reviewers.cedar", "");
        world.reload();
    };
    check_superseded(change, "APPROVER_INELIGIBLE").await;
}

#[tokio::test]
async fn a_forbid_on_approving_supersedes() {
    let change = |world: &World| {
        let text = "@id(\"not-bob\") forbid (principal == User::\"bob\", action == Countersign::Action::\"Approve\", resource);\n";
        world.add("frozen.cedar", text);
    };
    check_superseded(change, "APPROVER_INELIGIBLE").await;
}

#[tokio::test]
async fn a_compatible_schema_allows() {
    let change = |world: &World| {
        world.replace(
            "schema.cedarschema",
            "note?: String,",
            "note?: String, more?: Long,",
        );
        world.reload();
    };
    check(change, "ALLOW granted by REDEEMED").await;
}

#[tokio::test]
async fn an_incompatible_schema_is_an_error_and_keeps_the_grant() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world.replace("schema.cedarschema", "note?: String,", "note: String,");
    world.reload();
    let answer = redeem(&world, &approval).await;
    assert!(answer.starts_with("error: `context"), "{answer}");
    assert_eq!(world.status(&approval).await, Status::Approved);
    world.replace("schema.cedarschema", "note: String,", "note?: String,");
    world.reload();
    assert_eq!(redeem(&world, &approval).await, "ALLOW granted by REDEEMED");
}

/// An overflow is an error, and what a forbid forbids is then unknown.
const ERRS: &str = "@id(\"errs\") forbid (principal, action in [Action::\"Deploy\"], resource) when { resource has size && resource.size * 9223372036854775807 > 0 };\n";

#[tokio::test]
async fn what_cannot_be_judged_is_denied_and_keeps_the_grant() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world.add("errs.cedar", ERRS);
    world.entity("Service::\"api\"", json!({ "env": "prod", "size": 7 }));
    let answer = world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Deny);
    assert_eq!(
        answer.decided().outcome,
        Outcome::Deny(DenyReason::PolicyError)
    );
    assert!(!answer.is_cacheable());
    assert_eq!(world.status(&approval).await, Status::Approved);
    world.entity("Service::\"api\"", json!({ "env": "prod" }));
    assert_eq!(redeem(&world, &approval).await, "ALLOW granted by REDEEMED");
}

#[tokio::test]
async fn a_missing_entity_denies_and_keeps_the_grant() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world.forget("Service::\"api\"");
    let answer = world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Deny);
    assert_eq!(world.status(&approval).await, Status::Approved);
    world.entity("Service::\"api\"", json!({ "env": "prod" }));
    assert_eq!(redeem(&world, &approval).await, "ALLOW granted by REDEEMED");
}

/// Whether an approver may still approve cannot be told: that is no reason to allow, and none to throw the grant away.
#[tokio::test]
async fn approvers_who_cannot_be_judged_keep_the_grant() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let errs = "@id(\"errs\") forbid (principal, action == Countersign::Action::\"Approve\", resource) when { resource has size && resource.size * 9223372036854775807 > 0 };\n";
    world.add("errs.cedar", errs);
    world.entity("Service::\"api\"", json!({ "env": "prod", "size": 7 }));
    let answer = world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Deny);
    assert_eq!(world.standing(&approval).await, "APPROVED");
    world.entity("Service::\"api\"", json!({ "env": "prod" }));
    assert_eq!(redeem(&world, &approval).await, "ALLOW granted by REDEEMED");
}

/// Who belongs to the requester's side cannot be told for a while.
#[tokio::test]
async fn a_requester_who_cannot_be_read_keeps_the_grant() {
    let world = World::new();
    let ask = deploy().for_people(&["paul"]);
    let approval = world.approved(&ask).await;
    world.user("paul", &["ghost"], &["sre"]);
    let answer = world
        .authorize(&ask.clone().redeeming(&approval))
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Deny);
    assert_eq!(world.standing(&approval).await, "APPROVED");
    world.user("paul", &[], &["sre"]);
    assert_eq!(
        world.answer(&ask.redeeming(&approval)).await,
        "ALLOW granted by REDEEMED"
    );
}

#[tokio::test]
async fn policies_that_cannot_be_loaded_change_nothing() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world.write("frozen.cedar", "forbid (principal, action, resource)");
    world.reload_in_vain();
    assert_eq!(redeem(&world, &approval).await, "ALLOW granted by REDEEMED");
}

#[tokio::test]
async fn a_redeemed_approval_stays_redeemed_whatever_policies_say() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let ask = deploy().redeeming(&approval).key("k");
    let first = world.authorize(&ask).await.unwrap();
    forbid_all(&world);
    // A lost answer is asked for again: it is the answer of then.
    let again = world.authorize(&ask).await.unwrap();
    assert_eq!(again.decision_id, first.decision_id);
    assert_eq!(world.answer(&deploy()).await, "DENY");
}

/// A stronger rule does not reach an approval that is waiting; it is seen at the redemption.
#[tokio::test]
async fn what_waits_keeps_its_rule_until_it_is_redeemed() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.replace("approvals.toml", "approvals     = 2", "approvals     = 3");
    world.reload();
    world.approve("alice", &approval).await.unwrap();
    world.approve("bob", &approval).await.unwrap();
    assert_eq!(redeem(&world, &approval).await, "DENY Closed");
    assert_eq!(
        world.standing(&approval).await,
        "SUPERSEDED REQUIREMENT_STRONGER"
    );
    let next = world.open(&deploy()).await;
    for who in ["alice", "bob", "carol"] {
        world.approve(who, &next).await.unwrap();
    }
    assert_eq!(redeem(&world, &next).await, "ALLOW granted by REDEEMED");
}

/// What the request describes of itself can come to be stored: then it is stored otherwise, and the request is refused.
#[tokio::test]
async fn what_was_described_may_be_stored_meanwhile() {
    let world = World::new();
    let prod = Value::String("prod".to_owned());
    let ask = deploy()
        .with(|request| request.resource = uid("Service::\"new\""))
        .describe("Service::\"new\"", record([("env", prod)]));
    let approval = world.approved(&ask).await;
    world.entity("Service::\"new\"", json!({ "env": "prod" }));
    let answer = world.answer(&ask.redeeming(&approval)).await;
    assert!(answer.starts_with("error: `resource`"), "{answer}");
    assert_eq!(world.status(&approval).await, Status::Approved);
    world.revoke(by_caller("gateway"), &approval).await.unwrap();
}
