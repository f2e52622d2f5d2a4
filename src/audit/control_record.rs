//! Encodes what happens to approvals, for the control log.

use std::collections::BTreeSet;

use prost::Message;
use uuid::Uuid;

use crate::approval::{
    Actor, Approval, Ballot, Choice, ControlRecord, Event, Fact, Happening, Person, RedeemAttempt,
    Refusal, SafeText, Standing, Status, Voter, Withdrawal, path_step,
};
use crate::model::{EntityRef, Record, Redactions, Seat};

use super::encode::Fields;
use super::proto::{self, approval_event::What, record};
use super::record_values::{attributes, described};
use super::redaction::{RedactionKey, Redactor, Spot};

/// What stands in the log for a line that reviewers were shown and that policies keep out of the log.
pub(super) const NOT_RECORDED: &str = "(not recorded)";
/// A record of this many bytes fits in the log, with all that is written around it.
const LARGEST_BYTES: usize = (1 << 20) - (1 << 12);

/// The bytes of `record`, without what `redactor` keeps out.
pub fn encode(record: &ControlRecord, redactor: &Redactor<'_>) -> Vec<u8> {
    let (what, refusal) = match &record.what {
        Happening::Opened(approval) => (What::Opened(opened(approval, redactor)), None),
        Happening::Changed(event) => (event_of(event), None),
        Happening::Refused(event, refusal) => (event_of(event), Some(refusal)),
        Happening::TimedOut => (What::TimedOut(proto::TimePassed {}), None),
        Happening::Reminded => (What::Reminded(proto::ReviewersReminded {}), None),
        Happening::Escalated => (What::Escalated(proto::ApprovalEscalated {}), None),
    };
    let event = proto::ApprovalEvent {
        approval_id: record.approval.as_str().to_owned(),
        version: record.version,
        from: record
            .from
            .map_or(proto::Status::Unspecified, status)
            .into(),
        to: status(record.to).into(),
        request_digest: record.digest.as_bytes().to_vec(),
        refusal: refusal.map(ToString::to_string).unwrap_or_default(),
        refusal_kind: refusal.map(kind_of).unwrap_or_default().to_owned(),
        what: Some(what),
    };
    fitting(record.at.as_microsecond(), event)
}

/// The bytes of an event, without what makes it too large for the log: first what reviewers were shown, then the circumstances. Their
/// digests stay.
fn fitting(at_us: i64, mut event: proto::ApprovalEvent) -> Vec<u8> {
    let mut bytes = encode_control(at_us, record::What::Approval(event.clone()));
    if bytes.len() <= LARGEST_BYTES {
        return bytes;
    }
    if let Some(What::Opened(opened)) = &mut event.what {
        opened.shown.clear();
        bytes = encode_control(at_us, record::What::Approval(event.clone()));
    }
    if bytes.len() <= LARGEST_BYTES {
        return bytes;
    }
    if let Some(What::Opened(opened)) = &mut event.what {
        opened.context.clear();
        opened.entities.clear();
        opened.labels.clear();
        bytes = encode_control(at_us, record::What::Approval(event));
    }
    bytes
}

/// The bytes of a record that is not about a decision.
pub fn encode_control(at_us: i64, what: record::What) -> Vec<u8> {
    proto::Record {
        at_us,
        what: Some(what),
    }
    .encode_to_vec()
}

/// The bytes of `record` with nothing kept out.
pub fn encode_plain(record: &ControlRecord) -> Vec<u8> {
    let redactions = Redactions::default();
    let redactor = Redactor {
        redactions: &redactions,
        key: RedactionKey([0; 32]),
    };
    encode(record, &redactor)
}

