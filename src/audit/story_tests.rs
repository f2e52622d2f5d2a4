//! The story of one complete approval, and of decisions without one.

use std::fmt::Write;

use crate::audit::proto::{
    ApprovalJoined, Choice, DenyReason, GrantRedeemed, OutcomeReported, Requirement, SeatCount,
    ShownLine, VoteCast,
};

use super::*;

const DECISION: [u8; 16] = [1; 16];

fn named(kind: &str, id: &str) -> Entity {
    Entity {
        r#type: kind.to_owned(),
        id: id.to_owned(),
    }
}

fn voter(name: &str) -> Person {
    Person {
        issuer: "https://login.acme".to_owned(),
        subject: format!("{name}@acme"),
        account: Some(named("User", name)),
        canonical: Some(named("User", name)),
        channel: "api".to_owned(),
    }
}

fn event(index: u64, (from, to): (Status, Status), refusal: &str, what: What) -> Placed {
    let event = ApprovalEvent {
        approval_id: "approval-1".to_owned(),
        from: from.into(),
        to: to.into(),
        refusal: refusal.to_owned(),
        what: Some(what),
        ..ApprovalEvent::default()
    };
    Placed {
        log: "control".to_owned(),
        index,
        record: Record {
            at_us: i64::try_from(index).unwrap().saturating_mul(1_000),
            what: Some(record::What::Approval(event)),
        },
    }
}

fn decision(at_us: i64, decision: Decision) -> Placed {
    Placed {
        log: "replica".to_owned(),
        index: 9,
        record: Record {
            at_us,
            what: Some(record::What::Decision(decision)),
        },
    }
}

fn opened() -> What {
    let attribute = |name: &str, kind: value::Kind| Attribute {
        name: name.to_owned(),
        value: Some(Value { kind: Some(kind) }),
    };
    let seat = Seat {
        rule: "release".to_owned(),
        slot: "lead".to_owned(),
    };
    What::Opened(ApprovalOpened {
        caller: "ci".to_owned(),
        principal: Some(named("Agent", "bot")),
        action: "Action::\"deploy\"".to_owned(),
        resource: Some(named("Service", "payments")),
        context: vec![
            attribute("env", value::Kind::String("prod".to_owned())),
            attribute("secret", value::Kind::Dropped(value::Dropped {})),
        ],
        on_behalf_of: vec![Entity {
            r#type: "User".to_owned(),
            id: "ana".to_owned(),
        }],
        justification: "hotfix".to_owned(),
        policy_version: "ab12".to_owned(),
        shown: vec![ShownLine {
            kind: "headline".to_owned(),
            name: String::new(),
            text: "Deploy payments".to_owned(),
        }],
        barred: vec![proto::BarredPerson {
            person: Some(named("User", "ana")),
            why: "the agent acts for them".to_owned(),
        }],
        requirements: vec![Requirement {
            rule: "release".to_owned(),
            title: "Release".to_owned(),
            seats: vec![SeatCount {
                seat: Some(seat),
                count: 1,
            }],
            gates: vec!["prod-gate".to_owned()],
            redeem_within_us: 1,
        }],
        expires_us: 99,
        ..ApprovalOpened::default()
    })
}

fn vote(name: &str, choice: Choice, standing: Standing, comment: &str) -> What {
    What::Voted(VoteCast {
        voter: Some(voter(name)),
        choice: choice.into(),
        standing: Some(standing),
        comment: comment.to_owned(),
        ..VoteCast::default()
    })
}

/// A complete approval, out of order.
fn records() -> Vec<Placed> {
    use Status::{Approved, Pending, Redeemed, Unspecified};
    let lead = Standing {
        seats: vec![Seat {
            rule: "release".to_owned(),
            slot: "lead".to_owned(),
        }],
        ..Standing::default()
    };
    let barred = Standing {
        barred: "the agent acts for them".to_owned(),
        ..Standing::default()
    };
    let redeemed = What::Redeemed(GrantRedeemed {
        caller: "ci".to_owned(),
        decision_id: DECISION.to_vec(),
        ..GrantRedeemed::default()
    });
    let reported = What::Reported(OutcomeReported {
        caller: "ci".to_owned(),
        outcome: "SUCCEEDED".to_owned(),
        detail: "rolled out".to_owned(),
    });
    let own = "you cannot approve your own request";
    vec![
        decision(
            5_500,
            Decision {
                decision_id: DECISION.to_vec(),
                outcome: Outcome::Allow.into(),
                determining: vec!["permit-ci".to_owned()],
                rules: vec!["release".to_owned()],
                approval_id: "approval-1".to_owned(),
                is_granted: true,
                ..Decision::default()
            },
        ),
        event(6, (Redeemed, Redeemed), "", reported),
        event(1, (Unspecified, Pending), "", opened()),
        event(2, (Pending, Pending), "", What::Joined(ApprovalJoined {})),
        event(
            3,
            (Pending, Pending),
            own,
            vote("ana", Choice::Approve, barred, "mine"),
        ),
        event(
            4,
            (Pending, Approved),
            "",
            vote("yuki", Choice::Approve, lead, "fine"),
        ),
        event(5, (Approved, Redeemed), "", redeemed),
    ]
}

