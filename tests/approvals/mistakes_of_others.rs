//! What other products got wrong, and what this one must not.

use std::collections::BTreeMap;

use countersign::approval::{
    Approval, Cause, Choice, Event, Happening, Refusal, Standing, Status, Voter, Withdrawal,
};
use countersign::model::Seat;

use super::support::{
    after, alias, apply, approve, at, attempt, ballot, by_caller, deny, may, named, opened,
    policies, redeem, request, rule, seat, seconds, user, voter,
};

fn two_persons() -> Approval {
    opened(vec![rule("r", &[("", 2)])])
}

fn one() -> [Seat; 1] {
    [seat("r", "")]
}

/// Approved by ann and ben at 10; the grant lives until 60.
fn approved() -> Approval {
    let open = two_persons();
    let first = after(&open, &approve(&open, "ann", &one()), at(5));
    after(&first, &approve(&first, "ben", &one()), at(10))
}

/// Lets the events happen in their order, refused ones too.
fn run(approval: &Approval, events: &[Event]) -> Approval {
    events.iter().fold(approval.clone(), |approval, event| {
        approval.apply(event, at(20)).approval
    })
}

// F.1: in whichever order a store brings parallel votes, two approvals approve and a deny is never lost.

#[test]
fn two_parallel_approvals_at_quorum_two_always_approve() {
    let open = two_persons();
    let (ann, ben) = (approve(&open, "ann", &one()), approve(&open, "ben", &one()));
    for order in [[ann.clone(), ben.clone()], [ben, ann]] {
        assert_eq!(run(&open, &order).status(), Status::Approved);
    }
}

#[test]
fn a_deny_is_never_lost_in_a_race_with_approvals() {
    let open = two_persons();
    let votes = [
        approve(&open, "ann", &one()),
        approve(&open, "ben", &one()),
        deny(&open, "cid", &one()),
    ];
    for (first, second, third) in [
        (0, 1, 2),
        (0, 2, 1),
        (1, 0, 2),
        (1, 2, 0),
        (2, 0, 1),
        (2, 1, 0),
    ] {
        let order = [first, second, third].map(|index| votes[index].clone());
        let ended = run(&open, &order);
        assert!(
            matches!(ended.status(), Status::Denied | Status::Revoked),
            "{order:?}"
        );
        let spent = ended.clone().apply(&redeem(&ended, None), at(21));
        assert_eq!(spent.approval, ended);
    }
}

#[test]
fn of_two_parallel_redeemers_one_succeeds() {
    let open = approved();
    let first = apply(&open, &redeem(&open, Some("one")), at(20));
    assert_eq!(first.answer, Ok(()));
    let second = apply(&first.approval, &redeem(&open, Some("two")), at(20));
    assert_eq!(second.answer, Err(Refusal::AlreadyRedeemed { at: at(20) }));
    // The first repeats itself, since the answer was lost, even after the grant would have lapsed.
    let again = apply(&second.approval, &redeem(&open, Some("one")), at(70));
    assert_eq!((again.answer, again.approval), (Ok(()), first.approval));
}

#[test]
fn without_a_key_a_grant_is_spent_once_all_the_same() {
    let open = approved();
    let spent = after(&open, &redeem(&open, None), at(20));
    let again = apply(&spent, &redeem(&open, None), at(20));
    assert_eq!(again.answer, Err(Refusal::AlreadyRedeemed { at: at(20) }));
}

// F.5: a late or strange click is refused, explained and recorded.

fn check_click(approval: &Approval, event: &Event, is_refused_with: impl Fn(&Refusal) -> bool) {
    let transition = apply(approval, event, at(20));
    let refusal = transition.answer.unwrap_err();
    assert!(is_refused_with(&refusal), "{refusal:?}");
    assert!(!refusal.to_string().is_empty());
    assert_eq!(&transition.approval, approval);
    assert!(transition.tell.is_empty());
    let [record] = transition.records.as_slice() else {
        panic!("{:?}", transition.records);
    };
    assert_eq!(record.version, approval.version);
    assert_eq!(record.what, Happening::Refused(event.clone(), refusal));
}

