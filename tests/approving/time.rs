//! Time: deadlines, reminders, escalation; with and without somebody to sweep.

use countersign::approval::{Choice, Refusal, Status};
use countersign::usecase::approval_store::ApprovalFilter;
use countersign::usecase::approvals::ApprovalsError;

use crate::request::deploy;
use crate::world::{
    MICROSECOND, MINUTE, World, WorldBuilder, ballot, by_caller, just_before, message,
};

#[tokio::test]
async fn the_last_moment_counts_and_the_next_does_not() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.clock.set(approval.expires);
    world.clock.back(MICROSECOND);
    world.approve("alice", &approval).await.unwrap();
    world.clock.forward(MICROSECOND);
    for (who, choice) in [("bob", Choice::Approve), ("carol", Choice::Deny)] {
        let late = world.approvals.vote(ballot(who, choice, &approval)).await;
        let Err(ApprovalsError::Refused(shown, refusal)) = late else {
            panic!("{late:?}");
        };
        assert_eq!(shown.status(), Status::Expired);
        assert!(matches!(
            refusal,
            Refusal::AlreadyResolved {
                status: Status::Expired,
                ..
            }
        ));
    }
    world
        .cancel(by_caller("gateway"), &approval)
        .await
        .unwrap_err();
    let answer = world.answer(&deploy().redeeming(&approval)).await;
    assert_eq!(answer, "DENY Closed");
    assert_eq!(world.status(&approval).await, Status::Expired);
}

#[tokio::test]
async fn a_grant_lasts_from_the_deciding_vote_to_its_end_and_no_longer() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.approve("alice", &approval).await.unwrap();
    world.clock.set(approval.expires);
    world.clock.back(MICROSECOND);
    world.approve("bob", &approval).await.unwrap();
    // The time to vote is over, the time to redeem is not.
    world.clock.forward(just_before(10 * MINUTE));
    let redeem = deploy().redeeming(&approval);
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");

    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world.clock.forward(10 * MINUTE);
    let answer = world.authorize(&deploy().redeeming(&approval)).await;
    assert!(message(&answer).contains("LAPSED"), "{}", message(&answer));
    assert_eq!(world.status(&approval).await, Status::Lapsed);
    world
        .revoke(by_caller("gateway"), &approval)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn without_a_sweeper_what_is_over_is_over() {
    let world = World::new();
    let expired = world.open(&deploy()).await;
    let lapsed = world.approved(&deploy().version("2.0")).await;
    world.clock.forward(30 * MINUTE);
    let of = |status| ApprovalFilter {
        statuses: [status].into(),
        ..ApprovalFilter::default()
    };
    for (status, id) in [(Status::Expired, &expired.id), (Status::Lapsed, &lapsed.id)] {
        let (page, _) = world.approvals.list(of(status), None, 10).await.unwrap();
        let ids: Vec<_> = page.approvals.iter().map(|approval| &approval.id).collect();
        assert_eq!(ids, [id], "{status}");
    }
    for status in [Status::Pending, Status::Approved] {
        let (page, _) = world.approvals.list(of(status), None, 10).await.unwrap();
        assert_eq!(page.approvals, [], "{status}");
    }
    // Nor does anybody join it.
    assert_ne!(world.open(&deploy()).await.id, expired.id);
    assert_ne!(world.open(&deploy().version("2.0")).await.id, lapsed.id);
    assert_eq!(world.status(&expired).await, Status::Expired);
}

#[tokio::test]
async fn the_sweeper_ends_what_is_over_and_says_so() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.deliver().await;
    world.clock.forward(30 * MINUTE);
    assert_eq!(world.approvals.sweep("one").await.unwrap(), 1);
    assert_eq!(world.status(&approval).await, Status::Expired);
    let told = world.deliver().await;
    assert_eq!(told, [("webhook:soc".to_owned(), 2, Status::Expired)]);
    assert_eq!(world.approvals.sweep("one").await.unwrap(), 0);
}

#[tokio::test]
async fn a_clock_that_goes_back_brings_nothing_back() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world.clock.forward(10 * MINUTE);
    world.approvals.sweep("one").await.unwrap();
    world.clock.back(10 * MINUTE);
    assert_eq!(world.status(&approval).await, Status::Lapsed);
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Closed"
    );

    let expired = world.open(&deploy().version("2.0")).await;
    world.clock.forward(30 * MINUTE);
    world.approve("alice", &expired).await.unwrap_err();
    world.clock.back(30 * MINUTE);
    world.approve("alice", &expired).await.unwrap_err();
}