fn told(story: &Story) -> String {
    let mut text = String::new();
    let asked = story.asked.as_ref().unwrap();
    writeln!(
        text,
        "{} wants {} on {}",
        asked.principal, asked.action, asked.resource
    )
    .unwrap();
    writeln!(
        text,
        "through {}, for {:?}",
        asked.caller, asked.on_behalf_of
    )
    .unwrap();
    writeln!(
        text,
        "with {:?} saying {}",
        asked.context, asked.justification
    )
    .unwrap();
    writeln!(
        text,
        "barred {:?}, until {:?}",
        asked.barred, asked.expires_us
    )
    .unwrap();
    for gate in &story.gates {
        writeln!(
            text,
            "gate {:?} {} {} {:?}",
            gate.policies, gate.rule, gate.title, gate.seats
        )
        .unwrap();
    }
    for (kind, name, line) in &story.shown {
        writeln!(text, "shown {kind} {name}: {line}").unwrap();
    }
    for step in &story.steps {
        let (log, index) = &step.place;
        writeln!(text, "{} {log} {index}: {}", step.at_us, step.deed).unwrap();
        if !step.refusal.is_empty() {
            writeln!(text, "  refused: {}", step.refusal).unwrap();
        }
        if !step.comment.is_empty() {
            writeln!(text, "  says: {}", step.comment).unwrap();
        }
    }
    writeln!(text, "{} {:?}", story.approval_id, story.status).unwrap();
    write!(text, "ran {:?}, outcome {:?}", story.ran, story.outcome).unwrap();
    text
}

#[test]
fn the_story_of_a_complete_approval() {
    let text = told(&Story::of(&records()));
    let expected = r#"Agent::"bot" wants Action::"deploy" on Service::"payments"
through ci, for ["User::\"ana\""]
with [("env", "\"prod\""), ("secret", "(not recorded)")] saying hotfix
barred [("User::\"ana\"", "the agent acts for them")], until Some(99)
gate ["prod-gate"] release Release [("release/lead", 1)]
shown headline : Deploy payments
1000 control 1: approval opened for Agent::"bot" through ci
2000 control 2: the same request was asked again
3000 control 3: User::"ana" (ana@acme, says https://login.acme) approves, of the requester's side: the agent acts for them
  refused: you cannot approve your own request
  says: mine
4000 control 4: User::"yuki" (yuki@acme, says https://login.acme) approves as release/lead
  says: fine
5000 control 5: grant spent by decision 01010101-0101-0101-0101-010101010101 through ci
5500 replica 9: decision 01010101-0101-0101-0101-010101010101 ALLOW by permit-ci; rules release; rests on the grant
6000 control 6: outcome SUCCEEDED reported through ci
  says: rolled out
approval-1 Some(Redeemed)
ran Some((5000, "01010101-0101-0101-0101-010101010101")), outcome Some(("SUCCEEDED", "rolled out"))"#;
    assert_eq!(text, expected);
}

#[test]
fn the_order_in_which_records_come_does_not_matter() {
    let mut records = records();
    let story = Story::of(&records);
    for _ in 0..records.len() {
        records.rotate_left(1);
        assert_eq!(Story::of(&records), story);
    }
}

#[test]
fn a_refused_redemption_is_no_run() {
    let redeemed = What::Redeemed(GrantRedeemed::default());
    let refused = event(2, (Status::Pending, Status::Pending), "not yet", redeemed);
    let story = Story::of(&[
        event(1, (Status::Unspecified, Status::Pending), "", opened()),
        refused,
    ]);
    assert_eq!((story.ran, story.status), (None, Some(Status::Pending)));
    assert_eq!(story.steps[1].refusal, "not yet");
}

#[test]
fn a_decision_alone_is_a_story_too() {
    let denied = Decision {
        decision_id: DECISION.to_vec(),
        outcome: Outcome::Deny.into(),
        deny_reason: DenyReason::NoPermit.into(),
        principal: Some(named("User", "a\"b")),
        action: "read".to_owned(),
        ..Decision::default()
    };
    let story = Story::of(&[decision(7, denied)]);
    let asked = story.asked.unwrap();
    assert_eq!(
        (asked.at_us, asked.principal.as_str()),
        (7, r#"User::"a\"b""#)
    );
    let deed = "decision 01010101-0101-0101-0101-010101010101 DENY (no permit)";
    assert_eq!(story.steps[0].deed, deed);
    assert_eq!((story.ran, story.status), (None, None));
    assert!(story.approval_id.is_empty());
}

#[test]
fn an_allowed_decision_ran_unless_it_was_a_dry_run() {
    for is_check in [false, true] {
        let allowed = Decision {
            outcome: Outcome::Allow.into(),
            is_check,
            ..Decision::default()
        };
        assert_eq!(Story::of(&[decision(7, allowed)]).ran.is_some(), !is_check);
    }
}

#[test]
fn values_are_written_about_as_cedar_writes_them() {
    let of = |kind| value(Some(&Value { kind: Some(kind) }));
    let one = Value {
        kind: Some(value::Kind::Long(1)),
    };
    let set = value::Set {
        values: vec![one.clone(), one.clone()],
    };
    assert_eq!(of(value::Kind::Set(set)), "[1, 1]");
    let attributes = vec![Attribute {
        name: "a".to_owned(),
        value: Some(one),
    }];
    let record = value::AttributeRecord { attributes };
    assert_eq!(of(value::Kind::Record(record)), "{a: 1}");
    let call = value::Extension {
        function: "ip".to_owned(),
        argument: "10.0.0.1".to_owned(),
    };
    assert_eq!(of(value::Kind::Extension(call)), "ip(\"10.0.0.1\")");
    let hmac = of(value::Kind::Hmac(vec![0xab; 32]));
    assert_eq!(hmac, "(only its keyed hash is recorded: abababababab…)");
    assert_eq!(value(None), "?");
}
