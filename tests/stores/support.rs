//! Builders: approvals, votes and redemptions with everything a test does not talk about filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign::approval::flood::FloodLimits;
use countersign::approval::{
    Actor, Approval, ApprovalId, Asked, Ballot, Choice, Digest, Event, FrozenRequirement, Opening,
    Person, RedeemAttempt, Refusal, Standing, View, ViewWords, Voter, Withdrawal, request_digest,
};
use countersign::model::{EntityRef, PolicyVersion, Record, Request, Seat, Value};
use countersign::usecase::approval_store::{
    Applied, ApplyCommand, ApprovalStore, CommandKey, Delivery, OpenCommand, Opened,
};
use jiff::Timestamp;

/// The store under test.
pub(crate) type Store = Arc<dyn ApprovalStore>;

/// The caller of every request that does not say otherwise.
pub(crate) const CALLER: &str = "deployer";

pub(crate) const SOC: &str = "webhook:soc";
pub(crate) const OPS: &str = "slack:ops";

/// `seconds` after the moment at which every test begins.
pub(crate) fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    start + jiff::SignedDuration::from_secs(seconds)
}

pub(crate) fn policies() -> PolicyVersion {
    PolicyVersion::new("ab".repeat(32))
}

/// The seat that `rule` asks for.
pub(crate) fn seat(rule: &str) -> Seat {
    Seat {
        rule: rule.to_owned(),
        slot: String::new(),
    }
}

/// A rule that waits an hour for `quorum` persons and tells two places.
pub(crate) fn rule(name: &str, quorum: u32) -> FrozenRequirement {
    FrozenRequirement {
        rule: name.to_owned(),
        title: format!("The rule {name}"),
        seats: vec![(seat(name), quorum)],
        gates: vec![format!("gate-{name}")],
        expires_after: Duration::from_secs(3600),
        redeem_within: Duration::from_secs(600),
        require: Vec::new(),
        notify: vec![SOC.to_owned(), OPS.to_owned()],
        remind_after: None,
        escalate_after: None,
        escalate_to: Vec::new(),
    }
}

/// A wish to open an approval, to be adjusted by the test.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: String,
    pub(crate) request: Request,
    pub(crate) rules: Vec<FrozenRequirement>,
    pub(crate) barred: BTreeMap<EntityRef, String>,
    pub(crate) limits: FloodLimits,
    pub(crate) key: Option<CommandKey>,
}

/// Asks for the approval `id`, with a request of its own; quorum 1, no limits.
pub(crate) fn ask(id: &str) -> Ask {
    let mut context = Record::default();
    context.insert("what".to_owned(), Value::String(id.to_owned()));
    let principal = EntityRef::new("Agent", "bot");
    let mut request = Request::new(
        principal.clone(),
        "Deploy",
        EntityRef::new("Service", "shop"),
        context,
    );
    request.caller = CALLER.into();
    Ask {
        id: id.to_owned(),
        request,
        rules: vec![rule("release", 1)],
        barred: [
            (principal, "they ask".to_owned()),
            (EntityRef::new("User", "owner"), "they own it".to_owned()),
        ]
        .into(),
        limits: FloodLimits {
            pending_per_requester: 1_000_000,
            opened_per_minute: 1_000_000,
            ..FloodLimits::default()
        },
        key: None,
    }
}

impl Ask {
    /// Asks the request of `other`, under an id of its own.
    pub(crate) fn like(mut self, other: &str) -> Self {
        self.request
            .context
            .insert("what".to_owned(), Value::String(other.to_owned()));
        self
    }

    pub(crate) fn quorum(mut self, quorum: u32) -> Self {
        self.rules = vec![rule("release", quorum)];
        self
    }

    pub(crate) fn rules(mut self, rules: Vec<FrozenRequirement>) -> Self {
        self.rules = rules;
        self
    }

    pub(crate) fn principal(mut self, name: &str) -> Self {
        self.request.principal = EntityRef::new("Agent", name);
        self
    }