/// A status, as it is recorded.
pub fn status(status: Status) -> proto::Status {
    match status {
        Status::Pending => proto::Status::Pending,
        Status::Approved => proto::Status::Approved,
        Status::Redeemed => proto::Status::Redeemed,
        Status::Denied => proto::Status::Denied,
        Status::Expired => proto::Status::Expired,
        Status::Cancelled => proto::Status::Cancelled,
        Status::Superseded => proto::Status::Superseded,
        Status::Revoked => proto::Status::Revoked,
        Status::Lapsed => proto::Status::Lapsed,
    }
}

/// A refusal's name in the log.
fn kind_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::AlreadyResolved { .. } => "already_resolved",
        Refusal::StillPending => "still_pending",
        Refusal::AlreadyVoted => "already_voted",
        Refusal::OwnRequest { .. } => "own_request",
        Refusal::NotEligible { .. } => "not_eligible",
        Refusal::OtherRequest => "other_request",
        Refusal::OtherView => "other_view",
        Refusal::NotTheRequester => "not_the_requester",
        Refusal::OtherCaller => "other_caller",
        Refusal::RequestMismatch => "request_mismatch",
        Refusal::AlreadyRedeemed { .. } => "already_redeemed",
        Refusal::Superseded(_) => "superseded",
        Refusal::NotRedeemed => "not_redeemed",
        Refusal::AlreadyReported(_) => "already_reported",
    }
}

fn event_of(event: &Event) -> What {
    match event {
        Event::Join => What::Joined(proto::ApprovalJoined {}),
        Event::Vote(ballot) => What::Voted(vote(ballot)),
        Event::Cancel(withdrawal) => What::Cancelled(withdrawn(withdrawal)),
        Event::Revoke(withdrawal) => What::Revoked(withdrawn(withdrawal)),
        Event::Redeem(attempt) => What::Redeemed(redeemed(attempt)),
        Event::Supersede(cause, version) => What::Superseded(proto::ApprovalSuperseded {
            cause: cause.as_str().to_owned(),
            policy_version: version.as_str().to_owned(),
        }),
        Event::Strand(version) => What::Stranded(proto::ApprovalStranded {
            policy_version: version.as_str().to_owned(),
        }),
        Event::Report {
            caller,
            outcome,
            detail,
        } => What::Reported(proto::OutcomeReported {
            caller: caller.clone(),
            outcome: outcome.as_str().to_owned(),
            detail: detail.clone().unwrap_or_default(),
        }),
        Event::Tick => What::TimedOut(proto::TimePassed {}),
    }
}

fn opened(approval: &Approval, redactor: &Redactor<'_>) -> proto::ApprovalOpened {
    let asked = &approval.asked;
    let request = &asked.request;
    let barred = asked.barred.iter().map(|(uid, why)| proto::BarredPerson {
        person: Some(entity(uid)),
        why: why.clone(),
    });
    // Values are written by the code that writes them in decisions, and read back: what is kept out is kept out in one place.
    let mut values = Vec::new();
    let mut fields = Fields(&mut values);
    attributes(&mut fields, 5, &request.context, redactor.below("context"));
    for description in &request.entities {
        described(&mut fields, 6, description, redactor);
    }
    let values = proto::ApprovalOpened::decode(values.as_slice()).unwrap_or_default();
    proto::ApprovalOpened {
        caller: request.caller.clone(),
        principal: Some(entity(&request.principal)),
        action: asked.action.clone(),
        resource: Some(entity(&request.resource)),
        context: values.context,
        entities: values.entities,
        on_behalf_of: request.on_behalf_of.iter().map(entity).collect(),
        request_id: request.request_id.clone().unwrap_or_default(),
        justification: request.justification.clone().unwrap_or_default(),
        labels: request.labels.clone(),
        policy_version: asked.policy_version.as_str().to_owned(),
        shown: shown(approval, redactor),
        view_digest: asked.view_digest.as_bytes().to_vec(),
        barred: barred.collect(),
        requirements: approval.requirements.iter().map(requirement).collect(),
        expires_us: approval.expires.as_microsecond(),
    }
}