#[test]
fn a_late_click_is_told_who_ended_it_and_when() {
    let open = two_persons();
    let ended = [
        after(&open, &deny(&open, "cid", &one()), at(15)),
        after(&open, &Event::Cancel(by_caller()), at(15)),
        after(&open, &Event::Strand(policies()), at(15)),
        after(
            &open,
            &Event::Supersede(Cause::RequirementStronger, policies()),
            at(15),
        ),
        after(&approved(), &Event::Revoke(by_caller()), at(15)),
        after(&approved(), &redeem(&approved(), None), at(15)),
    ];
    for ended in ended {
        for click in [approve(&open, "dan", &one()), deny(&open, "dan", &one())] {
            check_click(&ended, &click, |refusal| {
                matches!(refusal, Refusal::AlreadyResolved { status, at: when, .. }
                    if *status == ended.status() && *when == at(15))
            });
        }
    }
}

#[test]
fn a_second_yes_to_what_is_approved_names_the_deciding_voter() {
    check_click(
        &approved(),
        &approve(&approved(), "dan", &one()),
        |refusal| refusal.to_string().contains("APPROVED") && refusal.to_string().contains("ben"),
    );
}

#[test]
fn a_click_after_the_deadline_expires_what_nobody_swept() {
    let open = two_persons();
    let late = apply(&open, &approve(&open, "ann", &one()), at(100));
    assert_eq!(late.approval.status(), Status::Expired);
    let whats: Vec<&Happening> = late.records.iter().map(|record| &record.what).collect();
    assert!(matches!(
        whats.as_slice(),
        [Happening::TimedOut, Happening::Refused(..)]
    ));
    assert!(!late.tell.is_empty());
}

#[test]
fn a_click_by_somebody_without_a_seat_is_refused_with_the_reason() {
    let open = two_persons();
    let outsider = Standing::NotEligible("this account is not a reviewer".to_owned());
    for standing in [outsider, may(&[seat("other", "")]), may(&[])] {
        for choice in [Choice::Approve, Choice::Deny] {
            let cast = ballot(&open, voter("eve"), choice, standing.clone());
            check_click(
                &open,
                &Event::Vote(Box::new(cast)),
                |refusal| matches!(refusal, Refusal::NotEligible { why } if !why.is_empty()),
            );
        }
    }
}

#[test]
fn a_click_on_another_request_or_another_view_is_refused() {
    let open = two_persons();
    let other = countersign::approval::Digest::of("test", b"other");
    let mut cast = ballot(&open, voter("ann"), Choice::Approve, may(&one()));
    cast.request_digest = other;
    check_click(&open, &Event::Vote(Box::new(cast.clone())), |refusal| {
        *refusal == Refusal::OtherRequest
    });
    cast.request_digest = open.asked.digest;
    cast.view_digest = other;
    check_click(&open, &Event::Vote(Box::new(cast)), |refusal| {
        *refusal == Refusal::OtherView
    });
}

#[test]
fn the_same_click_twice_counts_once() {
    let open = two_persons();
    let click = approve(&open, "ann", &one());
    let voted = after(&open, &click, at(5));
    check_click(&voted, &click, |refusal| *refusal == Refusal::AlreadyVoted);
}

// F.6: one person is one vote, in whichever groups and under whichever account.

#[test]
fn one_person_in_two_groups_is_not_enough() {
    let open = opened(vec![rule("r", &[("g1", 1), ("g2", 1)])]);
    let both = [seat("r", "g1"), seat("r", "g2")];
    let voted = after(&open, &approve(&open, "ann", &both), at(5));
    assert_eq!(voted.status(), Status::Pending);
    assert_eq!(
        apply(&voted, &approve(&open, "ann", &both), at(6)).answer,
        Err(Refusal::AlreadyVoted)
    );
}

#[test]
fn who_votes_first_does_not_matter() {
    let open = opened(vec![rule("r", &[("g1", 1), ("g2", 1)])]);
    let both = approve(&open, "ann", &[seat("r", "g1"), seat("r", "g2")]);
    let single = approve(&open, "ben", &[seat("r", "g1")]);
    for order in [[both.clone(), single.clone()], [single, both]] {
        assert_eq!(run(&open, &order).status(), Status::Approved);
    }
}

#[test]
fn one_person_fills_one_seat_of_two_rules() {
    let open = opened(vec![rule("r", &[("", 1)]), rule("s", &[("", 1)])]);
    let both = [seat("r", ""), seat("s", "")];
    let voted = after(&open, &approve(&open, "ann", &both), at(5));
    assert_eq!(voted.status(), Status::Pending);
    let done = after(&voted, &approve(&voted, "ben", &both), at(6));
    assert_eq!(done.status(), Status::Approved);
}

