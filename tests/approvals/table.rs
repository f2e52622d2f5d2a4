//! The transition table: every status, every event, and where it leads.

use countersign::approval::{Approval, Cause, Choice, Event, Refusal, ReportedOutcome, Status};

use super::support::{
    after, alias, apply, approve, at, ballot, by_caller, deny, opened, policies, redeem, report,
    rule, seat,
};

/// What an event is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    AlreadyResolved,
    StillPending,
    AlreadyVoted,
    AlreadyRedeemed,
    NotRedeemed,
    AlreadyReported,
    Superseded,
}

fn answer_of(answer: &Result<(), Refusal>) -> Answer {
    match answer {
        Ok(()) => Answer::Done,
        Err(Refusal::AlreadyResolved { .. }) => Answer::AlreadyResolved,
        Err(Refusal::StillPending) => Answer::StillPending,
        Err(Refusal::AlreadyVoted) => Answer::AlreadyVoted,
        Err(Refusal::AlreadyRedeemed { .. }) => Answer::AlreadyRedeemed,
        Err(Refusal::NotRedeemed) => Answer::NotRedeemed,
        Err(Refusal::AlreadyReported(_)) => Answer::AlreadyReported,
        Err(Refusal::Superseded(_)) => Answer::Superseded,
        Err(
            other @ (Refusal::OwnRequest { .. }
            | Refusal::NotEligible { .. }
            | Refusal::OtherRequest
            | Refusal::OtherView
            | Refusal::NotTheRequester
            | Refusal::OtherCaller
            | Refusal::RequestMismatch),
        ) => panic!("{other:?}"),
    }
}

/// An approval of two persons that `ann` has approved, brought to `status`. Deadlines: 100 for votes, 60 for the grant.
fn standing_at(status: Status) -> Approval {
    let seats = [seat("r", "")];
    let pending = after(
        &opened(vec![rule("r", &[("", 2)])]),
        &approve(&opened(vec![rule("r", &[("", 2)])]), "ann", &seats),
        at(5),
    );
    let approved = || after(&pending, &approve(&pending, "ben", &seats), at(10));
    let approval = match status {
        Status::Pending => pending,
        Status::Approved => approved(),
        Status::Redeemed => after(&approved(), &redeem(&approved(), Some("k")), at(11)),
        Status::Denied => after(&pending, &deny(&pending, "cid", &seats), at(11)),
        Status::Expired => after(&pending, &Event::Tick, at(100)),
        Status::Cancelled => after(&pending, &Event::Cancel(by_caller()), at(11)),
        Status::Superseded => after(&pending, &superseding(), at(11)),
        Status::Revoked => after(&approved(), &Event::Revoke(by_caller()), at(11)),
        Status::Lapsed => after(&approved(), &Event::Tick, at(60)),
    };
    assert_eq!(approval.status(), status);
    approval
}

fn superseding() -> Event {
    Event::Supersede(Cause::PolicyNowDenies, policies())
}

/// The events of the table, before any deadline.
const EVENTS: [&str; 14] = [
    "join",
    "approve by another",
    "approve by the same",
    "deny by another",
    "deny by an approver",
    "deny by the barred owner",
    "cancel",
    "revoke",
    "redeem",
    "redeem under more seats",
    "supersede",
    "strand",
    "report",
    "tick",
];

fn event(name: &str, approval: &Approval) -> Event {
    let seats = [seat("r", "")];
    match name {
        "join" => Event::Join,
        "approve by another" => approve(approval, "dan", &seats),
        "approve by the same" => approve(approval, "ann", &seats),
        "deny by another" => deny(approval, "dan", &seats),
        "deny by an approver" => deny(approval, "ann", &seats),
        "deny by the barred owner" => deny(approval, "owner", &seats),
        "cancel" => Event::Cancel(by_caller()),
        "revoke" => Event::Revoke(by_caller()),
        "redeem" => redeem(approval, Some("k")),
        "redeem under more seats" => {
            let mut attempt = super::support::attempt(approval, Some("k2"));
            attempt.seats.insert(seat("r", ""), 3);
            Event::Redeem(Box::new(attempt))
        }
        "supersede" => superseding(),
        "strand" => Event::Strand(policies()),
        "report" => report(ReportedOutcome::Succeeded),
        "tick" => Event::Tick,
        other => panic!("no event `{other}`"),
    }
}

