//! What must hold whatever happens, said of one event with what was before and after it.

use std::collections::{BTreeMap, BTreeSet};

use countersign::approval::{
    Approval, Choice, ControlRecord, Event, Happening, RedeemAttempt, Refusal, ReportedOutcome,
    Standing, State, Status, Transition, Vote, Voter,
};
use countersign::model::{EntityRef, Seat};
use jiff::{SignedDuration, Timestamp};

use super::super::support::{CALLER, can_fill};

/// Fails unless `holds`.
fn must(holds: bool, what: &str) -> Result<(), String> {
    match holds {
        true => Ok(()),
        false => Err(what.to_owned()),
    }
}

/// Everything that must hold of one event.
pub(crate) fn step(
    before: &Approval,
    event: &Event,
    now: Timestamp,
    transition: &Transition,
) -> Result<(), String> {
    let after = &transition.approval;
    if before.version == after.version {
        must(before == after, "something changed without a version")?;
    } else {
        nothing_frozen_moves(before, after)?;
        statuses(before, after)?;
        votes(before, event, now, after)?;
    }
    records(before, now, transition)?;
    told(before, event, transition)?;
    deadlines(before, event, now, transition)?;
    approval_is_earned(before, event, after)?;
    redemption_is_earned(before, event, now, transition)?;
    a_no_ends_it(before, event, now, after)
}

fn nothing_frozen_moves(before: &Approval, after: &Approval) -> Result<(), String> {
    must(before.version < after.version, "a version went back")?;
    must(before.id == after.id, "the id changed")?;
    must(before.asked == after.asked, "what was asked changed")?;
    must(
        before.requirements == after.requirements,
        "the requirements changed",
    )?;
    must(
        (before.opened, before.expires) == (after.opened, after.expires),
        "the deadline changed",
    )?;
    let moving = |approval: &Approval| {
        (
            approval.state.clone(),
            approval.votes.len(),
            approval.joined,
            approval.timers.clone(),
        )
    };
    must(moving(before) != moving(after), "a version is not a change")
}

fn is_allowed(from: Status, to: Status) -> bool {
    from == to || Status::TRANSITIONS.contains(&(from, to))
}

fn statuses(before: &Approval, after: &Approval) -> Result<(), String> {
    let (from, to) = (before.status(), after.status());
    // Time may end a grant before an event is refused, but nothing is approved and ended by one event.
    must(is_allowed(from, to), "a transition that does not exist")?;
    match (&before.state, &after.state) {
        (State::Closed(..), _) => Err("what was closed changed".to_owned()),
        (
            State::Redeemed {
                grant,
                redemption,
                resolution,
            },
            State::Redeemed {
                grant: grant_after,
                redemption: redemption_after,
                resolution: resolution_after,
            },
        ) => {
            must(
                (grant, redemption) == (grant_after, redemption_after),
                "a redemption changed",
            )?;
            must(
                resolution
                    .as_ref()
                    .is_none_or(|known| known.outcome == ReportedOutcome::Unknown)
                    || resolution == resolution_after,
                "an outcome changed",
            )
        }
        (State::Approved(grant), State::Approved(grant_after)) => {
            must(grant == grant_after, "a grant changed")
        }
        _ => Ok(()),
    }
}

fn votes(before: &Approval, event: &Event, now: Timestamp, after: &Approval) -> Result<(), String> {
    must(
        after.votes.starts_with(&before.votes),
        "a vote was taken away",
    )?;
    match (&after.votes[before.votes.len()..], event) {
        ([], _) => {}
        ([vote], Event::Vote(ballot)) => {
            must(vote.at == now, "a vote has another time")?;
            must(
                (&vote.voter, vote.choice) == (&ballot.voter, ballot.choice),
                "a vote is not as it was cast",
            )?;
            must(
                (vote.request_digest, vote.view_digest)
                    == (before.asked.digest, before.asked.view_digest),
                "a vote for something else counts",
            )?;
        }
        _ => return Err("votes appeared".to_owned()),
    }
    let mut names: BTreeMap<&EntityRef, Vec<Choice>> = BTreeMap::new();
    let mut accounts: BTreeMap<&EntityRef, Vec<Choice>> = BTreeMap::new();
    for vote in &after.votes {
        names
            .entry(&vote.voter.canonical)
            .or_default()
            .push(vote.choice);
        accounts
            .entry(&vote.voter.account)
            .or_default()
            .push(vote.choice);
        let is_barred = is_barred(before, &vote.voter);
        must(
            !(is_barred && vote.choice == Choice::Approve),
            "somebody barred has approved",
        )?;
    }
    for choices in names.values().chain(accounts.values()) {
        let is_fine = matches!(choices.as_slice(), [_] | [Choice::Approve, Choice::Deny]);
        must(is_fine, "a person has more than one vote")?;
    }
    Ok(())
}

