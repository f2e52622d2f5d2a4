//! Those who wait, those who sweep, and those who are told.

use std::sync::Arc;
use std::time::Duration;

use countersign::approval::{Event, Status};
use countersign::usecase::approvals::WaitFor;

use crate::request::deploy;
use crate::store::{Fault, Operation};
use crate::world::{MINUTE, World, by_caller};

/// Runs `act` while somebody waits, and answers what they hear.
async fn waiting(
    world: &World,
    id: &countersign::approval::ApprovalId,
    wish: WaitFor,
    act: impl Future<Output = ()>,
) -> Option<Status> {
    let wait = world.approvals.wait(id, wish);
    let both = async {
        let act = async {
            tokio::task::yield_now().await;
            act.await;
        };
        tokio::join!(wait, act).0
    };
    let heard = tokio::select! {
        heard = both => heard,
        () = world.approvals.tell_watchers() => unreachable!("it tells for ever"),
    };
    heard.unwrap().map(|details| details.approval.status())
}

#[tokio::test]
async fn whoever_waits_hears_of_a_change() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let heard = waiting(&world, &approval.id, WaitFor::After(1), async {
        world.approve("alice", &approval).await.unwrap();
    });
    assert_eq!(heard.await, Some(Status::Pending));
}

#[tokio::test]
async fn whoever_waits_for_the_end_hears_of_the_end_only() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let heard = waiting(&world, &approval.id, WaitFor::Resolution, async {
        world.approve("alice", &approval).await.unwrap();
        tokio::task::yield_now().await;
        world.approve("bob", &approval).await.unwrap();
    });
    assert_eq!(heard.await, Some(Status::Approved));
}

#[tokio::test]
async fn whoever_comes_after_the_change_does_not_wait() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.deny("alice", &approval).await.unwrap();
    for wish in [WaitFor::After(1), WaitFor::Resolution] {
        let details = world
            .approvals
            .wait(&approval.id, wish)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(details.approval.status(), Status::Denied);
    }
}

#[tokio::test]
async fn whoever_waits_is_sent_away_when_the_server_stops() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let heard = waiting(&world, &approval.id, WaitFor::Resolution, async {
        world.approvals.stop_watching();
    });
    assert_eq!(heard.await, None);
    // And so is whoever comes then.
    let wait = world.approvals.wait(&approval.id, WaitFor::Resolution);
    assert!(wait.await.unwrap().is_none());
}

#[tokio::test]
async fn waiting_for_what_does_not_exist_is_an_error() {
    let world = World::new();
    let id = countersign::approval::ApprovalId::new("nobody");
    world
        .approvals
        .wait(&id, WaitFor::Resolution)
        .await
        .unwrap_err();
}

/// Time ends it, and the sweeper says so.
#[tokio::test]
async fn whoever_waits_hears_of_the_expiry() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let heard = waiting(&world, &approval.id, WaitFor::Resolution, async {
        world.clock.forward(30 * MINUTE);
        world.approvals.sweep("one").await.unwrap();
    });
    assert_eq!(heard.await, Some(Status::Expired));
}

#[tokio::test]
async fn of_two_sweepers_one_works() {
    let world = World::new();
    for version in ["1", "2", "3"] {
        world.open(&deploy().version(version)).await;
    }
    world.clock.forward(30 * MINUTE);
    let (one, two) = tokio::join!(world.approvals.sweep("one"), world.approvals.sweep("two"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one + two, one.min(two)), (3, 0));
    // Once the first is gone for a while the other takes over.
    world.open(&deploy().version("4")).await;
    world.clock.forward(30 * MINUTE);
    assert_eq!(world.approvals.sweep("two").await.unwrap(), 1);
    assert_eq!(world.approvals.sweep("one").await.unwrap(), 0);
}

fn nobody_reviews(world: &World) {
    world.write("reviewers.cedar", "");
    world.reload();
}