fn vote_as(approval: &Approval, voter: Voter) -> Event {
    Event::Vote(Box::new(ballot(
        approval,
        voter,
        Choice::Approve,
        may(&one()),
    )))
}

#[test]
fn two_accounts_of_one_person_are_one_vote() {
    let open = two_persons();
    let voted = after(&open, &vote_as(&open, alias("ann", "ann")), at(5));
    let second = apply(&voted, &vote_as(&open, alias("ann-admin", "ann")), at(6));
    assert_eq!(second.answer, Err(Refusal::AlreadyVoted));
}

/// Which name counts is read from the policies' entities, which may change between two votes.
#[test]
fn an_account_that_is_linked_to_another_name_after_its_vote_does_not_vote_twice() {
    let open = two_persons();
    let voted = after(&open, &vote_as(&open, alias("ann", "ann")), at(5));
    let renamed = apply(&voted, &vote_as(&open, alias("ann", "ann-of-hr")), at(6));
    assert_eq!(renamed.answer, Err(Refusal::AlreadyVoted));
    assert_eq!(renamed.approval.status(), Status::Pending);
}

#[test]
fn two_voters_who_turn_out_to_be_one_person_cannot_redeem() {
    let mut attempt = attempt(&approved(), None);
    for (person, _) in attempt.standings.values_mut() {
        *person = user("ann");
    }
    check_superseded(attempt, Cause::ApproverIneligible);
}

#[test]
fn a_voter_who_turns_out_to_be_of_the_requesters_side_cannot_redeem() {
    let mut attempt = attempt(&approved(), None);
    attempt.standings.get_mut(&user("ann")).unwrap().0 = user("owner");
    check_superseded(attempt, Cause::ApproverIneligible);
}

#[test]
fn a_voter_of_whom_nothing_is_known_any_more_cannot_redeem() {
    let mut attempt = attempt(&approved(), None);
    attempt.standings.remove(&user("ann"));
    check_superseded(attempt, Cause::ApproverIneligible);
}

#[test]
fn a_requirement_of_nothing_is_not_fulfilled() {
    for seats in [BTreeMap::new(), BTreeMap::from([(seat("r", ""), 0)])] {
        let mut attempt = attempt(&approved(), None);
        attempt.seats = seats;
        check_superseded(attempt, Cause::RequirementStronger);
    }
}

fn check_superseded(attempt: countersign::approval::RedeemAttempt, cause: Cause) {
    let transition = apply(&approved(), &Event::Redeem(Box::new(attempt)), at(20));
    assert_eq!(transition.answer, Err(Refusal::Superseded(cause)));
    assert_eq!(transition.approval.status(), Status::Superseded);
    assert_eq!(transition.approval.version, approved().version + 1);
    assert!(!transition.tell.is_empty());
}

#[test]
fn a_rule_that_comes_twice_is_not_weakened() {
    let open = opened(vec![rule("r", &[("", 2)]), rule("r", &[("", 1)])]);
    let voted = after(&open, &approve(&open, "ann", &one()), at(5));
    assert_eq!(voted.status(), Status::Pending);
}

// F.9 and F.5: what only looks like the approved request keeps the grant.

#[test]
fn a_request_that_is_not_the_approved_one_is_refused_and_keeps_the_grant() {
    let mut other_digest = attempt(&approved(), None);
    other_digest.digest = countersign::approval::Digest::of("test", b"other");
    check_click(
        &approved(),
        &Event::Redeem(Box::new(other_digest)),
        |refusal| *refusal == Refusal::RequestMismatch,
    );
    let mut other_caller = attempt(&approved(), None);
    other_caller.caller = "somebody".to_owned();
    check_click(
        &approved(),
        &Event::Redeem(Box::new(other_caller)),
        |refusal| *refusal == Refusal::OtherCaller,
    );
}

// F.13: votes belong to one approval, not to a request.