fn is_barred(approval: &Approval, voter: &Voter) -> bool {
    [&voter.account, &voter.canonical]
        .into_iter()
        .any(|name| is_of_the_side(approval, name))
}

fn is_of_the_side(approval: &Approval, name: &EntityRef) -> bool {
    let asked = &approval.asked;
    asked.barred.contains_key(name)
        || asked.request.principal == *name
        || asked.request.on_behalf_of.contains(name)
}

fn records(before: &Approval, now: Timestamp, transition: &Transition) -> Result<(), String> {
    let after = &transition.approval;
    let mut version = before.version;
    let mut status = before.status();
    let mut refused = 0;
    for record in &transition.records {
        must(record.at == now, "a record has another time")?;
        must(
            record.approval == before.id && record.digest == before.asked.digest,
            "a record is of another approval",
        )?;
        must(
            record.from == Some(status) && is_allowed(status, record.to),
            "a record does not follow the one before",
        )?;
        must(refused == 0, "something is recorded after a refusal")?;
        if matches!(record.what, Happening::Refused(..)) {
            refused += 1;
            must(record.to == status, "a refusal moved the approval")?;
        } else {
            version += 1;
        }
        must(
            record.version == version,
            "a version does not have exactly one record",
        )?;
        status = record.to;
    }
    must(
        (version, status) == (after.version, after.status()),
        "the records end elsewhere than the approval",
    )?;
    let is_refused = match &transition.answer {
        // The attempt did something: it superseded the approval.
        Ok(()) | Err(Refusal::Superseded(_)) => 0,
        Err(_) => 1,
    };
    must(refused == is_refused, "a refusal is not recorded")
}

fn told(before: &Approval, event: &Event, transition: &Transition) -> Result<(), String> {
    let after = &transition.approval;
    let known = |approval: &Approval| {
        let outcome = match &approval.state {
            State::Redeemed { resolution, .. } => resolution.as_ref().map(|known| known.outcome),
            State::Pending | State::Approved(_) | State::Closed(..) => None,
        };
        (
            approval.status(),
            approval.votes.len(),
            approval.timers.reminded,
            approval.timers.escalated,
            outcome,
        )
    };
    let is_news = known(before) != known(after);
    let mut places = BTreeSet::new();
    for rule in after.requirements.iter().filter(|_| is_news) {
        places.extend(rule.notify.iter().cloned());
        if after.timers.escalated.is_some() {
            places.extend(rule.escalate_to.iter().cloned());
        }
    }
    let what = format!("{} tells {:?}", event.name(), transition.tell);
    must(transition.tell == places, &what)
}

fn deadlines(
    before: &Approval,
    event: &Event,
    now: Timestamp,
    transition: &Transition,
) -> Result<(), String> {
    let after = &transition.approval;
    let deadline = match &before.state {
        State::Pending => before.expires,
        State::Approved(grant) => grant.until,
        State::Redeemed { .. } | State::Closed(..) => return Ok(()),
    };
    if now >= deadline {
        let ended = match before.status() {
            Status::Pending => Status::Expired,
            _ => Status::Lapsed,
        };
        must(after.status() == ended, "a deadline has passed unseen")?;
        must(before.status_at(now) == ended, "a status is out of date")?;
        must(after.votes == before.votes, "a vote came too late")?;
        return must(
            transition.answer.is_err() || matches!(event, Event::Tick),
            "an event came too late and was done",
        );
    }
    must(
        !matches!(after.status(), Status::Expired | Status::Lapsed),
        "something ended before its time",
    )
}

fn approving(approval: &Approval) -> Vec<&Vote> {
    let mut last: BTreeMap<&EntityRef, &Vote> = BTreeMap::new();
    for vote in &approval.votes {
        last.insert(&vote.voter.canonical, vote);
    }
    last.into_values()
        .filter(|vote| vote.choice == Choice::Approve)
        .collect()
}

fn approval_is_earned(before: &Approval, event: &Event, after: &Approval) -> Result<(), String> {
    let persons: Vec<BTreeSet<Seat>> = approving(after)
        .into_iter()
        .map(|vote| vote.seats.clone())
        .collect();
    let is_vote = matches!(event, Event::Vote(ballot) if ballot.choice == Choice::Approve);
    if !is_vote || before.status() != Status::Pending || after.votes == before.votes {
        let is_new = after.status() == Status::Approved && before.status() != Status::Approved;
        return must(!is_new, "approved by something else than a vote");
    }
    let is_full = can_fill(&after.seats(), &persons);
    let expected = if is_full {
        Status::Approved
    } else {
        Status::Pending
    };
    must(
        after.status() == expected,
        "APPROVED and full seats are not the same",
    )?;
    must(
        after.progress().is_full() == is_full,
        "the progress is wrong",
    )
}