#[tokio::test]
async fn a_clock_before_the_opening_allows_nothing_more() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.clock.back(60 * MINUTE);
    world.approve("alice", &approval).await.unwrap();
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "REQUIRE_APPROVAL waits for PENDING"
    );
    let approved = world.approve("bob", &approval).await.unwrap().approval;
    // The grant is counted from the vote, so it is over when the clock is right again.
    world.clock.set(approved.opened);
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Closed"
    );
}

fn escalating() -> World {
    let lines =
        "remind_after = \"5m\"\nescalate_after = \"15m\"\nescalate_to = [\"webhook:directors\"]";
    WorldBuilder::new().rule_with(lines).build()
}

#[tokio::test]
async fn reviewers_are_reminded_once() {
    let world = escalating();
    let approval = world.open(&deploy()).await;
    assert_eq!(world.deliver().await.len(), 1);
    world.clock.forward(just_before(5 * MINUTE));
    assert_eq!(world.approvals.sweep("one").await.unwrap(), 0);
    world.clock.forward(MICROSECOND);
    assert_eq!(world.approvals.sweep("one").await.unwrap(), 1);
    assert_eq!(world.deliver().await.len(), 1);
    assert!(world.now_of(&approval).await.timers.reminded.is_some());
    world.clock.forward(MINUTE);
    assert_eq!(world.approvals.sweep("one").await.unwrap(), 0);
    assert_eq!(world.deliver().await, []);
}

#[tokio::test]
async fn an_escalation_adds_reviewers_and_places_but_no_votes() {
    let world = escalating();
    let approval = world.open(&deploy()).await;
    world.approve("dirk", &approval).await.unwrap_err();
    world.deliver().await;
    world.clock.forward(15 * MINUTE);
    world.approvals.sweep("one").await.unwrap();
    let places: Vec<String> = world
        .deliver()
        .await
        .into_iter()
        .map(|told| told.0)
        .collect();
    assert_eq!(places, ["webhook:directors", "webhook:soc"]);
    let voted = world.approve("dirk", &approval).await.unwrap();
    assert_eq!(voted.approval.status(), Status::Pending);
    let voted = world.approve("alice", &approval).await.unwrap();
    assert_eq!(voted.approval.status(), Status::Approved);
    let redeem = deploy().redeeming(&approval);
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
}

/// Deadlines count whether or not somebody was there to see them, and an escalation is one.
#[tokio::test]
async fn an_escalation_does_not_wait_for_the_sweeper() {
    let world = escalating();
    let approval = world.open(&deploy()).await;
    world.clock.forward(just_before(15 * MINUTE));
    world.approve("dirk", &approval).await.unwrap_err();
    world.clock.forward(MICROSECOND);
    let listed = world.approvals.reviewers(&approval.id).await.unwrap();
    assert!(
        listed
            .reviewers
            .iter()
            .any(|each| each.reviewer.id == "dirk")
    );
    world.approve("dirk", &approval).await.unwrap();
}

/// Whoever the escalation let in counts at the redemption too, and the requester's side stays out.
#[tokio::test]
async fn an_escalation_lets_no_owner_in() {
    let world = escalating();
    world.user("olive", &[], &["sre", "directors"]);
    let approval = world.open(&deploy()).await;
    world.clock.forward(15 * MINUTE);
    world.approvals.sweep("one").await.unwrap();
    for who in ["olive", "olive-admin", "eve"] {
        world.approve(who, &approval).await.unwrap_err();
    }
    assert_eq!(world.now_of(&approval).await.votes, []);
}

#[tokio::test]
async fn nobody_says_what_became_of_it_and_it_stays_unknown() {
    use countersign::approval::{ReportedOutcome, State};
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world
        .authorize(&deploy().redeeming(&approval).key("k"))
        .await
        .unwrap();
    world.clock.forward(24 * 60 * MINUTE);
    world.approvals.sweep("one").await.unwrap();
    let State::Redeemed {
        resolution: Some(resolution),
        ..
    } = world.now_of(&approval).await.state
    else {
        panic!("it is not resolved");
    };
    assert_eq!(resolution.outcome, ReportedOutcome::Unknown);
    // Which is no new grant.
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Redeemed"
    );
}