#[test]
fn old_votes_do_not_count_when_the_same_is_proposed_again() {
    let rules = || vec![rule("r", &[("", 2)])];
    let first = named("a-1", rules());
    let voted = after(&first, &approve(&first, "ann", &one()), at(5));
    let cancelled = after(&voted, &Event::Cancel(by_caller()), at(6));
    let second = named("a-2", rules());
    assert_eq!(second.asked.digest, cancelled.asked.digest);
    assert!(second.votes.is_empty());
    let by_ben = after(&second, &approve(&second, "ben", &one()), at(7));
    assert_eq!(by_ben.status(), Status::Pending);
    let by_ann = after(&by_ben, &approve(&by_ben, "ann", &one()), at(8));
    assert_eq!(by_ann.status(), Status::Approved);
}

#[test]
fn only_the_requesters_side_cancels() {
    let open = two_persons();
    let by = |withdrawal: Withdrawal| apply(&open, &Event::Cancel(withdrawal), at(20)).answer;
    let person = |name: &str, standing| Withdrawal {
        by: countersign::approval::Actor::Person(voter(name)),
        standing,
        comment: None,
    };
    assert_eq!(by(by_caller()), Ok(()));
    assert_eq!(by(person("owner", Some(may(&one())))), Ok(()));
    let said = Standing::Barred("created the job".to_owned());
    assert_eq!(by(person("zoe", Some(said))), Ok(()));
    let refused = Err(Refusal::NotTheRequester);
    assert_eq!(by(person("ann", Some(may(&one())))), refused);
    assert_eq!(by(person("owner", None)), refused);
    let other = Withdrawal {
        by: countersign::approval::Actor::Caller("somebody".to_owned()),
        ..by_caller()
    };
    assert_eq!(by(other), refused);
}

// F.14: the deadline is in every event's guard, and a clock that jumps changes nothing that has ended.

#[test]
fn a_clock_that_jumps_around_the_first_deadline_never_lets_a_late_vote_in() {
    let open = two_persons();
    let vote = approve(&open, "ann", &one());
    for (now, is_counted) in [
        (-1000, true),
        (0, true),
        (99, true),
        (100, false),
        (5000, false),
    ] {
        assert_eq!(apply(&open, &vote, at(now)).answer.is_ok(), is_counted);
        assert_eq!(open.status_at(at(now)) == Status::Pending, is_counted);
    }
    let expired = after(&open, &Event::Tick, at(100));
    let back = apply(&expired, &vote, at(1));
    assert_eq!(back.approval, expired);
}

#[test]
fn a_clock_that_jumps_around_the_second_deadline_never_lets_a_late_use_in() {
    let open = approved();
    for (now, is_spent) in [
        (-1000, true),
        (10, true),
        (59, true),
        (60, false),
        (5000, false),
    ] {
        let spent = apply(&open, &redeem(&open, None), at(now));
        assert_eq!(spent.answer.is_ok(), is_spent);
        assert_eq!(open.status_at(at(now)) == Status::Approved, is_spent);
    }
    let lapsed = after(&open, &Event::Tick, at(60));
    let back = apply(&lapsed, &redeem(&open, None), at(11));
    assert_eq!(back.approval, lapsed);
}

#[test]
fn a_timeout_never_approves_and_an_escalation_lowers_nothing() {
    let mut patient = rule("r", &[("", 2)]);
    patient.remind_after = Some(seconds(10));
    patient.escalate_after = Some(seconds(20));
    patient.escalate_to = vec!["slack:#chiefs".to_owned()];
    let open = opened(vec![patient]);
    let voted = after(&open, &approve(&open, "ann", &one()), at(5));
    assert_eq!(voted.next_timer(), Some(at(10)));
    let late = apply(&voted, &Event::Tick, at(50));
    let whats: Vec<&Happening> = late.records.iter().map(|record| &record.what).collect();
    assert_eq!(whats, [&Happening::Escalated, &Happening::Reminded]);
    assert!(late.tell.contains("slack:#chiefs"));
    assert_eq!(late.approval.seats(), open.seats());
    assert_eq!(late.approval.status(), Status::Pending);
    assert_eq!(late.approval.next_timer(), Some(at(100)));
    let ended = after(&late.approval, &Event::Tick, at(100));
    assert_eq!(ended.status(), Status::Expired);
    assert_eq!(ended.next_timer(), None);
}

#[test]
fn asking_again_tells_nobody() {
    let open = two_persons();
    let joined = apply(&open, &Event::Join, at(1));
    assert!(joined.tell.is_empty());
    assert_eq!(joined.approval.joined, 1);
    assert_eq!(joined.approval.asked.request, request());
}
