//! Every way to approve one's own request is refused, explained and recorded.

use countersign::approval::{Approval, Choice, Refusal, Standing, Status};
use countersign::model::Value;
use countersign::usecase::approvals::ApprovalsError;
use serde_json::json;

use crate::request::{Ask, deploy, record, uid};
use crate::world::{World, ballot, by_person};

/// `who` cannot approve, is told a reason with `why` in it, and both is recorded; nor is anything approved by the attempt.
async fn check_refused(world: &World, approval: &Approval, who: &str, why: &str) {
    let before = world.now_of(approval).await;
    let refused = world.approve(who, approval).await.unwrap_err();
    let ApprovalsError::Refused(shown, refusal) = refused else {
        panic!("{who}: {refused:?}");
    };
    let said = refusal.to_string();
    assert!(said.contains(why), "{who}: {said}");
    assert_eq!(*shown, before, "{who}: it must not change");
    assert_eq!(world.now_of(approval).await, before);
    let (_, recorded) = world.refused_votes(approval).await.pop().unwrap();
    assert_eq!(recorded, refusal, "{who}");
}

/// `who` belongs to the requester's side: cannot approve, may deny and cancel.
async fn check_barred(ask: &Ask, who: &str, why: &str) {
    let world = World::new();
    let approval = world.open(ask).await;
    check_refused(&world, &approval, who, why).await;
    let (standing, refusal) = world.refused_votes(&approval).await.pop().unwrap();
    assert!(
        matches!(refusal, Refusal::OwnRequest { .. }),
        "{who}: {refusal:?}"
    );
    assert!(
        matches!(standing, Standing::Barred(_)),
        "{who}: {standing:?}"
    );
    // Not with the others' help either.
    let voted = world.approve("alice", &approval).await.unwrap();
    assert_eq!(voted.approval.status(), Status::Pending);
    check_refused(&world, &approval, who, why).await;

    let denied = world.deny(who, &approval).await.unwrap();
    assert_eq!(denied.approval.status(), Status::Denied, "{who}");

    let world = World::new();
    let approval = world.open(ask).await;
    let cancelled = world.cancel(by_person(who), &approval).await.unwrap();
    assert_eq!(cancelled.status(), Status::Cancelled, "{who}");

    let world = World::new();
    let approval = world.approved(ask).await;
    let revoked = world.revoke(by_person(who), &approval).await.unwrap();
    assert_eq!(revoked.status(), Status::Revoked, "{who}");
}

#[tokio::test]
async fn the_requester_does_not_approve() {
    let ask = deploy().principal("User::\"rita\"");
    check_barred(&ask, "rita", "`User::\"rita\"` made the request").await;
    check_barred(&ask, "rita-admin", "is the same person as `User::\"rita\"`").await;
}

#[tokio::test]
async fn the_owner_of_the_agent_does_not_approve() {
    let why = "`User::\"olive\"` owns the agent `Agent::\"bot\"`";
    check_barred(&deploy(), "olive", why).await;
    let why = "`User::\"olive-admin\"` is the same person as `User::\"olive\"`";
    check_barred(&deploy(), "olive-admin", why).await;
}

#[tokio::test]
async fn the_owner_of_the_owner_does_not_approve() {
    let ask = deploy().principal("Agent::\"sub\"");
    check_barred(&ask, "olive", "owns the agent `Agent::\"bot\"`").await;
    check_barred(
        &ask,
        "olive-admin",
        "is the same person as `User::\"olive\"`",
    )
    .await;
}

#[tokio::test]
async fn nobody_in_the_chain_approves() {
    let ask = deploy().for_people(&["paul", "pia"]);
    for (who, account) in [("paul", "paul-admin"), ("pia", "pia-admin")] {
        check_barred(&ask, who, "is whom the request is made on behalf of").await;
        check_barred(
            &ask,
            account,
            &format!("is the same person as `User::\"{who}\"`"),
        )
        .await;
    }
    check_barred(&ask, "olive", "owns the agent").await;
}

#[tokio::test]
async fn an_agent_in_the_chain_brings_its_owner() {
    let ask = deploy().principal("User::\"rita\"").with(|request| {
        request.on_behalf_of = vec![uid("Agent::\"sub\"")];
    });
    check_barred(&ask, "olive", "owns the agent `Agent::\"bot\"`").await;
}

