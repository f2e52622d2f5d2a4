//! Redeeming: a grant is spent once, by its caller, on the request that was approved.

use countersign::approval::{
    Approval, Cause, Digest, Event, Refusal, ReportedOutcome, State, Status,
};
use countersign::usecase::approval_store::{Applied, ApplyCommand};
use tokio::task::JoinSet;

use crate::racing::rounds;
use crate::support::{
    CALLER, Store, ask, at, command_key, done, found, redeem, redeem_with, refused, wish, yes,
};

async fn approved(store: &Store) -> Approval {
    let approval = ask("a").open(store, 0).await;
    done(store, yes(&approval, "ada"), 1).await
}

pub(crate) async fn a_grant_is_redeemed_once(store: Store) {
    let approval = approved(&store).await;
    let redeemed = done(&store, redeem(&approval, "k"), 2).await;
    let State::Redeemed { redemption, .. } = &redeemed.state else {
        panic!("{redeemed:?}");
    };
    assert_eq!(
        (redemption.at, redemption.key.as_deref()),
        (at(2), Some("k"))
    );
    let again = refused(&store, redeem(&approval, "other"), 3).await;
    assert_eq!(again, Refusal::AlreadyRedeemed { at: at(2) });
    assert_eq!(found(&store, &approval.id).await, redeemed);
}

pub(crate) async fn the_same_key_gets_the_same_answer(store: Store) {
    let approval = approved(&store).await;
    let redeemed = done(&store, redeem(&approval, "k"), 2).await;
    assert_eq!(done(&store, redeem(&approval, "k"), 5000).await, redeemed);
    // A key of the command itself is no different.
    let keyed = ApplyCommand {
        key: Some(command_key("Authorize", "k", "p")),
        ..redeem(&approval, "k")
    };
    assert_eq!(done(&store, keyed.clone(), 5001).await, redeemed);
    let again = store.apply(keyed, at(5002)).await.unwrap();
    assert_eq!(again, Applied::Repeated(Box::new(redeemed)));
}

pub(crate) async fn sixty_four_redeemers_get_one_grant(store: Store) {
    for round in 0..rounds() {
        let approval = ask(&format!("grant {round}")).open(&store, 0).await;
        done(&store, yes(&approval, "ada"), 1).await;
        sixty_four_redeem(&store, &approval).await;
    }
}

async fn sixty_four_redeem(store: &Store, approval: &Approval) {
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        let command = redeem(approval, &format!("k{n}"));
        tasks.spawn(async move { store.apply(command, at(2)).await.unwrap() });
    }
    let applied = tasks.join_all().await;
    let done = applied
        .iter()
        .filter(|each| matches!(each, Applied::Done(_)));
    assert_eq!(done.count(), 1);
    for each in &applied {
        let is_fair = matches!(
            each,
            Applied::Done(_) | Applied::Refused(_, Refusal::AlreadyRedeemed { .. })
        );
        assert!(is_fair, "{each:?}");
    }
    // The opening, the vote, the redemption, and everybody who came too late.
    let records = store.records(&approval.id).await.unwrap();
    assert_eq!(records.len(), 3 + 63);
}

pub(crate) async fn a_lapsed_grant_is_not_redeemed(store: Store) {
    let approval = approved(&store).await;
    let late = refused(&store, redeem(&approval, "k"), 601).await;
    assert!(
        matches!(
            late,
            Refusal::AlreadyResolved {
                status: Status::Lapsed,
                ..
            }
        ),
        "{late:?}"
    );
    assert_eq!(found(&store, &approval.id).await.status(), Status::Lapsed);
}

pub(crate) async fn another_request_or_caller_does_not_redeem(store: Store) {
    let approval = approved(&store).await;
    let with = |change: &dyn Fn(&mut countersign::approval::RedeemAttempt)| {
        let command = redeem(&approval, "k");
        let Event::Redeem(mut attempt) = command.event else {
            panic!("{command:?}");
        };
        change(&mut attempt);
        wish(&approval.id, Event::Redeem(attempt))
    };
    let other = with(&|attempt| attempt.digest = Digest::of("test", b"another request"));
    assert_eq!(refused(&store, other, 2).await, Refusal::RequestMismatch);
    let other = with(&|attempt| attempt.caller = "another".into());
    assert_eq!(refused(&store, other, 3).await, Refusal::OtherCaller);
    assert_eq!(found(&store, &approval.id).await, approval);
    let waiting = ask("b").open(&store, 4).await;
    assert_eq!(
        refused(&store, redeem(&waiting, "k"), 5).await,
        Refusal::StillPending
    );
}

pub(crate) async fn a_grant_whose_votes_do_not_hold_is_superseded(store: Store) {
    let approval = approved(&store).await;
    let command = redeem_with(&approval, "k", &["bob"]);
    let applied = store.apply(command, at(2)).await.unwrap();
    let Applied::Refused(after, Refusal::Superseded(cause)) = applied else {
        panic!("{applied:?}");
    };
    assert_eq!(
        (after.status(), cause),
        (Status::Superseded, Cause::ApproverIneligible)
    );
    assert_eq!(found(&store, &approval.id).await, *after);
    let told = store.deliveries(Some(approval.id)).await.unwrap();
    assert!(
        told.iter()
            .all(|each| each.desired_version == after.version)
    );
}

pub(crate) async fn an_outcome_is_reported_once(store: Store) {
    let approval = approved(&store).await;
    let report = |outcome| {
        let event = Event::Report {
            caller: CALLER.to_owned(),
            outcome,
            detail: Some("as planned".to_owned()),
        };
        wish(&approval.id, event)
    };
    let early = refused(&store, report(ReportedOutcome::Succeeded), 2).await;
    assert_eq!(early, Refusal::NotRedeemed);
    done(&store, redeem(&approval, "k"), 3).await;
    let reported = done(&store, report(ReportedOutcome::Succeeded), 4).await;
    assert_eq!(
        done(&store, report(ReportedOutcome::Succeeded), 5).await,
        reported
    );
    let other = refused(&store, report(ReportedOutcome::Failed), 6).await;
    assert_eq!(other, Refusal::AlreadyReported(ReportedOutcome::Succeeded));
    assert_eq!(found(&store, &approval.id).await, reported);
}
