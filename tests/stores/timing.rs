//! Time: it is an argument, deadlines are part of every judgement, and nobody has to sweep for them to hold.

use std::time::Duration;

use countersign::approval::{
    ApprovalId, Event, FrozenRequirement, Happening, Refusal, ReportedOutcome, State, Status,
};
use jiff::SignedDuration;

use crate::support::{Store, ask, at, done, found, redeem, refused, rule, wish, yes};

fn resolved_as(refusal: &Refusal) -> Status {
    let Refusal::AlreadyResolved { status, .. } = refusal else {
        panic!("not resolved: {refusal:?}");
    };
    *status
}

pub(crate) async fn a_vote_at_the_deadline_is_too_late_without_a_sweeper(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let late = refused(&store, yes(&approval, "ada"), 3600).await;
    assert_eq!(resolved_as(&late), Status::Expired);
    let stored = found(&store, &approval.id).await;
    assert_eq!((stored.status(), stored.version), (Status::Expired, 2));
    let records = store.records(&approval.id).await.unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!(records[1].record.what, Happening::TimedOut);
    assert!(matches!(records[2].record.what, Happening::Refused(..)));
}

pub(crate) async fn a_vote_just_before_the_deadline_counts(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let approved = done(&store, yes(&approval, "ada"), 3599).await;
    assert_eq!(approved.status(), Status::Approved);
    let early = redeem(&approval, "k");
    let redeemed = done(&store, early, 3599 + 599).await;
    assert_eq!(redeemed.status(), Status::Redeemed);
}

pub(crate) async fn a_clock_that_goes_back_opens_nothing_again(store: Store) {
    let approval = ask("a").open(&store, 1000).await;
    let expired = done(&store, wish(&approval.id, Event::Tick), 4600).await;
    assert_eq!(expired.status(), Status::Expired);
    let late = refused(&store, yes(&approval, "ada"), 2000).await;
    assert_eq!(resolved_as(&late), Status::Expired);
    let other = ask("b").open(&store, 1000).await;
    let approved = done(&store, yes(&other, "ada"), 500).await;
    assert_eq!(approved.status(), Status::Approved);
    let records = store.records(&approval.id).await.unwrap();
    let order: Vec<u64> = records.iter().map(|each| each.sequence).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(records.last().unwrap().record.at, at(2000));
}

async fn due(store: &Store, seconds: i64, limit: u32) -> Vec<String> {
    let due = store.due(at(seconds), limit).await.unwrap();
    due.iter().map(|id| id.as_str().to_owned()).collect()
}

pub(crate) async fn approvals_are_due_longest_overdue_first(store: Store) {
    let short = FrozenRequirement {
        expires_after: Duration::from_secs(60),
        ..rule("short", 1)
    };
    ask("long").open(&store, 0).await;
    let brief = ask("brief")
        .rules(vec![short.clone()])
        .open(&store, 10)
        .await;
    let granted = ask("granted").open(&store, 0).await;
    done(&store, yes(&granted, "ada"), 20).await;
    ask("twin").rules(vec![short]).open(&store, 10).await;
    assert_eq!(due(&store, 69, 10).await, Vec::<String>::new());
    assert_eq!(due(&store, 70, 10).await, ["brief", "twin"]);
    assert_eq!(
        due(&store, 9000, 10).await,
        ["brief", "twin", "granted", "long"]
    );
    assert_eq!(due(&store, 9000, 3).await, ["brief", "twin", "granted"]);
    done(&store, wish(&brief.id, Event::Tick), 9000).await;
    assert_eq!(due(&store, 9000, 2).await, ["twin", "granted"]);
}

pub(crate) async fn a_tick_reminds_escalates_and_ends(store: Store) {
    let patient = FrozenRequirement {
        remind_after: Some(Duration::from_secs(60)),
        escalate_after: Some(Duration::from_secs(120)),
        escalate_to: vec!["slack:boss".to_owned()],
        ..rule("patient", 1)
    };
    let approval = ask("a").rules(vec![patient]).open(&store, 0).await;
    let tick = async |seconds| done(&store, wish(&approval.id, Event::Tick), seconds).await;
    assert_eq!(tick(59).await.version, 1);
    assert_eq!(due(&store, 60, 1).await, ["a"]);
    assert_eq!(tick(60).await.timers.reminded, Some(at(60)));
    assert_eq!(due(&store, 61, 1).await, Vec::<String>::new());
    assert_eq!(tick(150).await.timers.escalated, Some(at(150)));
    assert_eq!(tick(3600).await.status(), Status::Expired);
    assert_eq!(due(&store, 99_999_999, 1).await, Vec::<String>::new());
    let records = store.records(&approval.id).await.unwrap();
    let what: Vec<&Happening> = records
        .iter()
        .skip(1)
        .map(|each| &each.record.what)
        .collect();
    assert_eq!(
        what,
        [
            &Happening::Reminded,
            &Happening::Escalated,
            &Happening::TimedOut
        ]
    );
    let versions: Vec<u64> = records.iter().map(|each| each.record.version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
}

pub(crate) async fn an_unreported_redemption_becomes_unknown(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    done(&store, yes(&approval, "ada"), 1).await;
    done(&store, redeem(&approval, "k"), 2).await;
    let day = 86_400;
    assert_eq!(due(&store, day + 1, 1).await, Vec::<String>::new());
    assert_eq!(due(&store, day + 2, 1).await, ["a"]);
    let ticked = done(&store, wish(&approval.id, Event::Tick), day + 2).await;
    let State::Redeemed {
        resolution: Some(resolution),
        ..
    } = &ticked.state
    else {
        panic!("{ticked:?}");
    };
    assert_eq!(resolution.outcome, ReportedOutcome::Unknown);
    assert_eq!(found(&store, &approval.id).await, ticked);
    assert_eq!(due(&store, 9 * day, 1).await, Vec::<String>::new());
}

pub(crate) async fn versions_are_those_of_what_exists(store: Store) {
    let first = ask("a").open(&store, 0).await;
    let second = ask("b").open(&store, 0).await;
    done(&store, yes(&second, "ada"), 1).await;
    let none = ApprovalId::new("none");
    let mut versions = store
        .versions(vec![second.id.clone(), none, first.id.clone()])
        .await
        .unwrap();
    versions.sort_unstable();
    assert_eq!(versions, [(first.id, 1), (second.id, 2)]);
    assert_eq!(store.versions(Vec::new()).await.unwrap(), []);
}

pub(crate) async fn moments_finer_than_a_microsecond_do_no_harm(store: Store) {
    let fine = at(0) + SignedDuration::from_nanos(1_999);
    let opened = store.open(ask("a").command(), fine).await.unwrap();
    let stored = found(&store, &ApprovalId::new("a")).await;
    assert_eq!(
        opened,
        countersign::usecase::approval_store::Opened::New(Box::new(stored.clone()))
    );
    // What `due` names, a tick at that moment changes.
    let almost = stored.expires - SignedDuration::from_nanos(1);
    assert_eq!(store.due(almost, 1).await.unwrap(), []);
    assert_eq!(store.due(stored.expires, 1).await.unwrap(), [stored.id]);
}