    pub(crate) fn limits(mut self, limits: FloodLimits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn key(mut self, key: &str, payload: &str) -> Self {
        self.key = Some(command_key("Authorize", key, payload));
        self
    }

    pub(crate) fn command(self) -> OpenCommand {
        let action = "Action::\"Deploy\"";
        let view = View::of(&ViewWords {
            request: &self.request,
            action,
            requirements: &self.rules,
            descriptions: &BTreeMap::new(),
            barred: &self.barred,
        });
        OpenCommand {
            opening: Opening {
                id: ApprovalId::new(self.id),
                asked: Asked {
                    digest: request_digest(&self.request, action, |_, _| None),
                    view_digest: view.digest(),
                    request: self.request,
                    action: action.to_owned(),
                    view,
                    policy_version: policies(),
                    barred: self.barred,
                },
                requirements: self.rules,
            },
            key: self.key,
            limits: self.limits,
        }
    }

    /// Opens it `seconds` after the start, which must succeed.
    pub(crate) async fn open(self, store: &Store, seconds: i64) -> Approval {
        let opened = store.open(self.command(), at(seconds)).await.unwrap();
        let Opened::New(approval) = opened else {
            panic!("not opened: {opened:?}");
        };
        *approval
    }
}

pub(crate) fn command_key(method: &'static str, key: &str, payload: &str) -> CommandKey {
    CommandKey {
        caller: CALLER.to_owned(),
        method,
        key: key.to_owned(),
        payload: Digest::of("test payload", payload.as_bytes()),
    }
}

pub(crate) fn voter(name: &str) -> Voter {
    let account = EntityRef::new("User", name);
    Voter {
        person: Person {
            issuer: "https://id.example".to_owned(),
            subject: name.to_owned(),
        },
        canonical: account.clone(),
        account,
        channel: "api".to_owned(),
    }
}

pub(crate) fn may_fill(approval: &Approval) -> Standing {
    Standing::MayFill(approval.seats().into_keys().collect::<BTreeSet<Seat>>())
}

pub(crate) fn ballot(approval: &Approval, name: &str, choice: Choice) -> Ballot {
    Ballot {
        voter: voter(name),
        choice,
        standing: may_fill(approval),
        policy_version: policies(),
        request_digest: approval.asked.digest,
        view_digest: approval.asked.view_digest,
        comment: Some(format!("{name} has looked at it")),
    }
}

/// A wish without a key, for any version.
pub(crate) fn wish(id: &ApprovalId, event: Event) -> ApplyCommand {
    ApplyCommand {
        id: id.clone(),
        event,
        version: None,
        key: None,
    }
}

pub(crate) fn vote(approval: &Approval, name: &str, choice: Choice) -> ApplyCommand {
    let ballot = ballot(approval, name, choice);
    wish(&approval.id, Event::Vote(Box::new(ballot)))
}

pub(crate) fn yes(approval: &Approval, name: &str) -> ApplyCommand {
    vote(approval, name, Choice::Approve)
}

pub(crate) fn no(approval: &Approval, name: &str) -> ApplyCommand {
    vote(approval, name, Choice::Deny)
}

pub(crate) fn cancel(approval: &Approval) -> ApplyCommand {
    let withdrawal = Withdrawal {
        by: Actor::Caller(CALLER.to_owned()),
        standing: None,
        comment: None,
    };
    wish(&approval.id, Event::Cancel(withdrawal))
}

/// Redeems with the seats of the opening, every counted voter being who they were.
pub(crate) fn redeem(approval: &Approval, key: &str) -> ApplyCommand {
    redeem_with(approval, key, &["ada", "bob", "eve", "zoe"])
}

pub(crate) fn redeem_with(approval: &Approval, key: &str, voters: &[&str]) -> ApplyCommand {
    let standing = |name: &&str| {
        let canonical = voter(name).canonical;
        (canonical.clone(), (canonical, may_fill(approval)))
    };
    let attempt = RedeemAttempt {
        caller: CALLER.to_owned(),
        key: Some(key.to_owned()),
        digest: approval.asked.digest,
        decision_id: format!("decision-{key}"),
        policy_version: policies(),
        seats: approval.seats(),
        standings: voters.iter().map(standing).collect(),
    };
    wish(&approval.id, Event::Redeem(Box::new(attempt)))
}

/// Applies `command`, which must do what it is meant to do.
pub(crate) async fn done(store: &Store, command: ApplyCommand, seconds: i64) -> Approval {
    let applied = store.apply(command, at(seconds)).await.unwrap();
    let Applied::Done(approval) = applied else {
        panic!("not done: {applied:?}");
    };
    *approval
}

/// Applies `command`, which must be refused.
pub(crate) async fn refused(store: &Store, command: ApplyCommand, seconds: i64) -> Refusal {
    let applied = store.apply(command, at(seconds)).await.unwrap();
    let Applied::Refused(_, refusal) = applied else {
        panic!("not refused: {applied:?}");
    };
    refusal
}

/// The approval as the store has it.
pub(crate) async fn found(store: &Store, id: &ApprovalId) -> Approval {
    store.find(id).await.unwrap().expect("it was opened")
}

/// Takes everything that is due, for half a minute.
pub(crate) async fn claim(store: &Store, seconds: i64) -> Vec<Delivery> {
    store
        .claim_deliveries(1000, Duration::from_secs(30), at(seconds))
        .await
        .unwrap()
}
