//! Many at once: one wins, and a no is never lost.

use std::sync::Arc;

use countersign::approval::{Choice, Status};
use countersign::model::Decision;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::request::{Ask, deploy};
use crate::world::{World, ballot, words};

/// Authorizes all of `asks` at once.
async fn at_once(world: &Arc<World>, asks: Vec<Ask>) -> Vec<(String, String)> {
    let start = Arc::new(Barrier::new(asks.len()));
    let mut tasks = JoinSet::new();
    for ask in asks {
        let (world, start) = (Arc::clone(world), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let answer = world.authorize(&ask).await;
            let id = answer.as_ref().map(|answer| answer.decision_id.to_string());
            (words(&answer), id.unwrap_or_default())
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_redeemers_one_is_allowed() {
    for round in 0..5 {
        let world = Arc::new(World::new());
        let approval = world.approved(&deploy()).await;
        let redeem = |index: usize| deploy().redeeming(&approval).key(&format!("{index}"));
        let answers = at_once(&world, (0..64).map(redeem).collect()).await;
        let allowed = answers
            .iter()
            .filter(|(words, _)| words.starts_with("ALLOW"));
        assert_eq!(allowed.count(), 1, "round {round}: {answers:?}");
        let denied = answers.iter().filter(|(words, _)| words == "DENY Redeemed");
        assert_eq!(denied.count(), 63, "round {round}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_redeemers_without_a_key_one_is_allowed() {
    let world = Arc::new(World::new());
    let approval = world.approved(&deploy()).await;
    let answers = at_once(&world, vec![deploy().redeeming(&approval); 64]).await;
    let allowed = answers
        .iter()
        .filter(|(words, _)| words.starts_with("ALLOW"));
    assert_eq!(allowed.count(), 1, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_redeemer_who_asks_64_times_gets_one_answer() {
    let world = Arc::new(World::new());
    let approval = world.approved(&deploy()).await;
    let redeem = deploy().redeeming(&approval).key("k");
    let answers = at_once(&world, vec![redeem; 64]).await;
    assert_eq!(answers[0].0, "ALLOW granted by REDEEMED");
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

/// Asking for it again and again keeps nobody from redeeming it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_join_do_not_keep_a_redeemer_away() {
    let world = Arc::new(World::new());
    let approval = world.approved(&deploy()).await;
    let mut asks = vec![deploy(); 63];
    asks.push(deploy().redeeming(&approval));
    let answers = at_once(&world, asks).await;
    let allowed = answers
        .iter()
        .filter(|(words, _)| words.starts_with("ALLOW"));
    assert!(
        allowed.count() == 1 || world.status(&approval).await == Status::Approved,
        "{answers:?}"
    );
    let errors = answers
        .iter()
        .filter(|(words, _)| words.starts_with("error"));
    assert_eq!(errors.count(), 0, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_who_ask_at_once_all_get_one_approval() {
    let world = Arc::new(World::new());
    let answers = at_once(&world, vec![deploy(); 64]).await;
    assert!(
        answers
            .iter()
            .all(|(words, _)| words == "REQUIRE_APPROVAL waits for PENDING")
    );
    let approval = world.open(&deploy()).await;
    assert_eq!(approval.joined, 64);
    assert_eq!(world.deliver().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_no_beats_a_yes_in_200_rounds() {
    let world = Arc::new(World::new());
    for round in 0..200 {
        world.clock.forward(crate::world::MINUTE);
        let approval = world.open(&deploy().version(&round.to_string())).await;
        world.approve("alice", &approval).await.unwrap();
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        for (who, choice) in [("bob", Choice::Approve), ("carol", Choice::Deny)] {
            let vote = ballot(who, choice, &approval);
            let (world, start) = (Arc::clone(&world), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                (choice, world.approvals.vote(vote).await.is_ok())
            });
        }
        let votes = tasks.join_all().await;
        assert!(
            votes.contains(&(Choice::Deny, true)),
            "round {round}: the no was lost"
        );
        let status = world.status(&approval).await;
        assert!(
            matches!(status, Status::Denied | Status::Revoked),
            "round {round}: {status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_no_and_a_redemption_at_once_are_not_both_fulfilled() {
    let world = Arc::new(World::new());
    for round in 0..100 {
        world.clock.forward(crate::world::MINUTE);
        let ask = deploy().version(&round.to_string());
        let approval = world.approved(&ask).await;
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        let no = ballot("carol", Choice::Deny, &approval);
        let redeem = ask.redeeming(&approval);
        {
            let (world, start) = (Arc::clone(&world), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                world.approvals.vote(no).await.is_ok()
            });
        }
        {
            let (world, start) = (Arc::clone(&world), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                let answer = world.authorize(&redeem).await;
                answer.is_ok_and(|answer| answer.decision() == Decision::Allow)
            });
        }
        let done = tasks
            .join_all()
            .await
            .into_iter()
            .filter(|done| *done)
            .count();
        assert_eq!(done, 1, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn votes_at_once_fill_the_quorum_once() {
    let world = Arc::new(World::new());
    for round in 0..50 {
        world.clock.forward(crate::world::MINUTE);
        let approval = world.open(&deploy().version(&round.to_string())).await;
        let voters = [
            "alice",
            "alice",
            "bob",
            "carol",
            "dora",
            "dora-admin",
            "olive",
            "eve",
        ];
        let start = Arc::new(Barrier::new(voters.len()));
        let mut tasks = JoinSet::new();
        for who in voters {
            let vote = ballot(who, Choice::Approve, &approval);
            let (world, start) = (Arc::clone(&world), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                drop(world.approvals.vote(vote).await);
            });
        }
        tasks.join_all().await;
        let approval = world.now_of(&approval).await;
        assert_eq!(approval.status(), Status::Approved, "round {round}");
        let persons = approval.counted_votes();
        assert_eq!(
            (approval.votes.len(), persons.len()),
            (2, 2),
            "round {round}"
        );
    }
}
