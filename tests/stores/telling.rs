//! Deliveries that do not go well: tried again, given up, revived.

use std::time::Duration;

use countersign::approval::{Event, FrozenRequirement};
use countersign::usecase::approval_store::{Delivery, DeliveryOutcome};

use crate::delivering::{post_all, posted};
use crate::support::{SOC, Store, ask, at, claim, done, refused, rule, wish, yes};

fn alone() -> FrozenRequirement {
    FrozenRequirement {
        notify: vec![SOC.to_owned()],
        ..rule("release", 9)
    }
}

/// Opens an approval of which one place is told, and claims that.
async fn one(store: &Store) -> (countersign::approval::Approval, Delivery) {
    let approval = ask("a").rules(vec![alone()]).open(store, 0).await;
    let delivery = claim(store, 0).await.pop().unwrap();
    (approval, delivery)
}

async fn retry(store: &Store, delivery: Delivery, at_seconds: i64) {
    let outcome = DeliveryOutcome::Retry {
        at: at(at_seconds),
        error: "503".to_owned(),
    };
    store
        .finish_delivery(delivery, outcome, at(1))
        .await
        .unwrap();
}

async fn give_up(store: &Store, delivery: Delivery) {
    let outcome = DeliveryOutcome::Dead {
        error: "404".to_owned(),
    };
    store
        .finish_delivery(delivery, outcome, at(1))
        .await
        .unwrap();
}

pub(crate) async fn a_retry_waits_for_its_time(store: Store) {
    let (approval, delivery) = one(&store).await;
    retry(&store, delivery, 60).await;
    assert_eq!(claim(&store, 59).await, []);
    let told = store.deliveries(Some(approval.id.clone())).await.unwrap();
    assert_eq!(
        (told[0].attempts, told[0].error.as_deref()),
        (1, Some("503"))
    );
    let again = claim(&store, 60).await;
    assert_eq!(again[0].attempt, 2);
    post_all(&store, again, 61).await;
    let told = store.deliveries(Some(approval.id)).await.unwrap();
    assert_eq!((told[0].posted_version, &told[0].error), (1, &None));
}

pub(crate) async fn a_change_does_not_hurry_a_retry(store: Store) {
    let (approval, delivery) = one(&store).await;
    retry(&store, delivery, 60).await;
    done(&store, yes(&approval, "ada"), 2).await;
    assert_eq!(claim(&store, 59).await, []);
    let again = claim(&store, 60).await;
    assert_eq!((again[0].desired_version, again[0].attempt), (2, 1));
}

pub(crate) async fn what_is_given_up_stays_visible(store: Store) {
    let (approval, delivery) = one(&store).await;
    ask("well").open(&store, 1).await;
    give_up(&store, delivery).await;
    post_all(&store, claim(&store, 2).await, 2).await;
    assert_eq!(claim(&store, 90_000).await, []);
    let dead = store.deliveries(None).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (&dead[0].approval, dead[0].destination.as_str()),
        (&approval.id, SOC)
    );
    assert_eq!(
        (dead[0].is_dead, dead[0].error.as_deref()),
        (true, Some("404"))
    );
    assert_eq!((dead[0].desired_version, dead[0].posted_version), (1, 0));
}

pub(crate) async fn the_next_change_revives_what_was_given_up(store: Store) {
    let (approval, delivery) = one(&store).await;
    give_up(&store, delivery).await;
    done(&store, yes(&approval, "ada"), 2).await;
    assert_eq!(store.deliveries(None).await.unwrap(), []);
    let again = claim(&store, 2).await;
    assert_eq!((again[0].desired_version, again[0].attempt), (2, 1));
}

pub(crate) async fn a_change_during_the_last_try_is_told(store: Store) {
    let (approval, delivery) = one(&store).await;
    done(&store, yes(&approval, "ada"), 1).await;
    give_up(&store, delivery).await;
    assert_eq!(store.deliveries(None).await.unwrap(), []);
    let again = claim(&store, 2).await;
    assert_eq!(again[0].desired_version, 2);
}

pub(crate) async fn a_message_reference_is_kept(store: Store) {
    let (approval, delivery) = one(&store).await;
    let outcome = DeliveryOutcome::Posted {
        version: 1,
        reference: Some("C1/1700000000.1".to_owned()),
    };
    store
        .finish_delivery(delivery, outcome, at(1))
        .await
        .unwrap();
    done(&store, yes(&approval, "ada"), 2).await;
    let edit = claim(&store, 2).await.pop().unwrap();
    assert_eq!(edit.reference.as_deref(), Some("C1/1700000000.1"));
    // Who says nothing of the reference does not take it away.
    store.finish_delivery(edit, posted(2), at(3)).await.unwrap();
    done(&store, yes(&approval, "bob"), 4).await;
    let edit = claim(&store, 4).await.pop().unwrap();
    assert_eq!(edit.reference.as_deref(), Some("C1/1700000000.1"));
}

pub(crate) async fn a_place_asked_later_is_told_from_then_on(store: Store) {
    let rule = FrozenRequirement {
        escalate_after: Some(Duration::from_secs(60)),
        escalate_to: vec!["slack:boss".to_owned()],
        ..alone()
    };
    let approval = ask("a").rules(vec![rule]).open(&store, 0).await;
    post_all(&store, claim(&store, 0).await, 0).await;
    done(&store, wish(&approval.id, Event::Tick), 60).await;
    let due = claim(&store, 60).await;
    let places: Vec<(&str, u64)> = due
        .iter()
        .map(|each| (each.destination.as_str(), each.posted_version))
        .collect();
    assert_eq!(places, [("slack:boss", 0), (SOC, 1)]);
}

pub(crate) async fn a_refusal_tells_nobody(store: Store) {
    let (approval, delivery) = one(&store).await;
    post_all(&store, vec![delivery], 1).await;
    refused(&store, yes(&approval, "owner"), 2).await;
    assert_eq!(claim(&store, 3).await, []);
}
