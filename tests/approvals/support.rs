//! What every test needs: an approval to begin with, people, and the events they cause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign::approval::quorum::Seats;
use countersign::approval::{
    Actor, Approval, ApprovalId, Asked, Ballot, Choice, Event, FrozenRequirement, Opening, Person,
    RedeemAttempt, ReportedOutcome, Standing, Transition, View, ViewWords, Voter, Withdrawal,
    request_digest,
};
use countersign::model::{EntityRef, PolicyVersion, Record, Request, Seat, Value};
use jiff::Timestamp;

/// Who opens all approvals here.
pub(crate) const CALLER: &str = "gateway";

/// `seconds` after the beginning of these tests' time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn user(id: &str) -> EntityRef {
    EntityRef::new("User", id)
}

pub(crate) fn seat(rule: &str, slot: &str) -> Seat {
    Seat {
        rule: rule.to_owned(),
        slot: slot.to_owned(),
    }
}

pub(crate) fn policies() -> PolicyVersion {
    PolicyVersion::new("p1")
}

/// A rule that waits 100 seconds for votes and grants for 50, and tells the place of its name.
pub(crate) fn rule(name: &str, slots: &[(&str, u32)]) -> FrozenRequirement {
    FrozenRequirement {
        rule: name.to_owned(),
        title: format!("Rule {name}"),
        seats: slots
            .iter()
            .map(|(slot, count)| (seat(name, slot), *count))
            .collect(),
        gates: vec![format!("gate-{name}")],
        expires_after: seconds(100),
        redeem_within: seconds(50),
        require: Vec::new(),
        notify: vec![format!("slack:#{name}")],
        remind_after: None,
        escalate_after: None,
        escalate_to: Vec::new(),
    }
}

pub(crate) fn request() -> Request {
    let context = Record::from(vec![(
        "environment".to_owned(),
        Value::String("production".to_owned()),
    )]);
    Request {
        caller: CALLER.to_owned(),
        on_behalf_of: vec![user("owner")],
        ..Request::new(
            EntityRef::new("Agent", "bot"),
            "Deploy",
            EntityRef::new("Service", "shop"),
            context,
        )
    }
}

/// What is asked by `request`, of people among whom `barred` are of the requester's side.
pub(crate) fn asked(
    request: Request,
    requirements: &[FrozenRequirement],
    barred: BTreeMap<EntityRef, String>,
) -> Asked {
    let action = "Action::\"Deploy\"".to_owned();
    let view = View::of(&ViewWords {
        request: &request,
        action: &action,
        requirements,
        descriptions: &BTreeMap::new(),
        barred: &barred,
    });
    Asked {
        digest: request_digest(&request, &action, |_, _| None),
        view_digest: view.digest(),
        view,
        request,
        action,
        policy_version: policies(),
        barred,
    }
}

/// An approval opened at the beginning; `owner` is barred.
pub(crate) fn opened(requirements: Vec<FrozenRequirement>) -> Approval {
    named("a-1", requirements)
}

pub(crate) fn named(id: &str, requirements: Vec<FrozenRequirement>) -> Approval {
    let barred = BTreeMap::from([(user("owner"), "owns the agent".to_owned())]);
    let opening = Opening {
        id: ApprovalId::new(id),
        asked: asked(request(), &requirements, barred),
        requirements,
    };
    Approval::open(opening, at(0))
}

/// The person `name`, with the only account of theirs.
pub(crate) fn voter(name: &str) -> Voter {
    alias(name, name)
}

/// The person `name`, signed in with `account`.
pub(crate) fn alias(account: &str, name: &str) -> Voter {
    Voter {
        person: Person {
            issuer: "https://id.example".to_owned(),
            subject: account.to_owned(),
        },
        account: user(account),
        canonical: user(name),
        channel: "api".to_owned(),
    }
}

pub(crate) fn may(seats: &[Seat]) -> Standing {
    Standing::MayFill(seats.iter().cloned().collect())
}

/// A vote on what `approval` shows.
pub(crate) fn ballot(
    approval: &Approval,
    voter: Voter,
    choice: Choice,
    standing: Standing,
) -> Ballot {
    Ballot {
        voter,
        choice,
        standing,
        policy_version: policies(),
        request_digest: approval.asked.digest,
        view_digest: approval.asked.view_digest,
        comment: None,
    }
}

pub(crate) fn vote(approval: &Approval, name: &str, choice: Choice, seats: &[Seat]) -> Event {
    Event::Vote(Box::new(ballot(approval, voter(name), choice, may(seats))))
}

pub(crate) fn approve(approval: &Approval, name: &str, seats: &[Seat]) -> Event {
    vote(approval, name, Choice::Approve, seats)
}

pub(crate) fn deny(approval: &Approval, name: &str, seats: &[Seat]) -> Event {
    vote(approval, name, Choice::Deny, seats)
}

pub(crate) fn by_caller() -> Withdrawal {
    Withdrawal {
        by: Actor::Caller(CALLER.to_owned()),
        standing: None,
        comment: None,
    }
}

/// The request as it was asked comes back, and everybody may still do what they could when they voted.
pub(crate) fn attempt(approval: &Approval, key: Option<&str>) -> RedeemAttempt {
    let standings = approval
        .approving_votes()
        .map(|vote| {
            let name = vote.voter.canonical.clone();
            let seats: BTreeSet<Seat> = vote.seats.clone();
            (name.clone(), (name, Standing::MayFill(seats)))
        })
        .collect();
    RedeemAttempt {
        caller: CALLER.to_owned(),
        key: key.map(str::to_owned),
        digest: approval.asked.digest,
        decision_id: "d-1".to_owned(),
        policy_version: policies(),
        seats: approval.seats(),
        standings,
    }
}

pub(crate) fn redeem(approval: &Approval, key: Option<&str>) -> Event {
    Event::Redeem(Box::new(attempt(approval, key)))
}

pub(crate) fn report(outcome: ReportedOutcome) -> Event {
    Event::Report {
        caller: CALLER.to_owned(),
        outcome,
        detail: None,
    }
}

/// Lets `event` happen to a copy.
pub(crate) fn apply(approval: &Approval, event: &Event, now: Timestamp) -> Transition {
    approval.clone().apply(event, now)
}

/// The approval after an event that must succeed.
pub(crate) fn after(approval: &Approval, event: &Event, now: Timestamp) -> Approval {
    let transition = apply(approval, event, now);
    assert_eq!(transition.answer, Ok(()), "{event:?}");
    transition.approval
}

/// Whether different persons fill all `seats`: tries every way of seating, one place after the other.
pub(crate) fn can_fill(seats: &Seats, persons: &[BTreeSet<Seat>]) -> bool {
    let places: Vec<&Seat> = seats
        .iter()
        .flat_map(|(seat, count)| std::iter::repeat_n(seat, *count as usize))
        .collect();
    let mut is_used = vec![false; persons.len()];
    can_sit(&places, persons, &mut is_used)
}

fn can_sit(places: &[&Seat], persons: &[BTreeSet<Seat>], is_used: &mut Vec<bool>) -> bool {
    let Some((place, rest)) = places.split_first() else {
        return true;
    };
    for person in 0..persons.len() {
        if is_used[person] || !persons[person].contains(*place) {
            continue;
        }
        is_used[person] = true;
        if can_sit(rest, persons, is_used) {
            return true;
        }
        is_used[person] = false;
    }
    false
}