/// Where `name` leads from `from`, with the answer.
fn expected(from: Status, name: &str) -> (Status, Answer) {
    use Answer::{
        AlreadyRedeemed, AlreadyResolved, AlreadyVoted, Done, NotRedeemed, StillPending,
        Superseded as OutOfDate,
    };
    use Status::{Approved, Cancelled, Denied, Pending, Redeemed, Revoked, Superseded};
    match (from, name) {
        (_, "tick") => (from, Done),
        (Redeemed, "report") => (Redeemed, Done),
        (_, "report") => (from, NotRedeemed),

        (Pending, "join") => (Pending, Done),
        (Pending, "approve by another") => (Approved, Done),
        (Pending, "approve by the same") => (Pending, AlreadyVoted),
        (Pending, "deny by another" | "deny by an approver" | "deny by the barred owner") => {
            (Denied, Done)
        }
        (Pending, "cancel") => (Cancelled, Done),
        (Pending, "revoke" | "redeem" | "redeem under more seats") => (Pending, StillPending),
        (Pending, "supersede") => (Superseded, Done),
        (Pending, "strand") => (Denied, Done),

        (Approved, "join") => (Approved, Done),
        (Approved, "approve by another" | "approve by the same") => (Approved, AlreadyResolved),
        (Approved, "deny by another" | "deny by an approver" | "deny by the barred owner") => {
            (Revoked, Done)
        }
        (Approved, "cancel" | "strand") => (Approved, AlreadyResolved),
        (Approved, "revoke") => (Revoked, Done),
        (Approved, "redeem") => (Redeemed, Done),
        (Approved, "redeem under more seats") => (Superseded, OutOfDate),
        (Approved, "supersede") => (Superseded, Done),

        (Redeemed, "redeem") => (Redeemed, Done),
        (Redeemed, "redeem under more seats") => (Redeemed, AlreadyRedeemed),

        (terminal, _) => (terminal, AlreadyResolved),
    }
}

#[test]
fn every_event_leads_where_the_table_says() {
    for from in Status::ALL {
        for name in EVENTS {
            let approval = standing_at(from);
            let event = event(name, &approval);
            let transition = apply(&approval, &event, at(12));
            let reached = (transition.approval.status(), answer_of(&transition.answer));
            assert_eq!(reached, expected(from, name), "{name} at {from}");
            if from.is_terminal() && name != "report" {
                assert_eq!(transition.approval, approval, "{name} at {from}");
            }
        }
    }
}

/// From the moment of the deadline on, every event but one that only counts finds the approval ended.
#[test]
fn no_event_of_the_table_succeeds_at_a_deadline() {
    for (from, deadline, ended) in [
        (Status::Pending, at(100), Status::Expired),
        (Status::Approved, at(60), Status::Lapsed),
    ] {
        for name in EVENTS {
            let approval = standing_at(from);
            let event = event(name, &approval);
            let transition = apply(&approval, &event, deadline);
            assert_eq!(transition.approval.status(), ended, "{name}");
            let answer = answer_of(&transition.answer);
            let expected = match name {
                "tick" => Answer::Done,
                "report" => Answer::NotRedeemed,
                _ => Answer::AlreadyResolved,
            };
            assert_eq!(answer, expected, "{name}");
        }
    }
}

#[test]
fn the_causes_say_why() {
    let pending = standing_at(Status::Pending);
    let seats = [seat("r", "")];
    for (event, cause) in [
        (deny(&pending, "cid", &seats), Some(Cause::Veto)),
        (Event::Strand(policies()), Some(Cause::UnreachableQuorum)),
        (superseding(), Some(Cause::PolicyNowDenies)),
        (Event::Cancel(by_caller()), None),
    ] {
        let ended = after(&pending, &event, at(12));
        let countersign::approval::State::Closed(_, closed) = ended.state else {
            panic!("{:?}", ended.state);
        };
        assert_eq!(closed.cause, cause);
        assert_eq!(closed.at, at(12));
    }
}

#[test]
fn an_outcome_is_reported_once() {
    let redeemed = standing_at(Status::Redeemed);
    let reported = after(&redeemed, &report(ReportedOutcome::Failed), at(20));
    let again = apply(&reported, &report(ReportedOutcome::Failed), at(21));
    assert_eq!((again.answer, &again.approval), (Ok(()), &reported));
    let other = apply(&reported, &report(ReportedOutcome::Succeeded), at(21));
    assert_eq!(answer_of(&other.answer), Answer::AlreadyReported);
    assert_eq!(other.approval, reported);
}

#[test]
fn the_barred_owner_may_say_no_and_never_yes() {
    let pending = standing_at(Status::Pending);
    for account in [alias("owner", "owner"), alias("owner-2", "owner")] {
        let yes = ballot(
            &pending,
            account.clone(),
            Choice::Approve,
            super::support::may(&[seat("r", "")]),
        );
        let transition = apply(&pending, &Event::Vote(Box::new(yes)), at(12));
        assert!(matches!(transition.answer, Err(Refusal::OwnRequest { .. })));
        assert_eq!(transition.approval, pending);
    }
}
