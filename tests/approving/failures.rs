//! A store that fails: nothing is allowed that was not redeemed, and what is tried again goes on where it was.

use countersign::approval::{Choice, Event, State, Status};
use countersign::usecase::approval_store::ApprovalFilter;

use crate::request::deploy;
use crate::store::{Fault, Operation};
use crate::world::{World, ballot, by_caller};

const UNREACHABLE: &str = "error: the store of approvals cannot be reached: as the test wants it";

async fn count(world: &World) -> usize {
    let listed = world.approvals.list(ApprovalFilter::default(), None, 100);
    listed.await.unwrap().0.approvals.len()
}

#[tokio::test]
async fn an_opening_that_failed_can_be_tried_again() {
    for fault in [Fault::NotDone, Fault::AnswerLost] {
        for ask in [deploy().key("k"), deploy()] {
            let world = World::new();
            world.store.fail(Operation::Open, fault.clone());
            assert_eq!(world.answer(&ask).await, UNREACHABLE);
            world.open(&ask).await;
            assert_eq!(count(&world).await, 1, "{fault:?}");
            assert_eq!(world.deliver().await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_vote_that_failed_can_be_tried_again() {
    let faults = [
        (Operation::Find, Fault::NotDone),
        (Operation::Apply, Fault::NotDone),
        (Operation::Apply, Fault::AnswerLost),
    ];
    for (operation, fault) in faults {
        let world = World::new();
        let approval = world.open(&deploy()).await;
        world.approve("alice", &approval).await.unwrap();
        let mut vote = ballot("bob", Choice::Approve, &approval);
        vote.request_id = Some("click".to_owned());
        world.store.fail(operation, fault.clone());
        world.approvals.vote(vote.clone()).await.unwrap_err();
        assert!(world.store.is_through());
        let voted = world.approvals.vote(vote).await.unwrap();
        assert_eq!(voted.approval.status(), Status::Approved, "{fault:?}");
        assert_eq!(voted.approval.votes.len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_redemption_that_was_not_done_allows_nothing_and_can_be_tried_again() {
    for operation in [Operation::Find, Operation::Apply] {
        let world = World::new();
        let approval = world.approved(&deploy()).await;
        let redeem = deploy().redeeming(&approval);
        world.store.fail(operation, Fault::NotDone);
        assert_eq!(world.answer(&redeem).await, UNREACHABLE);
        assert_eq!(world.status(&approval).await, Status::Approved);
        assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
    }
}

#[tokio::test]
async fn a_redemption_whose_answer_was_lost_is_answered_again_to_the_same_key() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let redeem = deploy().redeeming(&approval).key("k");
    world.store.fail(Operation::Apply, Fault::AnswerLost);
    assert_eq!(world.answer(&redeem).await, UNREACHABLE);
    let other = deploy().redeeming(&approval).key("other");
    assert_eq!(world.answer(&other).await, "DENY Redeemed");
    let again = world.authorize(&redeem).await.unwrap();
    let State::Redeemed { redemption, .. } = world.now_of(&approval).await.state else {
        panic!("it was redeemed");
    };
    assert_eq!(again.decision_id.to_string(), redemption.decision_id);
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
}

#[tokio::test]
async fn a_redemption_whose_answer_was_lost_is_lost_without_a_key() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let redeem = deploy().redeeming(&approval);
    world.store.fail(Operation::Apply, Fault::AnswerLost);
    assert_eq!(world.answer(&redeem).await, UNREACHABLE);
    assert_eq!(world.answer(&redeem).await, "DENY Redeemed");
}

#[tokio::test]
async fn a_denial_that_cannot_be_kept_is_no_answer() {
    for fault in [Fault::NotDone, Fault::AnswerLost] {
        let world = World::new();
        let approval = world.approved(&deploy()).await;
        let text = "@id(\"frozen\") forbid (principal, action, resource);\n";
        world.add("frozen.cedar", text);
        world.store.fail(Operation::Apply, fault);
        let redeem = deploy().redeeming(&approval);
        assert_eq!(world.answer(&redeem).await, UNREACHABLE);
        assert!(world.answer(&redeem).await.starts_with("DENY"));
        assert_eq!(
            world.standing(&approval).await,
            "SUPERSEDED POLICY_NOW_DENIES"
        );
    }
}

#[tokio::test]
async fn what_others_change_meanwhile_is_looked_at_again() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world
        .store
        .fail(Operation::Apply, Fault::Meanwhile(Box::new(Event::Join)));
    let redeem = deploy().redeeming(&approval);
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
}

#[tokio::test]
async fn those_who_ask_again_at_each_attempt_do_not_keep_the_redeemer_away() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    for _ in 0..5 {
        world
            .store
            .fail(Operation::Apply, Fault::Meanwhile(Box::new(Event::Join)));
    }
    let redeem = deploy().redeeming(&approval);
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
}

#[tokio::test]
async fn a_withdrawal_that_failed_can_be_tried_again() {
    for fault in [Fault::NotDone, Fault::AnswerLost] {
        let world = World::new();
        let approval = world.open(&deploy()).await;
        world.store.fail(Operation::Apply, fault);
        let cancel = countersign::usecase::approvals::Withdraw {
            id: approval.id.clone(),
            by: by_caller("gateway"),
            comment: None,
            request_id: Some("k".to_owned()),
        };
        world.approvals.cancel(cancel.clone()).await.unwrap_err();
        let cancelled = world.approvals.cancel(cancel).await.unwrap();
        assert_eq!(cancelled.status(), Status::Cancelled);
    }
}

#[tokio::test]
async fn a_telling_whose_end_was_lost_is_told_again_later() {
    let world = World::new();
    world.open(&deploy()).await;
    let channels: std::sync::Arc<dyn countersign::usecase::ports::Channels> =
        std::sync::Arc::<crate::world::RecordingChannels>::clone(&world.channels);
    world.store.fail(Operation::Finish, Fault::NotDone);
    world.approvals.deliver(&channels).await.unwrap_err();
    assert_eq!(world.channels.take().len(), 1);
    // Another worker may try once the lease is over.
    assert_eq!(world.deliver().await, []);
    world.clock.forward(2 * crate::world::MINUTE);
    assert_eq!(world.deliver().await.len(), 1);
    assert_eq!(world.deliver().await, []);
}

#[tokio::test]
async fn what_cannot_be_swept_does_not_keep_the_rest_from_it() {
    let world = World::new();
    let first = world.open(&deploy()).await;
    world.clock.forward(crate::world::MINUTE);
    let second = world.open(&deploy().version("2.0")).await;
    world.store.damage(&first.id);
    world.clock.forward(30 * crate::world::MINUTE);
    world.approvals.sweep("one").await.unwrap_err();
    assert_eq!(world.status(&second).await, Status::Expired);
}

#[tokio::test]
async fn what_cannot_be_stranded_does_not_keep_the_rest_from_it() {
    let world = World::new();
    let first = world.open(&deploy()).await;
    world.clock.forward(crate::world::MINUTE);
    let second = world.open(&deploy().version("2.0")).await;
    // Listed latest first.
    world.store.damage(&second.id);
    world.write("reviewers.cedar", "");
    world.reload();
    world.approvals.strand().await.unwrap_err();
    assert_eq!(world.standing(&first).await, "DENIED UNREACHABLE_QUORUM");
}

#[tokio::test]
async fn the_sweeper_says_so_where_the_store_is_away() {
    for operation in [Operation::Lease, Operation::Due, Operation::Apply] {
        let world = World::new();
        world.open(&deploy()).await;
        world.clock.forward(30 * crate::world::MINUTE);
        world.store.fail(operation, Fault::NotDone);
        world.approvals.sweep("one").await.unwrap_err();
        assert_eq!(world.approvals.sweep("one").await.unwrap(), 1);
    }
}