#[tokio::test]
async fn the_owner_of_a_described_agent_does_not_approve() {
    let owner = record([("owner", Value::Entity(uid("User::\"olive\"")))]);
    let ask = deploy()
        .principal("Agent::\"new\"")
        .describe("Agent::\"new\"", owner);
    check_barred(&ask, "olive", "owns the agent `Agent::\"new\"`").await;
    check_barred(&ask, "olive-admin", "is the same person as").await;
}

#[tokio::test]
async fn an_account_that_the_request_links_does_not_approve() {
    let link = Value::Set(vec![Value::Entity(uid("User::\"carol\""))]);
    let ask = deploy()
        .principal("User::\"temp\"")
        .describe("User::\"temp\"", record([("same_person_as", link)]));
    check_barred(&ask, "carol", "is the same person as `User::\"temp\"`").await;
}

#[tokio::test]
async fn one_person_with_two_accounts_has_one_vote() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.approve("dora", &approval).await.unwrap();
    check_refused(&world, &approval, "dora-admin", "already voted").await;
    assert_eq!(world.status(&approval).await, Status::Pending);
    world.approve("alice", &approval).await.unwrap();
    assert_eq!(world.status(&approval).await, Status::Approved);
}

#[tokio::test]
async fn one_person_in_two_teams_fills_one_seat() {
    let world = World::new();
    world.replace(
        "approvals.toml",
        "approvals     = 2",
        "slots = { sre = 1, directors = 1 }",
    );
    world.replace(
        "reviewers.cedar",
        "context.rule == \"prod\" && context.escalated",
        "context.slot == \"directors\"",
    );
    world.replace(
        "reviewers.cedar",
        "context.rule == \"prod\"",
        "context.slot == \"sre\"",
    );
    world.reload();
    // Both orders: whom a seat is given to first must not matter.
    for (first, second) in [("dora-admin", "alice"), ("alice", "dora-admin")] {
        let approval = world.open(&deploy().version(first)).await;
        let voted = world.approve(first, &approval).await.unwrap();
        assert_eq!(voted.approval.status(), Status::Pending);
        if first == "dora-admin" {
            check_refused(&world, &approval, "dora", "already voted").await;
        }
        let voted = world.approve(second, &approval).await.unwrap();
        assert_eq!(voted.approval.status(), Status::Approved);
    }
}

/// Two persons who can only take the same seat are not enough.
#[tokio::test]
async fn two_persons_for_one_seat_leave_the_other_empty() {
    let world = World::new();
    world.replace(
        "approvals.toml",
        "approvals     = 2",
        "slots = { sre = 1, directors = 1 }",
    );
    world.replace(
        "reviewers.cedar",
        "context.rule == \"prod\" && context.escalated",
        "context.slot == \"directors\"",
    );
    world.replace(
        "reviewers.cedar",
        "context.rule == \"prod\"",
        "context.slot == \"sre\"",
    );
    world.reload();
    let approval = world.open(&deploy()).await;
    world.approve("alice", &approval).await.unwrap();
    let voted = world.approve("bob", &approval).await.unwrap();
    assert_eq!(voted.approval.status(), Status::Pending);
    let voted = world.approve("dirk", &approval).await.unwrap();
    assert_eq!(voted.approval.status(), Status::Approved);
}

#[tokio::test]
async fn strangers_agents_and_nobody_do_not_approve() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let why = [
        ("eve", "no policy lets the reviewer approve this"),
        ("dirk", "no policy lets the reviewer approve this"),
        ("mallory", "the reviewer is not known here"),
        ("", "the reviewer is not known here"),
        ("bot", "the reviewer is not known here"),
        ("ALICE", "the reviewer is not known here"),
        ("alice ", "the reviewer is not known here"),
        ("User::\"alice\"", "the reviewer is not known here"),
        ("alice\0", "the reviewer is not known here"),
    ];
    for (who, why) in why {
        check_refused(&world, &approval, who, why).await;
        // Neither yes nor no: they have no say.
        world.deny(who, &approval).await.unwrap_err();
    }
    assert_eq!(world.status(&approval).await, Status::Pending);
}

