//! Tells the whole story of one action from its records: who asked for what and why it was gated, what reviewers were shown, who
//! voted, when it ran and what became of it.
//!
//! Says only what records say. A record that is missing leaves a gap in the story, never an invention.

use std::fmt::Write as _;

use super::proto::{
    self, Actor, ApprovalEvent, ApprovalOpened, Attribute, Decision, DescribedEntity, Entity,
    Outcome, Person, Record, Seat, Standing, Status, Value, actor, approval_event::What, record,
    value,
};

/// A record with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The log: `control`, or an incarnation.
    pub log: String,
    /// Its index.
    pub index: u64,
    /// What it says.
    pub record: Record,
}

/// What was asked, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// Who wants to act.
    pub principal: String,
    /// The action.
    pub action: String,
    /// What is acted on.
    pub resource: String,
    /// The service that asked; empty if callers are not authenticated.
    pub caller: String,
    /// For whom, nearest first.
    pub on_behalf_of: Vec<String>,
    /// The circumstances: names and values.
    pub context: Vec<(String, String)>,
    /// What the caller said of entities that are not stored: names and attributes.
    pub described: Vec<(String, String)>,
    /// The requester's words.
    pub justification: String,
    /// The caller's labels.
    pub labels: Vec<(String, String)>,
    /// The policy set.
    pub policy_version: String,
    /// Who could not approve, and why.
    pub barred: Vec<(String, String)>,
    /// From when on votes do not count; none where nothing waits.
    pub expires_us: Option<i64>,
}

/// Why approval was needed: one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The rule.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// The policies that asked for it.
    pub policies: Vec<String>,
    /// The seats with how many persons each takes.
    pub seats: Vec<(String, u32)>,
}

/// Something that happened, or was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// The log that says so, and the record.
    pub place: (String, u64),
    /// Who did what.
    pub deed: String,
    /// Why it was refused; empty if it happened.
    pub refusal: String,
    /// What they said.
    pub comment: String,
}

/// The story of one action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// The approval; empty if none took part.
    pub approval_id: String,
    /// What was asked; none if no record says so.
    pub asked: Option<Asked>,
    /// Why it needed approval.
    pub gates: Vec<Gate>,
    /// What reviewers were shown: kinds, names and texts.
    pub shown: Vec<(String, String, String)>,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Where the approval stands.
    pub status: Option<Status>,
    /// When and by which decision it was allowed to run.
    pub ran: Option<(i64, String)>,
    /// What its caller said became of it, with details.
    pub outcome: Option<(String, String)>,
}

impl Story {
    /// The story that `records` tell: those of one approval and the decisions that cite it, or one decision without approval.
    /// They may come in any order; those of one log are told in the order of their indexes.
    pub fn of(records: &[Placed]) -> Self {
        let mut told: Vec<&Placed> = records.iter().collect();
        // Stable, so that records of one time stay as their log has them.
        told.sort_by(|one, other| (&one.log, one.index).cmp(&(&other.log, other.index)));
        told.sort_by_key(|placed| placed.record.at_us);
        let mut story = Self::default();
        for placed in told {
            match &placed.record.what {
                Some(record::What::Approval(event)) => story.take_event(placed, event),
                Some(record::What::Decision(decision)) => story.take_decision(placed, decision),
                _ => {}
            }
        }
        story
    }

    fn take_event(&mut self, placed: &Placed, event: &ApprovalEvent) {
        let at_us = placed.record.at_us;
        self.approval_id.clone_from(&event.approval_id);
        let has_happened = event.refusal.is_empty();
        if has_happened {
            self.status = Some(event.to());
        }
        match &event.what {
            Some(What::Opened(opened)) => self.take_opening(at_us, opened),
            Some(What::Redeemed(redeemed)) if has_happened => {
                self.ran = Some((at_us, uuid_text(&redeemed.decision_id)));
            }
            Some(What::Reported(reported)) if has_happened => {
                self.outcome = Some((reported.outcome.clone(), reported.detail.clone()));
            }
            _ => {}
        }
        let (deed, comment) = deed(event);
        self.steps.push(Step {
            at_us,
            place: (placed.log.clone(), placed.index),
            deed,
            refusal: event.refusal.clone(),
            comment,
        });
    }

    fn take_opening(&mut self, at_us: i64, opened: &ApprovalOpened) {
        let barred = opened.barred.iter();
        self.asked = Some(Asked {
            at_us,
            principal: entity(opened.principal.as_ref()),
            action: opened.action.clone(),
            resource: entity(opened.resource.as_ref()),
            caller: opened.caller.clone(),
            on_behalf_of: entities(&opened.on_behalf_of),
            context: attributes(&opened.context),
            described: described(&opened.entities),
            justification: opened.justification.clone(),
            labels: labels(&opened.labels),
            policy_version: opened.policy_version.clone(),
            barred: barred
                .map(|barred| (entity(barred.person.as_ref()), barred.why.clone()))
                .collect(),
            expires_us: Some(opened.expires_us),
        });
        let gates = opened.requirements.iter().map(|requirement| Gate {
            rule: requirement.rule.clone(),
            title: requirement.title.clone(),
            policies: requirement.gates.clone(),
            seats: requirement
                .seats
                .iter()
                .map(|seats| (seat(seats.seat.as_ref()), seats.count))
                .collect(),
        });
        self.gates = gates.collect();
        let shown = opened.shown.iter();
        self.shown = shown
            .map(|line| (line.kind.clone(), line.name.clone(), line.text.clone()))
            .collect();
    }

