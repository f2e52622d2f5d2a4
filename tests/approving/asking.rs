//! When people are asked, and when they are spared.

use std::time::Duration;

use countersign::approval::Status;
use countersign::approval::flood::FloodLimits;
use countersign::usecase::approval_store::ApprovalFilter;
use countersign::usecase::approvals::ApprovalsError;
use countersign::usecase::{AuthorizeError, Authorized};
use jiff::Timestamp;

use crate::request::{Ask, deploy};
use crate::world::{
    MICROSECOND, MINUTE, World, WorldBuilder, ballot, by_caller, just_before, message, words,
};
use countersign::approval::Choice;

async fn count(world: &World) -> usize {
    let listed = world.approvals.list(ApprovalFilter::default(), None, 100);
    listed.await.unwrap().0.approvals.len()
}

#[tokio::test]
async fn an_identical_request_joins_and_nobody_is_told_again() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    assert_eq!(world.deliver().await.len(), 1);
    let joined = world.open(&deploy().because("please")).await;
    assert_eq!(joined.id, approval.id);
    assert_eq!(joined.joined, 1);
    assert_eq!(world.deliver().await, []);
    assert_eq!(count(&world).await, 1);
}

#[tokio::test]
async fn whoever_asks_otherwise_opens_another() {
    let world = World::new();
    let first = world.open(&deploy()).await;
    let others = [
        deploy().version("2.0"),
        deploy().principal("Agent::\"sub\""),
        deploy().for_people(&["paul"]),
        deploy().with(|request| request.caller = "other".to_owned()),
        deploy().with(|request| request.action = "Restart".to_owned()),
        deploy().with(|request| request.resource = crate::request::uid("Service::\"web\"")),
    ];
    for (index, other) in others.iter().enumerate() {
        let another = world.open(other).await;
        assert_ne!(another.id, first.id, "{other:?}");
        assert_eq!(count(&world).await, index + 2);
    }
}

#[tokio::test]
async fn the_order_of_the_chain_matters() {
    let world = World::new();
    let one = world.open(&deploy().for_people(&["paul", "pia"])).await;
    let other = world.open(&deploy().for_people(&["pia", "paul"])).await;
    assert_ne!(one.id, other.id);
}

#[tokio::test]
async fn a_repeated_key_gets_the_same_approval() {
    let world = World::new();
    let approval = world.open(&deploy().key("k")).await;
    let repeated = world.open(&deploy().key("k")).await;
    assert_eq!(repeated, approval);
}

#[tokio::test]
async fn a_key_that_was_used_for_another_request_is_refused() {
    let world = World::new();
    world.open(&deploy().key("k")).await;
    let answer = world.authorize(&deploy().version("2.0").key("k")).await;
    assert_eq!(
        answer.unwrap_err(),
        AuthorizeError::Approval(ApprovalsError::KeyReused)
    );
    assert_eq!(count(&world).await, 1);
}

#[tokio::test]
async fn another_callers_key_is_another_key() {
    let world = World::new();
    let mine = world.open(&deploy().key("k")).await;
    let theirs = deploy().version("2.0").key("k");
    let theirs = theirs.with(|request| request.caller = "other".to_owned());
    assert_ne!(world.open(&theirs).await.id, mine.id);
}

#[tokio::test]
async fn an_approved_and_unspent_one_is_joined() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let joined = world.open(&deploy()).await;
    assert_eq!(joined.id, approval.id);
    assert_eq!(joined.status(), Status::Approved);
    assert_eq!(
        world.answer(&deploy().redeeming(&joined)).await,
        "ALLOW granted by REDEEMED"
    );
}

#[tokio::test]
async fn a_rule_can_demand_a_reason() {
    let world = WorldBuilder::new()
        .rule_with("require = [\"justification\"]")
        .build();
    for ask in [deploy(), deploy().because(""), deploy().because(" \t\n")] {
        assert_eq!(
            world.answer(&ask).await,
            "error: the rule `prod` requires a justification"
        );
    }
    assert_eq!(count(&world).await, 0);
    let approval = world.approved(&deploy().because("a fix")).await;
    // It was given when people were asked.
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "ALLOW granted by REDEEMED"
    );
}

