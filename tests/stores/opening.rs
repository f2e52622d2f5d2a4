//! Opening: what is new, what joins, what was asked before, and what is too much.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::approval::flood::{FloodLimit, FloodLimits};
use countersign::approval::{Approval, Status};
use countersign::usecase::approval_store::{ApprovalFilter, OpenCommand, Opened, StoreError};
use tokio::task::JoinSet;

use crate::support::{
    Ask, Store, ask, at, cancel, claim, command_key, done, found, no, redeem, yes,
};

async fn open(store: &Store, command: OpenCommand, seconds: i64) -> Opened {
    store.open(command, at(seconds)).await.unwrap()
}

fn joined(opened: Opened) -> Approval {
    let Opened::Joined(approval) = opened else {
        panic!("not joined: {opened:?}");
    };
    *approval
}

fn repeated(opened: Opened) -> Approval {
    let Opened::Repeated(approval) = opened else {
        panic!("not repeated: {opened:?}");
    };
    *approval
}

pub(crate) async fn an_opened_approval_is_found_as_it_was_answered(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    assert_eq!(approval.version, 1);
    assert_eq!(approval.opened, at(0));
    assert_eq!(approval.asked.barred.len(), 2);
    assert_eq!(store.find(&approval.id).await.unwrap(), Some(approval));
    let unknown = countersign::approval::ApprovalId::new("b");
    assert_eq!(store.find(&unknown).await.unwrap(), None);
}

pub(crate) async fn the_same_request_joins_and_is_counted(store: Store) {
    let first = ask("a").open(&store, 0).await;
    let second = joined(open(&store, ask("b").like("a").command(), 1).await);
    let third = joined(open(&store, ask("c").like("a").command(), 2).await);
    assert_eq!((&second.id, &third.id), (&first.id, &first.id));
    assert_eq!((second.joined, third.joined), (1, 2));
    assert_eq!(found(&store, &first.id).await, third);
}

pub(crate) async fn a_join_does_not_tell_anybody_again(store: Store) {
    let first = ask("a").open(&store, 0).await;
    let before = store.deliveries(Some(first.id.clone())).await.unwrap();
    joined(open(&store, ask("b").like("a").command(), 1).await);
    assert_eq!(store.deliveries(Some(first.id)).await.unwrap(), before);
    assert_eq!(claim(&store, 2).await.len(), 2);
}

pub(crate) async fn a_request_joins_an_approved_one_until_it_lapses(store: Store) {
    let first = ask("a").open(&store, 0).await;
    done(&store, yes(&first, "ada"), 1).await;
    let second = joined(open(&store, ask("b").like("a").command(), 2).await);
    // Nothing waits for people any more, so it is not counted, and gets into no redeemer's way.
    assert_eq!((second.id, second.version, second.joined), (first.id, 2, 0));
}

pub(crate) async fn another_caller_does_not_join(store: Store) {
    ask("a").open(&store, 0).await;
    let mut other = ask("b").like("a");
    other.request.caller = "another".into();
    let second = other.open(&store, 1).await;
    assert_eq!(second.id.as_str(), "b");
}

pub(crate) async fn a_repeated_opening_answers_the_approval_as_it_is_now(store: Store) {
    let first = ask("a").key("k", "p").open(&store, 0).await;
    let voted = done(&store, yes(&first, "ada"), 1).await;
    let again = open(&store, ask("b").like("a").key("k", "p").command(), 2).await;
    assert_eq!(repeated(again), voted);
    let redeemed = done(&store, redeem(&voted, "r"), 3).await;
    let again = open(&store, ask("c").like("a").key("k", "p").command(), 4).await;
    assert_eq!(repeated(again), redeemed);
}

pub(crate) async fn a_repeated_join_does_not_count_twice(store: Store) {
    ask("a").open(&store, 0).await;
    let wish = || ask("b").like("a").key("k", "p").command();
    assert_eq!(joined(open(&store, wish(), 1).await).joined, 1);
    assert_eq!(repeated(open(&store, wish(), 2).await).joined, 1);
}

