//! Lists: latest first, in pages that stay as they are while more is opened.

use std::collections::BTreeSet;

use countersign::approval::Status;
use countersign::model::EntityRef;
use countersign::usecase::approval_store::{ApprovalFilter, ListCursor};

use crate::support::{Store, ask, at, done, no, redeem, rule, yes};

/// The ids of one page, and where the list goes on.
async fn page(
    store: &Store,
    filter: &ApprovalFilter,
    after: Option<ListCursor>,
    limit: u32,
) -> (Vec<String>, Option<ListCursor>) {
    let page = store
        .list(filter.clone(), after, limit, at(100))
        .await
        .unwrap();
    let ids = page
        .approvals
        .iter()
        .map(|each| each.id.as_str().to_owned());
    (ids.collect(), page.next)
}

/// The ids of all pages of `limit`.
async fn all(store: &Store, filter: &ApprovalFilter, limit: u32) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let (more, next) = page(store, filter, after, limit).await;
        ids.extend(more);
        let Some(next) = next else {
            return ids;
        };
        after = Some(next);
    }
}

pub(crate) async fn pages_show_each_approval_once_latest_first(store: Store) {
    for n in 0..7 {
        ask(&format!("n{n}")).open(&store, n).await;
    }
    let filter = ApprovalFilter::default();
    let expected = ["n6", "n5", "n4", "n3", "n2", "n1", "n0"];
    for limit in 1..9 {
        assert_eq!(
            all(&store, &filter, limit).await,
            expected,
            "{limit} a page"
        );
    }
    let (ids, next) = page(&store, &filter, None, 7).await;
    assert_eq!((ids.len(), next), (7, None));
}

pub(crate) async fn pages_stay_as_they_are_when_more_is_opened(store: Store) {
    for n in 0..4 {
        ask(&format!("n{n}")).open(&store, n).await;
    }
    let filter = ApprovalFilter::default();
    let (ids, next) = page(&store, &filter, None, 2).await;
    assert_eq!(ids, ["n3", "n2"]);
    ask("later").open(&store, 50).await;
    let (ids, next) = page(&store, &filter, next, 2).await;
    assert_eq!((ids, next), (vec!["n1".to_owned(), "n0".to_owned()], None));
}

fn with_statuses(statuses: &[Status]) -> ApprovalFilter {
    ApprovalFilter {
        statuses: statuses.iter().copied().collect(),
        ..ApprovalFilter::default()
    }
}

pub(crate) async fn a_status_is_that_of_the_moment(store: Store) {
    let approved = ask("approved").open(&store, 0).await;
    done(&store, yes(&approved, "ada"), 1).await;
    let denied = ask("denied").open(&store, 0).await;
    done(&store, no(&denied, "ada"), 1).await;
    let redeemed = ask("redeemed").open(&store, 0).await;
    done(&store, yes(&redeemed, "ada"), 1).await;
    done(&store, redeem(&redeemed, "k"), 2).await;
    ask("pending").open(&store, 0).await;
    let at_time = async |seconds: i64, statuses: &[Status]| {
        let filter = with_statuses(statuses);
        let page = store.list(filter, None, 10, at(seconds)).await.unwrap();
        let ids: BTreeSet<String> = page
            .approvals
            .iter()
            .map(|each| each.id.as_str().to_owned())
            .collect();
        ids.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(at_time(600, &[Status::Pending]).await, ["pending"]);
    assert_eq!(at_time(600, &[Status::Approved]).await, ["approved"]);
    assert_eq!(
        at_time(600, &[Status::Lapsed, Status::Expired]).await,
        Vec::<String>::new()
    );
    assert_eq!(at_time(601, &[Status::Lapsed]).await, ["approved"]);
    assert_eq!(
        at_time(601, &[Status::Approved]).await,
        Vec::<String>::new()
    );
    assert_eq!(at_time(3600, &[Status::Expired]).await, ["pending"]);
    assert_eq!(
        at_time(3600, &[Status::Pending]).await,
        Vec::<String>::new()
    );
    let ended = [Status::Denied, Status::Redeemed];
    assert_eq!(at_time(3600, &ended).await, ["denied", "redeemed"]);
    assert_eq!(at_time(3600, &Status::ALL).await.len(), 4);
}

pub(crate) async fn rules_and_requesters_filter(store: Store) {
    let both = vec![rule("release", 1), rule("data", 1)];
    ask("a").rules(both).open(&store, 1).await;
    ask("b")
        .rules(vec![rule("data", 1)])
        .principal("other")
        .open(&store, 2)
        .await;
    let c = ask("c").open(&store, 3).await;
    done(&store, no(&c, "ada"), 4).await;
    let rules = |names: &[&str]| ApprovalFilter {
        rules: names.iter().map(|&name| name.to_owned()).collect(),
        ..ApprovalFilter::default()
    };
    assert_eq!(all(&store, &rules(&["data"]), 10).await, ["b", "a"]);
    assert_eq!(all(&store, &rules(&["release"]), 10).await, ["c", "a"]);
    assert_eq!(
        all(&store, &rules(&["release", "data"]), 1).await,
        ["c", "b", "a"]
    );
    assert_eq!(
        all(&store, &rules(&["none"]), 10).await,
        Vec::<String>::new()
    );
    let other = ApprovalFilter {
        requester: Some(EntityRef::new("Agent", "other").to_string()),
        ..ApprovalFilter::default()
    };
    assert_eq!(all(&store, &other, 10).await, ["b"]);
    let everything = ApprovalFilter {
        statuses: [Status::Pending].into(),
        requester: Some(EntityRef::new("Agent", "bot").to_string()),
        ..rules(&["release"])
    };
    assert_eq!(all(&store, &everything, 10).await, ["a"]);
}

pub(crate) async fn approvals_opened_at_once_are_ordered_by_id(store: Store) {
    // As bytes, not as a dictionary would have it.
    for id in ["b", "a-1", "A", "Z", "a1", "a", "é"] {
        ask(id).open(&store, 0).await;
    }
    let expected = ["é", "b", "a1", "a-1", "a", "Z", "A"];
    let filter = ApprovalFilter::default();
    assert_eq!(all(&store, &filter, 2).await, expected);
    assert_eq!(all(&store, &filter, 100).await, expected);
}

pub(crate) async fn an_empty_store_lists_nothing(store: Store) {
    assert_eq!(
        page(&store, &ApprovalFilter::default(), None, 10).await,
        (vec![], None)
    );
    assert_eq!(store.due(at(0), 10).await.unwrap(), []);
    assert_eq!(store.deliveries(None).await.unwrap(), []);
    let none = countersign::approval::ApprovalId::new("none");
    assert_eq!(store.records(&none).await.unwrap(), []);
    assert_eq!(store.deliveries(Some(none)).await.unwrap(), []);
    assert_eq!(store.forget_commands(at(0)).await.unwrap(), 0);
}