#[tokio::test]
async fn what_nobody_is_left_to_approve_is_denied() {
    let world = World::new();
    let stranded = world.open(&deploy()).await;
    let approved = world.approved(&deploy().version("2.0")).await;
    assert_eq!(world.approvals.strand().await.unwrap(), 0);
    nobody_reviews(&world);
    assert_eq!(world.approvals.strand().await.unwrap(), 1);
    assert_eq!(world.standing(&stranded).await, "DENIED UNREACHABLE_QUORUM");
    assert_eq!(world.status(&approved).await, Status::Approved);
    let told = world.deliver().await;
    assert!(
        told.iter().any(|(_, _, status)| *status == Status::Denied),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_is_left_to_enough_people_is_not_denied() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    for name in ["carol", "dora", "dora-admin", "paul", "pia", "rita"] {
        world.user(name, &[], &[]);
    }
    for name in ["paul-admin", "pia-admin", "rita-admin"] {
        world.user(name, &[], &[]);
    }
    assert_eq!(world.approvals.strand().await.unwrap(), 0);
    world.user("bob", &[], &[]);
    assert_eq!(world.approvals.strand().await.unwrap(), 1);
    assert_eq!(world.standing(&approval).await, "DENIED UNREACHABLE_QUORUM");
}

#[tokio::test]
async fn more_than_a_page_of_them_is_denied() {
    let limits = countersign::approval::flood::FloodLimits {
        pending_per_requester: 1000,
        opened_per_minute: 1000,
        ..Default::default()
    };
    let world = crate::world::WorldBuilder::new().limits(limits).build();
    for version in 0..250 {
        world.open(&deploy().version(&version.to_string())).await;
    }
    nobody_reviews(&world);
    assert_eq!(world.approvals.strand().await.unwrap(), 250);
}

/// A change that does not concern the quorum keeps nothing from being ended, and what was not ended is not counted.
#[tokio::test]
async fn what_others_change_meanwhile_is_denied_all_the_same() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    nobody_reviews(&world);
    world
        .store
        .fail(Operation::Apply, Fault::Meanwhile(Box::new(Event::Join)));
    assert_eq!(world.approvals.strand().await.unwrap(), 1);
    assert_eq!(world.standing(&approval).await, "DENIED UNREACHABLE_QUORUM");

    let world = World::new();
    let approval = world.open(&deploy()).await;
    nobody_reviews(&world);
    let cancelled = Event::Cancel(countersign::approval::Withdrawal {
        by: countersign::approval::Actor::Caller("gateway".to_owned()),
        standing: None,
        comment: None,
    });
    world
        .store
        .fail(Operation::Apply, Fault::Meanwhile(Box::new(cancelled)));
    assert_eq!(world.approvals.strand().await.unwrap(), 0);
    assert_eq!(world.status(&approval).await, Status::Cancelled);
}

#[tokio::test]
async fn a_burst_is_told_once_as_it_stands_then() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    assert_eq!(
        world.deliver().await,
        [("webhook:soc".to_owned(), 3, Status::Approved)]
    );
    assert_eq!(world.deliver().await, []);
    world.revoke(by_caller("gateway"), &approval).await.unwrap();
    assert_eq!(
        world.deliver().await,
        [("webhook:soc".to_owned(), 4, Status::Revoked)]
    );
}

#[tokio::test]
async fn a_place_gets_the_time_it_asks_for() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world
        .channels
        .fail("webhook:soc", Some(Duration::from_secs(40)));
    assert_eq!(world.deliver().await, []);
    world.channels.heal();
    world.clock.forward(Duration::from_secs(39));
    // Not even a change makes it earlier.
    world.approve("alice", &approval).await.unwrap();
    assert_eq!(world.deliver().await, []);
    let details = world.approvals.get(&approval.id).await.unwrap();
    assert_eq!(details.failed.len(), 1);
    assert!(!details.failed[0].is_dead);
    world.clock.forward(Duration::from_secs(1));
    assert_eq!(
        world.deliver().await,
        [("webhook:soc".to_owned(), 2, Status::Pending)]
    );
    assert_eq!(world.approvals.get(&approval.id).await.unwrap().failed, []);
}

#[tokio::test]
async fn what_was_given_up_is_shown_and_tried_again_after_a_change() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    world.channels.fail("webhook:soc", None);
    assert_eq!(world.deliver().await, []);
    let details = world.approvals.get(&approval.id).await.unwrap();
    assert!(details.failed[0].is_dead);
    world.channels.heal();
    world.clock.forward(60 * MINUTE / 4);
    assert_eq!(world.deliver().await, []);
    world.approve("alice", &approval).await.unwrap();
    assert_eq!(
        world.deliver().await,
        [("webhook:soc".to_owned(), 2, Status::Pending)]
    );
}

/// A place that does not answer keeps no other from hearing, and nobody from deciding.
#[tokio::test]
async fn a_dead_place_blocks_nothing() {
    let world = crate::world::WorldBuilder::new().build();
    world.replace(
        "approvals.toml",
        "[\"webhook:soc\"]",
        "[\"slack:#a\", \"webhook:soc\"]",
    );
    world.reload();
    world
        .channels
        .fail("slack:#a", Some(Duration::from_secs(1)));
    let approval = world.approved(&deploy()).await;
    assert_eq!(
        world.deliver().await,
        [("webhook:soc".to_owned(), 3, Status::Approved)]
    );
    let redeem = deploy().redeeming(&approval);
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
}

/// Nobody is shown how to approve what is already over.
#[tokio::test]
async fn a_first_telling_that_comes_late_shows_how_it_stands() {
    let world = World::new();
    world.open(&deploy()).await;
    world.clock.forward(30 * MINUTE);
    assert_eq!(
        world.deliver().await,
        [("webhook:soc".to_owned(), 1, Status::Expired)]
    );
}

#[tokio::test]
async fn every_approval_is_told_however_many_there_are() {
    let world = World::new();
    for version in 0..10 {
        world.open(&deploy().version(&version.to_string())).await;
    }
    world.clock.forward(2 * MINUTE);
    for version in 10..20 {
        world.open(&deploy().version(&version.to_string())).await;
    }
    let mut told = 0;
    for _ in 0..3 {
        told += world.deliver().await.len();
    }
    assert_eq!(told, 20);
    drop(Arc::clone(&world.channels));
}