pub(crate) async fn a_key_with_another_payload_is_refused(store: Store) {
    ask("a").key("k", "p").open(&store, 0).await;
    let other = open(&store, ask("b").key("k", "q").command(), 1).await;
    assert_eq!(other, Opened::KeyReused);
    let none = countersign::approval::ApprovalId::new("b");
    assert_eq!(store.find(&none).await.unwrap(), None);
}

pub(crate) async fn keys_belong_to_a_caller_and_a_method(store: Store) {
    ask("a").key("k", "p").open(&store, 0).await;
    let mut another_method = ask("b");
    another_method.key = Some(command_key("OpenApproval", "k", "q"));
    another_method.open(&store, 1).await;
    let mut another_caller = ask("c").key("k", "q");
    if let Some(key) = &mut another_caller.key {
        key.caller = "another".into();
    }
    another_caller.open(&store, 2).await;
}

pub(crate) async fn a_refused_opening_is_not_remembered(store: Store) {
    let limits = FloodLimits {
        pending_per_requester: 1,
        ..FloodLimits::default()
    };
    let first = ask("a").open(&store, 0).await;
    let wish = || ask("b").limits(limits).key("k", "p");
    let refused = open(&store, wish().command(), 1).await;
    assert!(matches!(refused, Opened::TooMany { .. }), "{refused:?}");
    done(&store, cancel(&first), 2).await;
    assert_eq!(wish().open(&store, 3).await.id.as_str(), "b");
}

pub(crate) async fn an_expired_approval_gives_way_without_a_sweeper(store: Store) {
    let first = ask("a").open(&store, 0).await;
    let second = ask("b").like("a").open(&store, 3600).await;
    assert_eq!(second.status(), Status::Pending);
    assert_eq!(found(&store, &first.id).await.status(), Status::Expired);
    let records = store.records(&first.id).await.unwrap();
    assert_eq!(records.last().unwrap().record.to, Status::Expired);
    let told = store.deliveries(Some(first.id)).await.unwrap();
    assert!(
        told.iter().all(|each| each.desired_version == 2),
        "{told:?}"
    );
}

pub(crate) async fn a_lapsed_approval_gives_way_without_a_sweeper(store: Store) {
    let first = ask("a").open(&store, 0).await;
    done(&store, yes(&first, "ada"), 10).await;
    joined(open(&store, ask("b").like("a").command(), 609).await);
    ask("c").like("a").open(&store, 610).await;
    assert_eq!(found(&store, &first.id).await.status(), Status::Lapsed);
}

fn cool_down(opened: &Opened) -> i64 {
    let Opened::CoolDown { denied, until } = opened else {
        panic!("no cool-down: {opened:?}");
    };
    assert_eq!(denied.status(), Status::Denied);
    until.duration_since(at(0)).as_secs()
}

pub(crate) async fn a_denied_request_cools_down_and_longer_each_time(store: Store) {
    let deny = async |id: &str, seconds: i64| {
        let approval = ask(id).like("a").open(&store, seconds).await;
        done(&store, no(&approval, "ada"), seconds + 10).await;
    };
    let again = async |seconds: i64| open(&store, ask("no").like("a").command(), seconds).await;
    deny("a", 0).await;
    assert_eq!(cool_down(&again(11).await), 910);
    assert_eq!(cool_down(&again(909).await), 910);
    deny("b", 910).await;
    assert_eq!(cool_down(&again(921).await), 920 + 1800);
    deny("c", 2720).await;
    assert_eq!(cool_down(&again(2731).await), 2730 + 3600);
    // What lies further back than the longest cool-down is forgotten.
    let day = 86_400;
    deny("d", 3000 + day).await;
    assert_eq!(cool_down(&again(3011 + day).await), 3010 + day + 900);
    // Others may ask for other things meanwhile.
    ask("other").open(&store, 3011 + day).await;
}

fn too_many(opened: &Opened) -> (FloodLimit, i64) {
    let Opened::TooMany { limit, retry_at } = opened else {
        panic!("not too many: {opened:?}");
    };
    (*limit, retry_at.duration_since(at(0)).as_secs())
}