#[tokio::test]
async fn nobody_is_asked_where_too_few_could_approve() {
    let world = World::new();
    world.replace("approvals.toml", "approvals     = 2", "approvals = 12");
    world.reload();
    let answer = world.authorize(&deploy()).await;
    assert_eq!(words(&answer), "DENY NobodyCanApprove");
    assert_eq!(
        message(&answer),
        // Eight persons are in the team, and one of them owns the agent.
        "too few people can approve this: missing 5 for `prod`"
    );
    assert_eq!(count(&world).await, 0);
    assert_eq!(world.deliver().await, []);
}

#[tokio::test]
async fn two_accounts_of_one_person_are_not_enough_to_be_asked() {
    let world = World::new();
    for name in ["alice", "bob", "carol", "paul", "pia", "rita"] {
        world.user(name, &[], &[]);
    }
    for name in ["paul-admin", "pia-admin", "rita-admin"] {
        world.user(name, &[], &[]);
    }
    let answer = world.authorize(&deploy()).await;
    assert_eq!(words(&answer), "DENY NobodyCanApprove");
    assert!(message(&answer).contains("missing 1 for `prod`"));
}

#[tokio::test]
async fn an_identity_that_cannot_be_read_is_nobody_to_be_asked_for() {
    let world = World::new();
    world.user("paul", &["ghost"], &["sre"]);
    let answer = world.authorize(&deploy().for_people(&["paul"])).await;
    assert_eq!(words(&answer), "DENY NobodyCanApprove");
    assert!(
        message(&answer).contains("`User::\"ghost\"` is neither stored nor described"),
        "{}",
        message(&answer)
    );
    for chain in [&["nobody"][..], &[""]] {
        let answer = world.authorize(&deploy().for_people(chain)).await;
        assert_eq!(words(&answer), "DENY NobodyCanApprove");
    }
    assert_eq!(count(&world).await, 0);
}

fn cooling(answer: &Result<Authorized, AuthorizeError>) -> bool {
    words(answer) == "DENY CoolingDown"
}

#[tokio::test]
async fn a_denied_request_cools_down_and_can_then_be_asked_again() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.deny("alice", &approval).await.unwrap();
    let answer = world.authorize(&deploy()).await;
    assert!(cooling(&answer), "{answer:?}");
    let until = approval.opened.checked_add(15 * MINUTE).unwrap();
    assert!(message(&answer).ends_with(&format!("again at {until}")));
    // Another request of the same agent is none of it.
    world.open(&deploy().version("2.0")).await;

    world.clock.forward(just_before(15 * MINUTE));
    assert!(cooling(&world.authorize(&deploy()).await));
    world.clock.forward(MICROSECOND);
    let second = world.open(&deploy()).await;
    assert_ne!(second.id, approval.id);
    // A second no counts twice as long.
    world.deny("alice", &second).await.unwrap();
    world.clock.forward(just_before(30 * MINUTE));
    assert!(cooling(&world.authorize(&deploy()).await));
    world.clock.forward(MICROSECOND);
    world.open(&deploy()).await;
}

#[tokio::test]
async fn a_key_does_not_end_a_cool_down() {
    let world = World::new();
    let approval = world.open(&deploy().key("one")).await;
    world.deny("alice", &approval).await.unwrap();
    assert!(cooling(&world.authorize(&deploy().key("two")).await));
}

#[tokio::test]
async fn what_a_reviewer_said_reaches_the_agent() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let mut no = ballot("alice", Choice::Deny, &approval);
    no.comment = Some("use staging".to_owned());
    world.approvals.vote(no).await.unwrap();
    let answer = world.authorize(&deploy().redeeming(&approval)).await;
    assert_eq!(words(&answer), "DENY Closed");
    assert!(
        message(&answer).ends_with(": use staging"),
        "{}",
        message(&answer)
    );
    let again = world.authorize(&deploy()).await.unwrap();
    let told = again.approval.approval().unwrap();
    assert!(format!("{:?}", told.state).contains("use staging"));
}

