//! What is kept: records of everything, texts of every kind, leases, and hints of changes.

use std::time::Duration;

use countersign::approval::{Approval, ApprovalId, Event, Happening, Status};
use countersign::model::{EntityRef, Value};
use countersign::usecase::approval_store::StoredRecord;

use crate::support::{
    Store, ask, at, command_key, done, found, redeem, refused, rule, vote, voter, wish, yes,
};

async fn records(store: &Store, id: &ApprovalId) -> Vec<StoredRecord> {
    store.records(id).await.unwrap()
}

pub(crate) async fn records_tell_the_whole_story_in_order(store: Store) {
    let approval = ask("a").quorum(2).open(&store, 0).await;
    let ada = yes(&approval, "ada");
    let bob = yes(&approval, "bob");
    done(&store, ada.clone(), 1).await;
    done(&store, bob.clone(), 2).await;
    let story = records(&store, &approval.id).await;
    assert_eq!(story.len(), 3);
    assert!(story.is_sorted_by(|one, two| one.sequence < two.sequence));
    let what: Vec<&Happening> = story.iter().map(|each| &each.record.what).collect();
    let opened = Happening::Opened(Box::new(approval.clone()));
    let changed = [&ada, &bob].map(|command| Happening::Changed(command.event.clone()));
    assert_eq!(what, [&opened, &changed[0], &changed[1]]);
    let last = &story[2].record;
    assert_eq!(
        (last.from, last.to),
        (Some(Status::Pending), Status::Approved)
    );
    assert_eq!((last.at, last.version), (at(2), 3));
    assert_eq!(
        (&last.approval, last.digest),
        (&approval.id, approval.asked.digest)
    );
}

pub(crate) async fn a_refusal_is_recorded_with_its_event(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let early = redeem(&approval, "k");
    let refusal = refused(&store, early.clone(), 1).await;
    let story = records(&store, &approval.id).await;
    assert_eq!(
        story[1].record.what,
        Happening::Refused(early.event, refusal)
    );
    assert_eq!(story[1].record.version, 1);
}

pub(crate) async fn a_record_keeps_a_redemption_whole(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    done(&store, yes(&approval, "ada"), 1).await;
    let command = redeem(&approval, "k");
    done(&store, command.clone(), 2).await;
    let story = records(&store, &approval.id).await;
    assert_eq!(story[2].record.what, Happening::Changed(command.event));
}

pub(crate) async fn sequences_grow_over_all_approvals(store: Store) {
    let a = ask("a").quorum(2).open(&store, 0).await;
    let b = ask("b").quorum(2).open(&store, 0).await;
    done(&store, yes(&a, "ada"), 1).await;
    done(&store, yes(&b, "ada"), 2).await;
    let a = records(&store, &a.id).await;
    let b = records(&store, &b.id).await;
    assert!(a[0].sequence < b[0].sequence);
    assert!(b[0].sequence < a[1].sequence);
    assert!(a[1].sequence < b[1].sequence);
}

/// Texts that are trouble in SQL, in JSON, in patterns or on a screen.
const ODD: [&str; 10] = [
    "",
    "'; DROP TABLE approvals; --",
    "\"quoted\" and 'quoted' and `quoted`",
    "100% _ * ? [a-z]",
    "back\\slash \\u0041 {\"a\": 1}",
    "line\nbreak\ttab\rreturn",
    "\u{202e}right to left\u{200d}",
    "\u{1f469}\u{200d}\u{1f680} \u{10ffff} e\u{301} \u{e9}",
    "$1 :name @name ?1 {}",
    " spaces around ",
];

pub(crate) async fn odd_characters_survive(store: Store) {
    for (n, odd) in ODD.into_iter().enumerate() {
        let seconds = i64::try_from(n).unwrap();
        let mut wish = ask(odd).like(&format!("request {n}"));
        wish.request.caller = odd.to_owned();
        wish.request.principal = EntityRef::new("Agent", format!("{odd}{n}"));
        let nul = Value::String(format!("{odd}\0"));
        wish.request.context.insert(format!("{odd}\0"), nul);
        wish.request.justification = Some(odd.to_owned());
        let notify = vec![format!("webhook:{odd}")];
        wish.rules = vec![countersign::approval::FrozenRequirement {
            notify,
            ..rule(odd, 2)
        }];
        wish.key = Some(command_key("Authorize", &format!("{n}{odd}"), odd));
        let approval = wish.open(&store, seconds).await;
        assert_eq!(found(&store, &approval.id).await, approval);
        let voted = done(&store, yes(&approval, odd), seconds).await;
        assert_eq!(voted.votes[0].voter, voter(odd));
        let filter = countersign::usecase::approval_store::ApprovalFilter {
            rules: [odd.to_owned()].into(),
            requester: Some(voted.asked.request.principal.to_string()),
            ..Default::default()
        };
        let page = store.list(filter, None, 10, at(seconds)).await.unwrap();
        assert_eq!(page.approvals, [voted]);
        let told = store.deliveries(Some(approval.id.clone())).await.unwrap();
        assert_eq!(told[0].destination, format!("webhook:{odd}"));
        assert_eq!(
            store.versions(vec![approval.id.clone()]).await.unwrap(),
            [(approval.id, 2)]
        );
    }
}

