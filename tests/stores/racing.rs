//! Races: whatever the order, nothing gets stuck, no no is lost, and a grant is spent at most once.

use std::time::Duration;

use countersign::approval::{Approval, Choice, Event, Refusal, State, Status};
use countersign::usecase::approval_store::{Applied, ApplyCommand};
use tokio::task::JoinSet;

use crate::support::{Store, ask, at, found, no, redeem, redeem_with, vote, yes};

/// How often each race is run.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a test takes is for whoever runs it to say"
)]
pub(crate) fn rounds() -> u32 {
    let told = std::env::var("COUNTERSIGN_ROUNDS").ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Applies all of `commands` at the same time.
async fn race(store: &Store, commands: Vec<ApplyCommand>) -> Vec<Applied> {
    let mut tasks = JoinSet::new();
    for command in commands {
        let store = store.clone();
        tasks.spawn(async move { store.apply(command, at(1)).await.unwrap() });
    }
    tasks.join_all().await
}

fn is_done(applied: &Applied) -> bool {
    matches!(applied, Applied::Done(_))
}

pub(crate) async fn two_votes_that_fill_a_quorum_together_never_get_stuck(store: Store) {
    for round in 0..rounds() {
        let approval = ask(&format!("r{round}")).quorum(2).open(&store, 0).await;
        let votes = ["ada", "bob", "eve"].map(|name| yes(&approval, name));
        let applied = race(&store, votes.to_vec()).await;
        assert_eq!(applied.iter().filter(|each| is_done(each)).count(), 2);
        for each in &applied {
            let is_fair = is_done(each)
                || matches!(
                    each,
                    Applied::Refused(
                        _,
                        Refusal::AlreadyResolved {
                            status: Status::Approved,
                            ..
                        }
                    )
                );
            assert!(is_fair, "{each:?}");
        }
        let stored = found(&store, &approval.id).await;
        assert_eq!((stored.status(), stored.version), (Status::Approved, 3));
    }
}

/// Redeems as soon as that is possible, or until it is clear that it never will be.
async fn redeem_patiently(store: Store, approval: Approval, key: String) -> Applied {
    loop {
        let applied = store.apply(redeem(&approval, &key), at(2)).await.unwrap();
        let Applied::Refused(_, Refusal::StillPending) = applied else {
            return applied;
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) async fn a_no_is_never_lost_and_a_grant_is_spent_at_most_once(store: Store) {
    for round in 0..rounds() {
        let approval = ask(&format!("r{round}")).quorum(2).open(&store, 0).await;
        let mut redeemers = JoinSet::new();
        for n in 0..3 {
            let task = redeem_patiently(store.clone(), approval.clone(), format!("k{n}"));
            redeemers.spawn(task);
        }
        let mut votes = vec![
            yes(&approval, "ada"),
            yes(&approval, "bob"),
            no(&approval, "eve"),
        ];
        votes.rotate_left(usize::try_from(round % 3).unwrap());
        let applied = race(&store, votes).await;
        let redeemed = redeemers.join_all().await;
        let spent = redeemed.iter().filter(|each| is_done(each)).count();
        let stored = found(&store, &approval.id).await;
        let said_no = stored.votes.iter().any(|vote| vote.choice == Choice::Deny);
        match &stored.state {
            State::Redeemed { .. } => assert_eq!((spent, said_no), (1, false)),
            State::Closed(Status::Denied | Status::Revoked, _) => {
                assert_eq!((spent, said_no), (0, true));
            }
            State::Pending | State::Approved(_) | State::Closed(..) => panic!("stuck: {stored:?}"),
        }
        let counted = applied.iter().filter(|each| is_done(each)).count();
        assert_eq!(stored.votes.len(), counted);
    }
}

pub(crate) async fn many_voters_on_one_approval_are_all_counted(store: Store) {
    let approval = ask("a").quorum(50).open(&store, 0).await;
    let names: Vec<String> = (0..50).map(|n| format!("voter {n}")).collect();
    // Everybody presses the button twice.
    let twice = names.iter().chain(&names);
    let votes = twice.map(|name| vote(&approval, name, Choice::Approve));
    let applied = race(&store, votes.collect()).await;
    assert_eq!(applied.iter().filter(|each| is_done(each)).count(), 50);
    let stored = found(&store, &approval.id).await;
    assert_eq!((stored.status(), stored.version), (Status::Approved, 51));
    assert_eq!(stored.votes.len(), 50);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Event::Redeem(attempt) = redeem_with(&approval, "k", &names).event else {
        panic!("not a redemption");
    };
    let command = crate::support::wish(&approval.id, Event::Redeem(attempt));
    crate::support::done(&store, command, 2).await;
}

pub(crate) async fn a_lease_has_one_holder(store: Store) {
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let store = store.clone();
        let ttl = Duration::from_secs(10);
        tasks.spawn(async move {
            store
                .lease("sweeper", format!("holder {n}"), ttl, at(0))
                .await
        });
    }
    let epochs = tasks.join_all().await;
    let held: Vec<u64> = epochs.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(held, [1]);
}