    fn take_decision(&mut self, placed: &Placed, decision: &Decision) {
        let at_us = placed.record.at_us;
        if self.asked.is_none() {
            self.asked = Some(Asked {
                at_us,
                principal: entity(decision.principal.as_ref()),
                action: decision.action.clone(),
                resource: entity(decision.resource.as_ref()),
                caller: decision.caller.clone(),
                on_behalf_of: entities(&decision.on_behalf_of),
                context: attributes(&decision.context),
                described: described(&decision.entities),
                justification: decision.justification.clone(),
                labels: labels(&decision.labels),
                policy_version: decision.policy_version.clone(),
                barred: Vec::new(),
                expires_us: None,
            });
        }
        if decision.outcome() == Outcome::Allow && !decision.is_check && self.ran.is_none() {
            self.ran = Some((at_us, uuid_text(&decision.decision_id)));
        }
        self.steps.push(Step {
            at_us,
            place: (placed.log.clone(), placed.index),
            deed: decided(decision),
            ..Step::default()
        });
    }
}

/// What a decision says of itself, on one line.
fn decided(decision: &Decision) -> String {
    let word = outcome_word(decision.outcome());
    let mut said = format!("decision {} {word}", uuid_text(&decision.decision_id));
    let reason = decision.deny_reason();
    if reason != proto::DenyReason::Unspecified {
        let name = reason.as_str_name().trim_start_matches("DENY_REASON_");
        let name = name.to_lowercase().replace('_', " ");
        said.extend([" (", &name, ")"]);
    }
    let lists = [
        (" by ", decision.determining.clone()),
        ("; rules ", decision.rules.clone()),
        ("; missing ", entities(&decision.missing)),
        (
            "; not evaluated ",
            decision
                .errors
                .iter()
                .map(|fault| format!("{}: {}", fault.id, fault.message))
                .collect(),
        ),
    ];
    for (lead, list) in lists {
        if !list.is_empty() {
            said.push_str(lead);
            said.push_str(&list.join(", "));
        }
    }
    if decision.is_granted {
        said.push_str("; rests on the grant");
    }
    if decision.is_check {
        said.push_str("; a dry run");
    }
    said
}

/// The name of an outcome, as the API has it.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    outcome.as_str_name().trim_start_matches("OUTCOME_")
}

/// The name of a status, as the API has it.
pub fn status_word(status: Status) -> &'static str {
    status.as_str_name().trim_start_matches("STATUS_")
}

/// Who did what to an approval, and what they said.
fn deed(event: &ApprovalEvent) -> (String, String) {
    let nothing = String::new;
    match &event.what {
        Some(What::Opened(opened)) => {
            let caller = named(&opened.caller);
            (
                format!(
                    "approval opened for {}{caller}",
                    entity(opened.principal.as_ref())
                ),
                nothing(),
            )
        }
        Some(What::Joined(_)) => ("the same request was asked again".to_owned(), nothing()),
        Some(What::Voted(vote)) => {
            let choice = match vote.choice() {
                proto::Choice::Approve => "approves",
                proto::Choice::Deny => "denies",
                proto::Choice::Unspecified => "votes",
            };
            let seats = standing(vote.standing.as_ref());
            let who = person(vote.voter.as_ref());
            (format!("{who} {choice}{seats}"), vote.comment.clone())
        }
        Some(What::Cancelled(by)) => {
            let who = by_whom(by.by.as_ref());
            (format!("{who} gives the request up"), by.comment.clone())
        }
        Some(What::Revoked(by)) => {
            let who = by_whom(by.by.as_ref());
            (format!("{who} takes the grant back"), by.comment.clone())
        }
        Some(What::Redeemed(redeemed)) => {
            let decision = uuid_text(&redeemed.decision_id);
            let caller = named(&redeemed.caller);
            (
                format!("grant spent by decision {decision}{caller}"),
                nothing(),
            )
        }
        Some(What::Superseded(superseded)) => {
            let version = short(&superseded.policy_version);
            (
                format!("superseded by policies {version}: {}", superseded.cause),
                nothing(),
            )
        }
        Some(What::Stranded(stranded)) => {
            let version = short(&stranded.policy_version);
            (
                format!("too few people are left who could approve, by policies {version}"),
                nothing(),
            )
        }
        Some(What::Reported(reported)) => {
            let caller = named(&reported.caller);
            (
                format!("outcome {} reported{caller}", reported.outcome),
                reported.detail.clone(),
            )
        }
        Some(What::TimedOut(_)) => ("time ended it".to_owned(), nothing()),
        Some(What::Reminded(_)) => ("reviewers were reminded".to_owned(), nothing()),
        Some(What::Escalated(_)) => ("further reviewers were asked".to_owned(), nothing()),
        None => ("something this program does not know".to_owned(), nothing()),
    }
}