pub(crate) async fn too_many_waiting_are_refused_until_one_is_resolved(store: Store) {
    let limits = FloodLimits {
        pending_per_requester: 2,
        ..FloodLimits::default()
    };
    let wish = |id: &str| ask(id).limits(limits);
    let first = wish("a").open(&store, 0).await;
    wish("b").open(&store, 1).await;
    let third = open(&store, wish("c").command(), 2).await;
    assert_eq!(too_many(&third).0, FloodLimit::PendingPerRequester(2));
    // Joining is not opening, and another requester is not this one.
    joined(open(&store, wish("d").like("a").command(), 3).await);
    wish("e").principal("other").open(&store, 4).await;
    done(&store, yes(&first, "ada"), 5).await;
    wish("c").open(&store, 6).await;
}

pub(crate) async fn what_has_expired_does_not_count_as_waiting(store: Store) {
    let limits = FloodLimits {
        pending_per_requester: 1,
        ..FloodLimits::default()
    };
    ask("a").limits(limits).open(&store, 0).await;
    let refused = open(&store, ask("b").limits(limits).command(), 3599).await;
    assert_eq!(too_many(&refused).0, FloodLimit::PendingPerRequester(1));
    ask("b").limits(limits).open(&store, 3600).await;
}

pub(crate) async fn too_many_within_a_minute_are_refused(store: Store) {
    let limits = FloodLimits {
        opened_per_minute: 2,
        ..FloodLimits::default()
    };
    let wish = |id: &str| ask(id).limits(limits);
    let first = wish("a").open(&store, 0).await;
    done(&store, cancel(&first), 1).await;
    wish("b").open(&store, 30).await;
    let third = open(&store, wish("c").command(), 59).await;
    assert_eq!(too_many(&third), (FloodLimit::OpenedPerMinute(2), 60));
    wish("c").open(&store, 60).await;
    let fourth = open(&store, wish("d").command(), 61).await;
    assert_eq!(too_many(&fourth), (FloodLimit::OpenedPerMinute(2), 90));
}

pub(crate) async fn one_request_asked_by_many_at_once_is_one_approval(store: Store) {
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let store = store.clone();
        let command = ask(&format!("n{n}")).like("a").command();
        tasks.spawn(async move { store.open(command, at(0)).await.unwrap() });
    }
    let opened = tasks.join_all().await;
    let new = opened.iter().filter(|each| matches!(each, Opened::New(_)));
    assert_eq!(new.count(), 1);
    let joined = opened
        .iter()
        .filter(|each| matches!(each, Opened::Joined(_)));
    assert_eq!(joined.count(), 31);
    let page = store
        .list(ApprovalFilter::default(), None, 100, at(0))
        .await
        .unwrap();
    assert_eq!(page.approvals.len(), 1);
    assert_eq!(page.approvals[0].joined, 31);
}

pub(crate) async fn an_id_that_is_taken_is_refused_and_spoils_nothing_else(store: Store) {
    ask("taken").open(&store, 0).await;
    let mut tasks = JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        let id = if n % 4 == 0 {
            "taken".to_owned()
        } else {
            format!("n{n}")
        };
        let wish: Ask = ask(&id).like(&format!("another {n}"));
        tasks.spawn(async move { (id, store.open(wish.command(), at(1)).await) });
    }
    let mut kept = BTreeSet::new();
    for (id, opened) in tasks.join_all().await {
        match opened {
            Ok(Opened::New(approval)) => assert!(kept.insert(approval.id.as_str().to_owned())),
            Err(StoreError::RuleBroken(_)) => assert_eq!(id, "taken"),
            other => panic!("{id}: {other:?}"),
        }
    }
    assert_eq!(kept.len(), 30);
    let lease = Duration::from_secs(30);
    let due = store.claim_deliveries(1000, lease, at(2)).await.unwrap();
    assert_eq!(due.len(), 2 * 31);
}
