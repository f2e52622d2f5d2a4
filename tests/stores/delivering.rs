//! Deliveries: made with the change, one for each place however much changed, and held by one worker at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::usecase::approval_store::{Delivery, DeliveryOutcome};
use tokio::task::JoinSet;

use crate::support::{OPS, SOC, Store, ask, at, claim, done, yes};

pub(crate) fn posted(version: u64) -> DeliveryOutcome {
    DeliveryOutcome::Posted {
        version,
        reference: None,
    }
}

/// Keeps that everything claimed was told.
pub(crate) async fn post_all(store: &Store, deliveries: Vec<Delivery>, seconds: i64) {
    for delivery in deliveries {
        let outcome = posted(delivery.desired_version);
        store
            .finish_delivery(delivery, outcome, at(seconds))
            .await
            .unwrap();
    }
}

pub(crate) async fn a_change_makes_a_delivery_for_each_place(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let told = store.deliveries(Some(approval.id.clone())).await.unwrap();
    let places: Vec<&str> = told.iter().map(|each| each.destination.as_str()).collect();
    assert_eq!(places, [OPS, SOC]);
    for each in &told {
        assert_eq!((each.desired_version, each.posted_version), (1, 0));
        assert_eq!(
            (each.attempts, each.is_dead, &each.error),
            (0, false, &None)
        );
    }
    let due = claim(&store, 1).await;
    assert_eq!(due.len(), 2);
    for each in &due {
        assert_eq!(each.approval, approval.id);
        assert_eq!((each.desired_version, each.posted_version), (1, 0));
        assert_eq!((each.attempt, &each.reference), (1, &None));
        assert_eq!(each.leased_until, at(31));
    }
}

pub(crate) async fn three_votes_are_one_delivery(store: Store) {
    let approval = ask("a").quorum(9).open(&store, 0).await;
    post_all(&store, claim(&store, 0).await, 0).await;
    for name in ["ada", "bob", "eve"] {
        done(&store, yes(&approval, name), 1).await;
    }
    let due = claim(&store, 2).await;
    assert_eq!(due.len(), 2);
    for each in &due {
        assert_eq!((each.desired_version, each.posted_version), (4, 1));
        assert_eq!(each.attempt, 1);
    }
}

pub(crate) async fn what_is_posted_is_not_due_until_the_next_change(store: Store) {
    let approval = ask("a").quorum(9).open(&store, 0).await;
    post_all(&store, claim(&store, 0).await, 0).await;
    assert_eq!(claim(&store, 5000).await, []);
    let told = store.deliveries(Some(approval.id.clone())).await.unwrap();
    assert!(told.iter().all(|each| each.posted_version == 1));
    done(&store, yes(&approval, "ada"), 1).await;
    assert_eq!(claim(&store, 1).await.len(), 2);
}

pub(crate) async fn a_change_while_it_is_told_is_told_afterwards(store: Store) {
    let approval = ask("a").quorum(9).open(&store, 0).await;
    let due = claim(&store, 0).await;
    done(&store, yes(&approval, "ada"), 1).await;
    // Whoever tells of it now would overtake, so nobody else may.
    assert_eq!(claim(&store, 2).await, []);
    post_all(&store, due, 3).await;
    let due = claim(&store, 3).await;
    assert_eq!(due.len(), 2);
    for each in &due {
        assert_eq!((each.desired_version, each.posted_version), (2, 1));
    }
    // A worker that tells of more than it was asked to need not tell again.
    done(&store, yes(&approval, "bob"), 4).await;
    for delivery in due {
        store
            .finish_delivery(delivery, posted(3), at(5))
            .await
            .unwrap();
    }
    assert_eq!(claim(&store, 6).await, []);
}

pub(crate) async fn workers_never_share_a_delivery(store: Store) {
    for n in 0..30 {
        ask(&format!("n{n}")).open(&store, 0).await;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            let lease = Duration::from_secs(30);
            store.claim_deliveries(5, lease, at(1)).await.unwrap()
        });
    }
    let claimed: Vec<Delivery> = tasks.join_all().await.into_iter().flatten().collect();
    let places: BTreeSet<(String, String)> = claimed
        .iter()
        .map(|each| (each.approval.to_string(), each.destination.clone()))
        .collect();
    assert_eq!(places.len(), claimed.len());
    assert_eq!(claimed.len() + claim(&store, 2).await.len(), 60);
}

pub(crate) async fn a_limit_is_kept_and_the_longest_due_come_first(store: Store) {
    for n in 0..4 {
        ask(&format!("n{n}")).open(&store, 10 - n).await;
    }
    let lease = Duration::from_secs(30);
    let mut order = Vec::new();
    for _ in 0..4 {
        let due = store.claim_deliveries(2, lease, at(20)).await.unwrap();
        assert_eq!(due.len(), 2);
        order.extend(due.iter().map(|each| each.approval.to_string()));
    }
    assert_eq!(order, ["n3", "n3", "n2", "n2", "n1", "n1", "n0", "n0"]);
    assert_eq!(claim(&store, 20).await, []);
}

pub(crate) async fn a_lost_worker_is_replaced_when_its_lease_ends(store: Store) {
    ask("a").open(&store, 0).await;
    claim(&store, 0).await;
    assert_eq!(claim(&store, 29).await, []);
    let again = claim(&store, 30).await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|each| each.attempt == 2));
}

pub(crate) async fn a_worker_that_lost_its_lease_is_ignored(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let lost = claim(&store, 0).await;
    let held = claim(&store, 30).await;
    post_all(&store, lost.clone(), 31).await;
    let told = store.deliveries(Some(approval.id.clone())).await.unwrap();
    assert!(told.iter().all(|each| each.posted_version == 0), "{told:?}");
    post_all(&store, held, 32).await;
    let error = "too late".to_owned();
    for delivery in lost {
        let outcome = DeliveryOutcome::Dead {
            error: error.clone(),
        };
        store
            .finish_delivery(delivery, outcome, at(33))
            .await
            .unwrap();
    }
    let told = store.deliveries(Some(approval.id)).await.unwrap();
    assert!(
        told.iter()
            .all(|each| each.posted_version == 1 && !each.is_dead)
    );
}