fn redemption_is_earned(
    before: &Approval,
    event: &Event,
    now: Timestamp,
    transition: &Transition,
) -> Result<(), String> {
    let after = &transition.approval;
    let Event::Redeem(attempt) = event else {
        let is_new = after.status() == Status::Redeemed && before.status() != Status::Redeemed;
        return must(!is_new, "redeemed by something else than an attempt");
    };
    if transition.answer.is_err() {
        return must(
            before.status() == Status::Redeemed || after.status() != Status::Redeemed,
            "refused and redeemed",
        );
    }
    must(attempt.caller == CALLER, "another caller redeemed")?;
    must(
        attempt.digest == before.asked.digest,
        "another request redeemed",
    )?;
    let State::Redeemed { redemption, .. } = &after.state else {
        return Err("allowed and not redeemed".to_owned());
    };
    match &before.state {
        State::Redeemed { .. } => must(
            attempt.key.is_some() && redemption.key == attempt.key,
            "redeemed twice",
        ),
        State::Approved(grant) => {
            must(now < grant.until, "redeemed too late")?;
            must(
                (redemption.at, &redemption.key, &redemption.decision_id)
                    == (now, &attempt.key, &attempt.decision_id),
                "a redemption is not as it was attempted",
            )?;
            must(
                voters_still_fill(before, attempt),
                "redeemed though the voters do not fill the seats of today",
            )
        }
        State::Pending | State::Closed(..) => Err("redeemed without a grant".to_owned()),
    }
}

/// Whether those who voted fill the seats of today, each once, and none of them is barred under any of their names.
fn voters_still_fill(approval: &Approval, attempt: &RedeemAttempt) -> bool {
    let mut persons: BTreeMap<&EntityRef, BTreeSet<Seat>> = BTreeMap::new();
    for vote in approving(approval) {
        let Some((name, Standing::MayFill(seats))) = attempt.standings.get(&vote.voter.canonical)
        else {
            continue;
        };
        if !is_barred(approval, &vote.voter) && !is_of_the_side(approval, name) {
            persons
                .entry(name)
                .or_default()
                .extend(seats.iter().cloned());
        }
    }
    let persons: Vec<BTreeSet<Seat>> = persons.into_values().collect();
    !persons.is_empty() && can_fill(&attempt.seats, &persons)
}

fn a_no_ends_it(
    before: &Approval,
    event: &Event,
    now: Timestamp,
    after: &Approval,
) -> Result<(), String> {
    let Event::Vote(ballot) = event else {
        return Ok(());
    };
    let ended = match before.status_at(now) {
        Status::Pending => Status::Denied,
        Status::Approved => Status::Revoked,
        _ => return Ok(()),
    };
    let may_say_no = match &ballot.standing {
        Standing::MayFill(seats) => seats.iter().any(|seat| before.seats().contains_key(seat)),
        Standing::Barred(_) => true,
        Standing::NotEligible(_) => false,
    };
    let is_no = ballot.choice == Choice::Deny
        && ballot.request_digest == before.asked.digest
        && ballot.view_digest == before.asked.view_digest
        && (may_say_no || is_barred(before, &ballot.voter));
    must(
        !is_no || after.status() == ended,
        "a no did not end the approval",
    )
}

/// Time changes something when the timer says so, and not a moment earlier.
pub(crate) fn timer(approval: &Approval) -> Result<(), String> {
    let tick = |now| approval.clone().apply(&Event::Tick, now);
    let Some(due) = approval.next_timer() else {
        let end = tick(Timestamp::MAX);
        return must(
            end.approval == *approval && end.records.is_empty(),
            "time changed what has no timer",
        );
    };
    let early = tick(due - SignedDuration::from_nanos(1));
    must(
        early.approval == *approval && early.records.is_empty() && early.tell.is_empty(),
        "time changed something before the timer",
    )?;
    let late = tick(due);
    must(
        late.approval.version > approval.version && late.answer.is_ok(),
        "time changed nothing at the timer",
    )?;
    must(
        late.approval.next_timer() > Some(due) || late.approval.next_timer().is_none(),
        "the timer stands still",
    )
}

/// What is stored reads back as it was.
pub(crate) fn round_trip(approval: &Approval, records: &[ControlRecord]) -> Result<(), String> {
    let stored = (approval, records);
    let text = serde_json::to_vec(&stored).map_err(|error| error.to_string())?;
    let (approval_again, records_again): (Approval, Vec<ControlRecord>) =
        serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    must(
        approval_again == *approval && records_again == records,
        "what is stored reads back otherwise",
    )
}