fn requirement(frozen: &crate::approval::FrozenRequirement) -> proto::Requirement {
    proto::Requirement {
        rule: frozen.rule.clone(),
        title: frozen.title.clone(),
        seats: frozen.seats.iter().map(seat_count).collect(),
        gates: frozen.gates.clone(),
        redeem_within_us: i64::try_from(frozen.redeem_within.as_micros()).unwrap_or(i64::MAX),
    }
}

/// Which lines of a view show values below `prefix` that policies keep out: those of each attribute that has anything kept out in or
/// below it. If it cannot be told which lines those are, all are.
fn kept_out<'f>(
    facts: &'f [Fact],
    prefix: &str,
    values: &Record,
    spot: Spot<'_>,
) -> BTreeSet<&'f str> {
    let mut out = BTreeSet::new();
    for (name, _) in values.iter().filter(|(name, _)| spot.step(name).is_there()) {
        let path = SafeText::of(&format!("{prefix}{}", path_step(name)));
        let below = format!("{}.", path.as_str());
        let names = facts.iter().map(|fact| fact.name.as_str());
        let before = out.len();
        out.extend(names.filter(|name| *name == path.as_str() || name.starts_with(&below)));
        if out.len() == before {
            return facts.iter().map(|fact| fact.name.as_str()).collect();
        }
    }
    out
}

