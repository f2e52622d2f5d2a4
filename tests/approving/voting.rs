//! Votes: who wins, what is too late, what is refused.

use countersign::approval::{Choice, Digest, Refusal, Status};
use countersign::usecase::approvals::ApprovalsError;

use crate::request::deploy;
use crate::world::{World, ballot, by_caller, by_person};

fn refusal(error: ApprovalsError) -> Refusal {
    let ApprovalsError::Refused(_, refusal) = error else {
        panic!("{error:?}");
    };
    refusal
}

#[tokio::test]
async fn a_no_ends_it() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.approve("alice", &approval).await.unwrap();
    world.deny("bob", &approval).await.unwrap();
    assert_eq!(world.standing(&approval).await, "DENIED VETO");
    let late = world.approve("carol", &approval).await.unwrap_err();
    assert!(matches!(
        refusal(late),
        Refusal::AlreadyResolved {
            status: Status::Denied,
            ..
        }
    ));
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Closed"
    );
}

#[tokio::test]
async fn a_no_after_the_quorum_takes_the_grant_back() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let voted = world.deny("carol", &approval).await.unwrap();
    assert!(voted.is_counted);
    assert_eq!(world.standing(&approval).await, "REVOKED VETO");
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Closed"
    );
}

#[tokio::test]
async fn a_no_after_the_redemption_is_too_late() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    let late = world.deny("carol", &approval).await.unwrap_err();
    assert!(matches!(
        refusal(late),
        Refusal::AlreadyResolved {
            status: Status::Redeemed,
            ..
        }
    ));
    assert_eq!(world.status(&approval).await, Status::Redeemed);
}

#[tokio::test]
async fn whoever_approved_may_change_their_mind_once() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world.deny("alice", &approval).await.unwrap();
    assert_eq!(world.status(&approval).await, Status::Revoked);
    let back = world.approve("alice", &approval).await.unwrap_err();
    assert!(matches!(refusal(back), Refusal::AlreadyResolved { .. }));
    assert_eq!(world.now_of(&approval).await.votes.len(), 3);
}

#[tokio::test]
async fn voting_twice_counts_once() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.approve("alice", &approval).await.unwrap();
    let twice = world.approve("alice", &approval).await.unwrap_err();
    assert_eq!(refusal(twice), Refusal::AlreadyVoted);
    assert_eq!(world.status(&approval).await, Status::Pending);
}

#[tokio::test]
async fn the_same_vote_again_is_the_same_vote() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let mut vote = ballot("alice", Choice::Approve, &approval);
    vote.request_id = Some("click".to_owned());
    world.approvals.vote(vote.clone()).await.unwrap();
    let again = world.approvals.vote(vote.clone()).await.unwrap();
    assert_eq!(again.approval.votes.len(), 1);
    // The key belongs to that vote and that person.
    vote.choice = Choice::Deny;
    let other = world.approvals.vote(vote.clone()).await.unwrap_err();
    assert_eq!(other, ApprovalsError::KeyReused);
    vote.person.subject = "bob".to_owned();
    vote.choice = Choice::Approve;
    let theirs = world.approvals.vote(vote).await.unwrap();
    assert_eq!(theirs.approval.status(), Status::Approved);
}

#[tokio::test]
async fn a_refused_vote_may_be_tried_again_with_its_key() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let mut vote = ballot("eve", Choice::Approve, &approval);
    vote.request_id = Some("click".to_owned());
    world.approvals.vote(vote.clone()).await.unwrap_err();
    world.user("eve", &[], &["sre"]);
    let voted = world.approvals.vote(vote).await.unwrap();
    assert_eq!(voted.approval.votes.len(), 1);
}

#[tokio::test]
async fn a_vote_on_something_else_is_refused() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let other = world.open(&deploy().version("2.0")).await;
    for choice in [Choice::Approve, Choice::Deny] {
        let mut vote = ballot("alice", choice, &approval);
        vote.request_digest = other.asked.digest;
        let error = world.approvals.vote(vote).await.unwrap_err();
        assert_eq!(refusal(error), Refusal::OtherRequest);

        let mut vote = ballot("alice", choice, &approval);
        vote.view_digest = Digest::of("something", b"else");
        let error = world.approvals.vote(vote).await.unwrap_err();
        assert_eq!(refusal(error), Refusal::OtherView);
    }
    assert_eq!(world.refused_votes(&approval).await.len(), 4);
    assert_eq!(world.now_of(&approval).await.votes, []);
}