/// ` through caller`, if the caller is known.
fn named(caller: &str) -> String {
    if caller.is_empty() {
        String::new()
    } else {
        format!(" through {caller}")
    }
}

fn by_whom(by: Option<&Actor>) -> String {
    match by.and_then(|by| by.kind.as_ref()) {
        Some(actor::Kind::Person(who)) => person(Some(who)),
        Some(actor::Kind::Caller(name)) if name.is_empty() => "the caller".to_owned(),
        Some(actor::Kind::Caller(name)) => name.clone(),
        Some(actor::Kind::System(_)) => "countersign".to_owned(),
        None => "somebody".to_owned(),
    }
}

fn person(person: Option<&Person>) -> String {
    let Some(person) = person else {
        return "somebody".to_owned();
    };
    let account = match &person.account {
        Some(account) => entity(Some(account)),
        None => "somebody".to_owned(),
    };
    format!("{account} ({}, says {})", person.subject, person.issuer)
}

/// What a voter may do, behind their vote.
fn standing(standing: Option<&Standing>) -> String {
    let Some(standing) = standing else {
        return String::new();
    };
    if !standing.barred.is_empty() {
        return format!(", of the requester's side: {}", standing.barred);
    }
    if !standing.not_eligible.is_empty() {
        return format!(", not eligible: {}", standing.not_eligible);
    }
    let seats: Vec<String> = standing.seats.iter().map(|each| seat(Some(each))).collect();
    if seats.is_empty() {
        return String::new();
    }
    format!(" as {}", seats.join(", "))
}

fn seat(seat: Option<&Seat>) -> String {
    match seat {
        None => String::new(),
        Some(seat) if seat.slot.is_empty() => seat.rule.clone(),
        Some(seat) => format!("{}/{}", seat.rule, seat.slot),
    }
}

/// An entity, as Cedar writes it; empty if there is none.
pub fn entity(entity: Option<&Entity>) -> String {
    entity.map_or_else(String::new, |entity| {
        format!("{}::\"{}\"", entity.r#type, entity.id.escape_debug())
    })
}

fn entities(list: &[Entity]) -> Vec<String> {
    list.iter().map(|each| entity(Some(each))).collect()
}

fn labels(labels: &std::collections::BTreeMap<String, String>) -> Vec<(String, String)> {
    let pairs = labels.iter();
    pairs
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn attributes(list: &[Attribute]) -> Vec<(String, String)> {
    let pairs = list.iter();
    pairs
        .map(|each| (each.name.clone(), value(each.value.as_ref())))
        .collect()
}

fn described(list: &[DescribedEntity]) -> Vec<(String, String)> {
    let each = list.iter().map(|described| {
        let parents = entities(&described.parents);
        let within = if parents.is_empty() {
            String::new()
        } else {
            format!(" in {}", parents.join(", "))
        };
        let fields = braced(&described.attributes);
        (
            entity(described.entity.as_ref()),
            format!("{fields}{within}"),
        )
    });
    each.collect()
}

fn braced(list: &[Attribute]) -> String {
    let fields = attributes(list).into_iter();
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// A value, about as Cedar writes it.
fn value(of: Option<&Value>) -> String {
    match of.and_then(|value| value.kind.as_ref()) {
        None => "?".to_owned(),
        Some(value::Kind::Bool(flag)) => flag.to_string(),
        Some(value::Kind::Long(number)) => number.to_string(),
        Some(value::Kind::String(text)) => format!("\"{}\"", text.escape_debug()),
        Some(value::Kind::Set(set)) => {
            let members: Vec<String> = set.values.iter().map(|each| value(Some(each))).collect();
            format!("[{}]", members.join(", "))
        }
        Some(value::Kind::Record(record)) => braced(&record.attributes),
        Some(value::Kind::Entity(named)) => entity(Some(named)),
        Some(value::Kind::Extension(call)) => {
            format!("{}(\"{}\")", call.function, call.argument.escape_debug())
        }
        Some(value::Kind::Dropped(_)) => "(not recorded)".to_owned(),
        Some(value::Kind::Hmac(hash)) => {
            let begin = hex(hash.get(..6).unwrap_or(hash));
            format!("(only its keyed hash is recorded: {begin}…)")
        }
    }
}

/// The first digits of a policy version.
fn short(version: &str) -> String {
    version.chars().take(12).collect()
}

/// A UUID as text; what is none as it is, in hexadecimal digits.
pub fn uuid_text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map_or_else(|_| hex(bytes), |id| id.to_string())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