/// What reviewers are shown, line by line, as the view's digest takes them, without what policies keep out.
fn shown(approval: &Approval, redactor: &Redactor<'_>) -> Vec<proto::ShownLine> {
    let (view, request) = (&approval.asked.view, &approval.asked.request);
    let line = |kind: &str, name: &str, text: &str| proto::ShownLine {
        kind: kind.to_owned(),
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let fact = |kind: &str, fact: &Fact, out: &BTreeSet<&str>| {
        let name = fact.name.as_str();
        let is_out = out.contains(name);
        let text = if is_out {
            NOT_RECORDED
        } else {
            fact.value.as_str()
        };
        line(kind, name, text)
    };
    let mut lines = vec![
        line("headline", "", view.headline.as_str()),
        line("requester", "", view.requester.as_str()),
        line("action", "", view.action.as_str()),
        line("resource", "", view.resource.as_str()),
    ];
    let on_behalf_of = view.on_behalf_of.iter();
    lines.extend(on_behalf_of.map(|who| line("on_behalf_of", "", who.as_str())));
    let nothing = BTreeSet::new();
    let side = view.requesters_side.iter();
    lines.extend(side.map(|each| fact("requesters_side", each, &nothing)));
    let context = redactor.below("context");
    let out = kept_out(&view.facts, "", &request.context, context);
    lines.extend(view.facts.iter().map(|each| fact("fact", each, &out)));
    let mut out = BTreeSet::new();
    for entity in &request.entities {
        let spot = redactor.below(&entity.uid.type_name);
        let prefix = format!("{}.", entity.uid);
        out.extend(kept_out(&view.described, &prefix, &entity.attributes, spot));
    }
    lines.extend(
        view.described
            .iter()
            .map(|each| fact("described", each, &out)),
    );
    for reason in &view.reasons {
        let title = reason.title.as_str();
        lines.push(line("reason", title, reason.sentence.as_str()));
    }
    let words = view.justification.iter();
    lines.extend(words.map(|words| line("justification", "", words.as_str())));
    lines.push(line("grants", "", &view.grants));
    lines
}

fn vote(ballot: &Ballot) -> proto::VoteCast {
    proto::VoteCast {
        voter: Some(voter(&ballot.voter)),
        choice: match ballot.choice {
            Choice::Approve => proto::Choice::Approve,
            Choice::Deny => proto::Choice::Deny,
        }
        .into(),
        standing: Some(standing(&ballot.standing)),
        policy_version: ballot.policy_version.as_str().to_owned(),
        request_digest: ballot.request_digest.as_bytes().to_vec(),
        view_digest: ballot.view_digest.as_bytes().to_vec(),
        comment: ballot.comment.clone().unwrap_or_default(),
    }
}

fn withdrawn(withdrawal: &Withdrawal) -> proto::ApprovalWithdrawn {
    proto::ApprovalWithdrawn {
        by: Some(actor(&withdrawal.by)),
        standing: withdrawal.standing.as_ref().map(standing),
        comment: withdrawal.comment.clone().unwrap_or_default(),
    }
}

fn redeemed(attempt: &RedeemAttempt) -> proto::GrantRedeemed {
    let standings = attempt.standings.iter();
    let id: Option<Uuid> = attempt.decision_id.parse().ok();
    proto::GrantRedeemed {
        caller: attempt.caller.clone(),
        request_id: attempt.key.clone().unwrap_or_default(),
        request_digest: attempt.digest.as_bytes().to_vec(),
        decision_id: id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        policy_version: attempt.policy_version.as_str().to_owned(),
        seats: attempt
            .seats
            .iter()
            .map(|(seat, count)| seat_count(&(seat.clone(), *count)))
            .collect(),
        standings: standings
            .map(|(name, (canonical, may))| proto::VoterStanding {
                voter: Some(entity(name)),
                canonical: Some(entity(canonical)),
                standing: Some(standing(may)),
            })
            .collect(),
    }
}

/// A person, as it is recorded.
pub fn reader(person: &Person) -> proto::Person {
    proto::Person {
        issuer: person.issuer.clone(),
        subject: person.subject.clone(),
        channel: "api".to_owned(),
        ..proto::Person::default()
    }
}

fn actor(actor: &Actor) -> proto::Actor {
    use proto::actor::{Kind, System};
    let kind = match actor {
        Actor::Person(who) => Kind::Person(voter(who)),
        Actor::Caller(name) => Kind::Caller(name.clone()),
        Actor::System => Kind::System(System {}),
    };
    proto::Actor { kind: Some(kind) }
}

fn voter(voter: &Voter) -> proto::Person {
    proto::Person {
        issuer: voter.person.issuer.clone(),
        subject: voter.person.subject.clone(),
        account: Some(entity(&voter.account)),
        canonical: Some(entity(&voter.canonical)),
        channel: voter.channel.clone(),
    }
}

fn standing(standing: &Standing) -> proto::Standing {
    let mut recorded = proto::Standing::default();
    match standing {
        Standing::MayFill(seats) => recorded.seats = seats.iter().map(seat).collect(),
        Standing::Barred(why) => recorded.barred.clone_from(why),
        Standing::NotEligible(why) => recorded.not_eligible.clone_from(why),
    }
    recorded
}

fn seat(seat: &Seat) -> proto::Seat {
    proto::Seat {
        rule: seat.rule.clone(),
        slot: seat.slot.clone(),
    }
}

fn seat_count((of, count): &(Seat, u32)) -> proto::SeatCount {
    proto::SeatCount {
        seat: Some(seat(of)),
        count: *count,
    }
}

fn entity(uid: &EntityRef) -> proto::Entity {
    proto::Entity {
        r#type: uid.type_name.clone(),
        id: uid.id.clone(),
    }
}

/// The record in `bytes`, if it is one.
pub fn decode(bytes: &[u8]) -> Option<proto::Record> {
    proto::Record::decode(bytes).ok()
}

/// The gap that `bytes` declare, if they are a record of one. Looks at the first bytes only, unless they are.
pub fn gap_in(bytes: &[u8]) -> Option<proto::Gap> {
    const AT_US: u8 = 1 << 3;
    const GAP: u8 = (3 << 3) | 2;
    let rest = bytes.strip_prefix(&[AT_US])?;
    let at_end = rest.iter().position(|byte| *byte < 0x80)?;
    if rest.get(at_end.checked_add(1)?) != Some(&GAP) {
        return None;
    }
    let Some(record::What::Gap(gap)) = decode(bytes)?.what else {
        return None;
    };
    Some(gap)
}