/// Nobody said no, so there is no reason to wait until people may be asked again.
#[tokio::test]
async fn a_request_that_nobody_was_left_to_approve_does_not_cool_down() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.replace("approvals.toml", "approvals     = 2", "approvals     = 1");
    world.replace("reviewers.cedar", "Team::\"sre\"", "Team::\"security\"");
    world.reload();
    assert_eq!(world.approvals.strand().await.unwrap(), 1);
    assert_eq!(world.standing(&approval).await, "DENIED UNREACHABLE_QUORUM");
    world.replace("reviewers.cedar", "Team::\"security\"", "Team::\"sre\"");
    world.reload();
    let next = world.open(&deploy()).await;
    assert_ne!(next.id, approval.id);
}

#[tokio::test]
async fn what_the_requester_gave_up_can_be_asked_again_at_once() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.cancel(by_caller("gateway"), &approval).await.unwrap();
    assert_ne!(world.open(&deploy()).await.id, approval.id);
}

#[tokio::test]
async fn votes_for_a_cancelled_request_do_not_count_for_the_next() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.approve("alice", &approval).await.unwrap();
    world.cancel(by_caller("gateway"), &approval).await.unwrap();
    let next = world.open(&deploy()).await;
    let voted = world.approve("bob", &next).await.unwrap();
    assert_eq!(voted.approval.status(), Status::Pending);
}

fn too_many(answer: Result<Authorized, AuthorizeError>) -> Timestamp {
    match answer {
        Err(AuthorizeError::Approval(ApprovalsError::TooMany { retry_at, .. })) => retry_at,
        other => panic!("{other:?}"),
    }
}

fn nth(index: u32) -> Ask {
    deploy().version(&index.to_string())
}

#[tokio::test]
async fn only_so_many_may_wait_at_once() {
    let limits = FloodLimits {
        pending_per_requester: 2,
        ..FloodLimits::default()
    };
    let world = WorldBuilder::new().limits(limits).build();
    let first = world.open(&nth(0)).await;
    world.open(&nth(1)).await;
    let retry_at = too_many(world.authorize(&nth(2)).await);
    assert!(retry_at > first.opened);
    // The cap is the requester's own, and what waits can still be joined.
    world.open(&nth(2).principal("User::\"rita\"")).await;
    world.open(&nth(0)).await;
    world.deny("alice", &first).await.unwrap();
    world.open(&nth(2)).await;
    // Expiry makes room, whether or not somebody swept.
    too_many(world.authorize(&nth(3)).await);
    world.clock.forward(30 * MINUTE);
    world.open(&nth(3)).await;
}

#[tokio::test]
async fn only_so_many_may_be_opened_within_a_minute() {
    let limits = FloodLimits {
        opened_per_minute: 3,
        ..FloodLimits::default()
    };
    let world = WorldBuilder::new().limits(limits).build();
    let first = world.open(&nth(0)).await;
    world.clock.forward(Duration::from_secs(10));
    world.open(&nth(1)).await;
    world.open(&nth(2)).await;
    let retry_at = too_many(world.authorize(&nth(3)).await);
    assert_eq!(retry_at, first.opened.checked_add(MINUTE).unwrap());
    world.clock.set(retry_at);
    world.clock.back(MICROSECOND);
    too_many(world.authorize(&nth(3)).await);
    world.clock.set(retry_at);
    world.open(&nth(3)).await;
    too_many(world.authorize(&nth(4)).await);
}

/// An agent that tries again with the key of a closed approval must not be told to wait for it.
#[tokio::test]
async fn a_repeated_key_shows_how_the_approval_stands_now() {
    let world = World::new();
    let approval = world.open(&deploy().key("k")).await;
    world.deny("alice", &approval).await.unwrap();
    let repeated = world.authorize(&deploy().key("k")).await.unwrap();
    let told = repeated.approval.approval().unwrap();
    assert_eq!(told.id, approval.id);
    assert_eq!(told.status(), Status::Denied);
}