pub(crate) async fn a_large_request_survives(store: Store) {
    let mut wish = ask("large");
    for n in 0..60 {
        let value = Value::Set(vec![Value::String("x".repeat(1000)), Value::Long(i64::MIN)]);
        wish.request.context.insert(format!("part {n}"), value);
    }
    assert!(wish.request.approximate_bytes() > 60_000);
    let approval = wish.open(&store, 0).await;
    let approved = done(&store, yes(&approval, "ada"), 1).await;
    assert_eq!(found(&store, &approval.id).await, approved);
    let story = records(&store, &approval.id).await;
    assert_eq!(story[0].record.what, Happening::Opened(Box::new(approval)));
}

pub(crate) async fn changes_are_heard(store: Store) {
    let mut changes = store.changes();
    let approval = ask("a").open(&store, 0).await;
    let patience = Duration::from_secs(10);
    let heard = tokio::time::timeout(patience, changes.recv())
        .await
        .unwrap();
    assert_eq!(heard.unwrap(), approval.id);
    done(&store, yes(&approval, "ada"), 1).await;
    let heard = tokio::time::timeout(patience, changes.recv())
        .await
        .unwrap();
    assert_eq!(heard.unwrap(), approval.id);
    // Whoever hears of it, sees it.
    assert_eq!(found(&store, &approval.id).await.version, 2);
}

pub(crate) async fn a_lease_is_renewed_and_its_epoch_grows_with_each_holder(store: Store) {
    let lease = async |name, holder: &str, seconds| {
        let ttl = Duration::from_secs(10);
        store
            .lease(name, holder.to_owned(), ttl, at(seconds))
            .await
            .unwrap()
    };
    assert_eq!(lease("sweeper", "one", 0).await, Some(1));
    assert_eq!(lease("sweeper", "two", 9).await, None);
    assert_eq!(lease("sweeper", "one", 9).await, Some(1));
    assert_eq!(lease("sweeper", "two", 18).await, None);
    assert_eq!(lease("sweeper", "two", 19).await, Some(2));
    assert_eq!(lease("sweeper", "one", 20).await, None);
    assert_eq!(lease("sweeper", "one", 29).await, Some(3));
    // Nobody came between, so nobody could have acted.
    assert_eq!(lease("sweeper", "one", 99).await, Some(3));
    assert_eq!(lease("another", "two", 20).await, Some(1));
}

pub(crate) async fn a_dropped_caller_does_not_cancel_a_write(store: Store) {
    let approval = ask("a").quorum(200).open(&store, 0).await;
    for n in 0..50 {
        let command = vote(
            &approval,
            &format!("n{n}"),
            countersign::approval::Choice::Approve,
        );
        let patience = Duration::from_micros(n * 10);
        // Given up at once or a little later: the vote is counted whole, or was never cast.
        let gone = tokio::time::timeout(patience, store.apply(command, at(1))).await;
        drop(gone);
    }
    done(&store, yes(&approval, "last"), 2).await;
    let stored = settled(&store, &approval.id).await;
    let counted = u64::try_from(stored.votes.len()).unwrap();
    assert_eq!(stored.version, counted + 1);
    let story = records(&store, &approval.id).await;
    assert_eq!(u64::try_from(story.len()).unwrap(), counted + 1);
}

/// The approval once the writes that nobody waits for have ended: a store may do them side by side.
async fn settled(store: &Store, id: &ApprovalId) -> Approval {
    let mut before = found(store, id).await;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = found(store, id).await;
        if now.version == before.version {
            return now;
        }
        before = now;
    }
}

pub(crate) async fn state_without_effect_is_not_a_change(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let same = done(&store, wish(&approval.id, Event::Tick), 1).await;
    assert_eq!(same, approval);
    assert_eq!(records(&store, &approval.id).await.len(), 1);
    let told = store.deliveries(Some(approval.id)).await.unwrap();
    assert!(told.iter().all(|each| each.desired_version == 1));
}