/// Where agents are the accounts that people sign in with, they still are not people.
#[tokio::test]
async fn an_agent_in_the_reviewers_team_does_not_approve() {
    use countersign::usecase::approval_store::ApprovalStore;
    use countersign::usecase::approvals::{Approvals, Directory};
    use std::sync::Arc;

    let world = World::new();
    let approval = world.open(&deploy().principal("User::\"rita\"")).await;
    let agents = Approvals::new(
        Arc::clone(&world.store) as Arc<dyn ApprovalStore>,
        world.active(),
        Arc::clone(&world.clock) as Arc<dyn countersign::usecase::ports::Clock>,
        Directory::new("Agent"),
        countersign::approval::flood::FloodLimits::default(),
    );
    let vote = ballot("sub", Choice::Approve, &approval);
    let refused = agents.vote(vote).await.unwrap_err();
    assert!(
        refused.to_string().contains("only people may approve"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_reviewer_whom_the_request_describes_is_unknown() {
    let world = World::new();
    let ask = deploy().with(|request| {
        request
            .entities
            .push(countersign::model::EntityDescription {
                uid: uid("User::\"mallory\""),
                attributes: record([]),
                parents: vec![uid("Team::\"sre\"")],
            });
    });
    let approval = world.open(&ask).await;
    check_refused(
        &world,
        &approval,
        "mallory",
        "the reviewer is not known here",
    )
    .await;
}

/// After the opening the world can change; the floors of the opening stay, those of now come on top.
#[tokio::test]
async fn whoever_was_barred_at_the_opening_stays_barred() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let user = |id: &str| json!({ "owner": { "__entity": { "type": "User", "id": id } } });
    world.entity("Agent::\"bot\"", user("alice"));
    check_refused(&world, &approval, "olive", "owns the agent").await;
    check_refused(&world, &approval, "alice", "owns the agent").await;
    assert_eq!(world.status(&approval).await, Status::Pending);
}

#[tokio::test]
async fn whoever_is_linked_after_the_opening_is_barred() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.user("alice", &["olive"], &["sre"]);
    check_refused(&world, &approval, "alice", "is the same person as").await;
}

/// Nobody is eligible while it cannot be told who belongs to the requester's side.
#[tokio::test]
async fn while_the_requester_cannot_be_read_nobody_approves() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.forget("Agent::\"bot\"");
    let why = "`Agent::\"bot\"` is neither stored nor described";
    check_refused(&world, &approval, "alice", why).await;
    // Those who were barred are so still, and may still say no.
    check_refused(&world, &approval, "olive", "owns the agent").await;
    let denied = world.deny("olive", &approval).await.unwrap();
    assert_eq!(denied.approval.status(), Status::Denied);
}

#[tokio::test]
async fn while_a_link_leads_to_nobody_nobody_approves() {
    let world = World::new();
    let approval = world.open(&deploy().for_people(&["paul"])).await;
    world.user("paul", &["ghost"], &["sre"]);
    let why = "`User::\"ghost\"` is neither stored nor described";
    check_refused(&world, &approval, "alice", why).await;
}

#[tokio::test]
async fn while_a_required_owner_is_missing_nobody_approves() {
    let world = World::new();
    let ask = deploy()
        .principal("Agent::\"new\"")
        .describe("Agent::\"new\"", record([]));
    let approval = world.open(&ask).await;
    world.replace("schema.cedarschema", "owner?: User", "owner: User");
    let owner = json!({ "owner": { "__entity": { "type": "User", "id": "olive" } } });
    world.entity_unloaded("Agent::\"sub\"", owner);
    world.reload();
    let why = "it cannot be told who belongs to the requester's side";
    check_refused(&world, &approval, "alice", why).await;
}

/// A vote that comes too late changes nothing, whoever casts it.
#[tokio::test]
async fn a_late_vote_of_the_requester_does_not_count_either() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let voted = world.approve("olive", &approval).await;
    let after = world.now_of(&approval).await;
    assert_eq!(after, approval_of(&world, &approval).await);
    assert_eq!(after.votes.len(), 2);
    assert!(voted.is_err() || !voted.unwrap().is_counted);
}

async fn approval_of(world: &World, approval: &Approval) -> Approval {
    world.approvals.get(&approval.id).await.unwrap().approval
}
