//! Whether another approval may be opened.

use std::time::Duration;

use countersign::approval::flood::{Facts, FloodLimit, FloodLimits, Verdict, judge};
use countersign::approval::{Approval, Event};
use jiff::Timestamp;

use super::support::{after, approve, at, by_caller, deny, named, redeem, rule, seat};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

fn limits() -> FloodLimits {
    FloodLimits {
        pending_per_requester: 3,
        opened_per_minute: 2,
        cool_down: Duration::from_secs(15 * 60),
        longest_cool_down: Duration::from_secs(2 * 3600),
    }
}

fn pending() -> Approval {
    named("a", vec![rule("r", &[("", 1)])])
}

fn approved() -> Approval {
    let open = pending();
    after(&open, &approve(&open, "ann", &[seat("r", "")]), at(10))
}

fn denied(when: Timestamp) -> Approval {
    let mut rule = rule("r", &[("", 1)]);
    rule.expires_after = Duration::from_secs(1000 * 3600);
    let open = named("a", vec![rule]);
    after(&open, &deny(&open, "ann", &[seat("r", "")]), when)
}

fn verdict_on(open: Approval, now: Timestamp) -> Verdict {
    let facts = Facts {
        open: Some(open),
        ..Facts::default()
    };
    judge(&limits(), facts, now)
}

fn cool_down(denials: &[Timestamp], now: Timestamp) -> Verdict {
    let facts = Facts {
        denied: denials.iter().map(|when| denied(*when)).collect(),
        ..Facts::default()
    };
    judge(&limits(), facts, now)
}

fn cools_until(verdict: Verdict) -> Option<Timestamp> {
    match verdict {
        Verdict::CoolDown { until, .. } => Some(until),
        Verdict::Open => None,
        other @ (Verdict::Join(_) | Verdict::TooMany { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn a_request_that_waits_is_joined_up_to_its_deadline() {
    assert!(matches!(verdict_on(pending(), at(99)), Verdict::Join(_)));
    assert_eq!(verdict_on(pending(), at(100)), Verdict::Open);
}

#[test]
fn an_approved_request_is_joined_until_its_grant_lapses() {
    assert!(matches!(verdict_on(approved(), at(59)), Verdict::Join(_)));
    assert_eq!(verdict_on(approved(), at(60)), Verdict::Open);
}

#[test]
fn what_has_ended_is_not_joined() {
    let redeemed = after(&approved(), &redeem(&approved(), None), at(11));
    let cancelled = after(&pending(), &Event::Cancel(by_caller()), at(11));
    for ended in [redeemed, cancelled] {
        assert_eq!(verdict_on(ended, at(12)), Verdict::Open);
    }
}

#[test]
fn joining_comes_before_every_limit() {
    let facts = Facts {
        open: Some(pending()),
        denied: vec![denied(at(1))],
        pending: 1000,
        opened: vec![at(1); 1000],
    };
    assert!(matches!(judge(&limits(), facts, at(2)), Verdict::Join(_)));
}

#[test]
fn a_denied_request_cools_down_and_then_opens() {
    let end = 15 * MINUTE;
    assert_eq!(cools_until(cool_down(&[at(0)], at(1))), Some(at(end)));
    assert_eq!(cools_until(cool_down(&[at(0)], at(end - 1))), Some(at(end)));
    assert_eq!(cools_until(cool_down(&[at(0)], at(end))), None);
}

#[test]
fn each_denial_doubles_the_cool_down_up_to_the_longest() {
    for (denials, wait) in [
        (1, 15 * MINUTE),
        (2, 30 * MINUTE),
        (3, HOUR),
        (4, 2 * HOUR),
        (5, 2 * HOUR),
        (100, 2 * HOUR),
    ] {
        // The latest is first.
        let times: Vec<Timestamp> = (0..denials).map(|back| at(1000 - back)).collect();
        assert_eq!(
            cools_until(cool_down(&times, at(1001))),
            Some(at(1000 + wait)),
            "{denials}"
        );
    }
}

#[test]
fn a_cool_down_of_any_length_does_not_overflow() {
    let limits = FloodLimits {
        cool_down: Duration::MAX,
        longest_cool_down: Duration::MAX,
        ..limits()
    };
    let facts = Facts {
        denied: vec![denied(at(0)); 40],
        ..Facts::default()
    };
    assert_eq!(
        cools_until(judge(&limits, facts, at(1))),
        Some(Timestamp::MAX)
    );
}

#[test]
fn a_requester_with_too_many_that_wait_opens_no_more() {
    for (pending, is_open) in [(2, true), (3, false), (4, false)] {
        let facts = Facts {
            pending,
            ..Facts::default()
        };
        match judge(&limits(), facts, at(0)) {
            Verdict::Open => assert!(is_open),
            Verdict::TooMany { limit, retry_at } => {
                assert!(!is_open);
                assert_eq!(limit, FloodLimit::PendingPerRequester(3));
                assert!(retry_at > at(0));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_requester_who_opens_too_fast_is_told_when_one_more_is_possible() {
    let judge_at = |opened: &[i64], now| {
        let facts = Facts {
            opened: opened.iter().map(|when| at(*when)).collect(),
            ..Facts::default()
        };
        judge(&limits(), facts, at(now))
    };
    assert_eq!(judge_at(&[0], 30), Verdict::Open);
    let too_many = |retry| Verdict::TooMany {
        limit: FloodLimit::OpenedPerMinute(2),
        retry_at: at(retry),
    };
    assert_eq!(judge_at(&[5, 20], 30), too_many(65));
    // Over the limit, since it was lowered: two must fall out of the minute.
    assert_eq!(judge_at(&[5, 20, 25], 30), too_many(80));
}

#[test]
fn a_limit_of_nothing_lets_nothing_pass() {
    let none = FloodLimits {
        pending_per_requester: 20,
        opened_per_minute: 0,
        ..limits()
    };
    let verdict = judge(&none, Facts::default(), at(0));
    assert!(matches!(verdict, Verdict::TooMany { retry_at, .. } if retry_at > at(0)));
}