/// The same request with other words around it is another approval's view.
#[tokio::test]
async fn the_view_is_bound_to_what_the_agent_said() {
    let world = World::new();
    let first = world.open(&deploy().because("a fix")).await;
    world.cancel(by_caller("gateway"), &first).await.unwrap();
    let second = world.open(&deploy().because("nothing to see here")).await;
    assert_eq!(first.asked.digest, second.asked.digest);
    assert_ne!(first.asked.view_digest, second.asked.view_digest);
    let mut stale = ballot("alice", Choice::Approve, &first);
    stale.id = second.id.clone();
    let error = world.approvals.vote(stale).await.unwrap_err();
    assert_eq!(refusal(error), Refusal::OtherView);
}

#[tokio::test]
async fn whoever_comes_too_late_finds_what_they_wished_for() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let voted = world.approve("carol", &approval).await.unwrap();
    assert!(!voted.is_counted);
    assert_eq!(voted.approval.votes.len(), 2);

    let denied = world.open(&deploy().version("2.0")).await;
    world.deny("alice", &denied).await.unwrap();
    let voted = world.deny("bob", &denied).await.unwrap();
    assert!(!voted.is_counted);
}

#[tokio::test]
async fn strangers_and_reviewers_do_not_cancel() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    for by in [
        by_person("eve"),
        by_person("alice"),
        by_person(""),
        by_person("mallory"),
        by_caller(""),
        by_caller("other"),
    ] {
        let error = world.cancel(by.clone(), &approval).await.unwrap_err();
        assert_eq!(refusal(error), Refusal::NotTheRequester, "{by:?}");
    }
    assert_eq!(world.status(&approval).await, Status::Pending);
    assert_eq!(world.records(&approval.id).await.len(), 7);
    world.cancel(by_caller("gateway"), &approval).await.unwrap();
    assert_eq!(world.status(&approval).await, Status::Cancelled);
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Closed"
    );
}

#[tokio::test]
async fn what_is_approved_is_revoked_and_not_cancelled() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world
        .cancel(by_caller("gateway"), &approval)
        .await
        .unwrap_err();
    let error = world.revoke(by_person("eve"), &approval).await.unwrap_err();
    assert!(matches!(refusal(error), Refusal::NotEligible { .. }));
    let error = world
        .revoke(by_caller("other"), &approval)
        .await
        .unwrap_err();
    assert_eq!(refusal(error), Refusal::NotTheRequester);
    assert_eq!(world.status(&approval).await, Status::Approved);
    // Any reviewer, though they did not vote.
    world.revoke(by_person("carol"), &approval).await.unwrap();
    assert_eq!(world.status(&approval).await, Status::Revoked);
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Closed"
    );
}

#[tokio::test]
async fn what_is_pending_is_not_revoked() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    for by in [by_person("alice"), by_caller("gateway")] {
        let error = world.revoke(by, &approval).await.unwrap_err();
        assert_eq!(refusal(error), Refusal::StillPending);
    }
}

#[tokio::test]
async fn what_is_redeemed_is_neither_cancelled_nor_revoked() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    world
        .cancel(by_caller("gateway"), &approval)
        .await
        .unwrap_err();
    world
        .revoke(by_person("carol"), &approval)
        .await
        .unwrap_err();
    assert_eq!(world.status(&approval).await, Status::Redeemed);
}

#[tokio::test]
async fn reviewers_are_listed_without_the_requesters_side() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let listed = world.approvals.reviewers(&approval.id).await.unwrap();
    let names: Vec<&str> = listed
        .reviewers
        .iter()
        .map(|each| each.reviewer.id.as_str())
        .collect();
    assert_eq!(
        names,
        ["alice", "bob", "carol", "dora", "paul", "pia", "rita"]
    );
    assert!(listed.is_enough);
}
