//! An approval and its states.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{EntityRef, PolicyVersion, Request, Requirement, Seat};

use super::closed::{Closed, ReportedOutcome, Status};
use super::digest::Digest;
use super::event::{Actor, Choice, Voter};
use super::quorum::{Filling, Seats, fill};
use super::view::View;

/// Names an approval.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApprovalId(String);

impl ApprovalId {
    /// Takes any text as a name: one that no approval has is simply not found.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was asked. Never changes after the opening.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The request, as asked.
    pub request: Request,
    /// The action's full name.
    pub action: String,
    /// The digest of the request.
    pub digest: Digest,
    /// What reviewers are shown.
    pub view: View,
    /// The digest of what reviewers are shown.
    pub view_digest: Digest,
    /// The policies that asked for approval.
    pub policy_version: PolicyVersion,
    /// Who belongs to the requester's side, with the reason: none of them can approve, whatever policy says later.
    #[serde(with = "super::pairs")]
    pub barred: BTreeMap<EntityRef, String>,
}

impl Asked {
    /// Why `account` belongs to the requester's side, if it does. Who asks and for whom belong to it even if nobody wrote it down.
    pub(super) fn bars(&self, account: &EntityRef) -> Option<String> {
        let request = &self.request;
        if let Some(why) = self.barred.get(account) {
            return Some(why.clone());
        }
        let is_requester = request.principal == *account || request.on_behalf_of.contains(account);
        is_requester.then(|| "made the request".to_owned())
    }
}

/// One rule, as it was at the opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenRequirement {
    /// The rule's name.
    pub rule: String,
    /// The rule's title.
    pub title: String,
    /// The seats to be filled.
    pub seats: Vec<(Seat, u32)>,
    /// The gates that asked for it, sorted.
    pub gates: Vec<String>,
    /// How long it waits for votes.
    pub expires_after: Duration,
    /// How long the grant lives, from the deciding vote.
    pub redeem_within: Duration,
    /// Which fields it demanded.
    pub require: Vec<String>,
    /// Who is told.
    pub notify: Vec<String>,
    /// When those who are told are reminded, after the opening.
    pub remind_after: Option<Duration>,
    /// When further people are told and may approve, after the opening.
    pub escalate_after: Option<Duration>,
    /// The further people.
    pub escalate_to: Vec<String>,
}

impl From<&Requirement> for FrozenRequirement {
    fn from(requirement: &Requirement) -> Self {
        let rule = &requirement.rule;
        Self {
            rule: rule.name.clone(),
            title: rule.title.clone(),
            seats: rule
                .seats()
                .into_iter()
                .map(|(seat, count)| (seat, count.get()))
                .collect(),
            gates: requirement.gates.clone(),
            expires_after: rule.expires_after,
            redeem_within: rule.redeem_within,
            require: rule
                .require
                .iter()
                .map(|field| field.as_str().to_owned())
                .collect(),
            notify: rule.notify.clone(),
            remind_after: rule.remind_after,
            escalate_after: rule.escalate_after,
            escalate_to: rule.escalate_to.clone(),
        }
    }
}

/// The seats of all `requirements` together: every rule must be fulfilled, and a person fills one seat.
pub fn seats_of(requirements: &[FrozenRequirement]) -> Seats {
    let mut seats = Seats::new();
    for (seat, count) in requirements.iter().flat_map(|each| &each.seats) {
        let known = seats.entry(seat.clone()).or_default();
        *known = (*known).max(*count);
    }
    seats
}

/// A vote that was counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// Who voted.
    pub voter: Voter,
    /// Yes or no.
    pub choice: Choice,
    /// The seats the voter could fill at the time; empty for a no of the requester's side.
    pub seats: BTreeSet<Seat>,
    /// When.
    pub at: Timestamp,
    /// The policies that let them.
    pub policy_version: PolicyVersion,
    /// The digest of the request they voted on.
    pub request_digest: Digest,
    /// The digest of what they were shown.
    pub view_digest: Digest,
    /// What they said.
    pub comment: Option<String>,
}

/// The right to run the request once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The time of the deciding vote.
    pub since: Timestamp,
    /// The moment from which it cannot be spent any more.
    pub until: Timestamp,
}

/// The one use of a grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Redemption {
    /// When.
    pub at: Timestamp,
    /// The decision that allowed the request.
    pub decision_id: String,
    /// The caller's key, which gets the same answer again.
    pub key: Option<String>,
    /// The service that redeemed.
    pub caller: String,
    /// The policies that agreed.
    pub policy_version: PolicyVersion,
}

/// What became of a redeemed request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolution {
    /// When it was reported, or given up.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: ReportedOutcome,
    /// In the caller's words.
    pub detail: Option<String>,
}

/// Where an approval stands, with what exists only then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits for votes.
    Pending,
    /// The grant waits to be redeemed.
    Approved(Grant),
    /// The grant was spent.
    Redeemed {
        /// What was spent.
        grant: Grant,
        /// The use.
        redemption: Redemption,
        /// What became of the request, once that is known or given up.
        resolution: Option<Resolution>,
    },
    /// It ended without being redeemed, in this status, which is neither PENDING, APPROVED nor REDEEMED.
    Closed(Status, Closed),
}

/// What has been done because of the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timers {
    /// When reviewers were reminded.
    pub reminded: Option<Timestamp>,
    /// When further reviewers were asked.
    pub escalated: Option<Timestamp>,
}

/// How long a caller may take to report what became of a redeemed request; then it is unknown.
pub(super) const REPORT_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// A decision that waits, or waited, for humans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Its name.
    pub id: ApprovalId,
    /// 1 at the opening, one more with every change.
    pub version: u64,
    /// Where it stands.
    pub state: State,
    /// What was asked.
    pub asked: Asked,
    /// What it takes.
    pub requirements: Vec<FrozenRequirement>,
    /// When it was opened.
    pub opened: Timestamp,
    /// The moment from which votes do not count any more.
    pub expires: Timestamp,
    /// The votes, in the order they were cast. Nothing is taken out of it; of two votes by one person the later counts.
    pub votes: Vec<Vote>,
    /// How often the same request was asked again.
    pub joined: u32,
    /// What has been done because of the time.
    pub timers: Timers,
}

/// What it takes to open an approval.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Its name, never used before.
    pub id: ApprovalId,
    /// What was asked.
    pub asked: Asked,
    /// What it takes; never empty.
    pub requirements: Vec<FrozenRequirement>,
}

impl Approval {
    /// Opens an approval at `now`. It waits as long as the least patient of its rules.
    pub fn open(opening: Opening, now: Timestamp) -> Self {
        let Opening {
            id,
            asked,
            requirements,
        } = opening;
        let wait = requirements.iter().map(|each| each.expires_after).min();
        Self {
            id,
            version: 1,
            state: State::Pending,
            asked,
            expires: after(now, wait.unwrap_or_default()),
            requirements,
            opened: now,
            votes: Vec::new(),
            joined: 0,
            timers: Timers::default(),
        }
    }

    /// Where it stands. An approval whose time has passed is what it was until an event or the sweeper says so; what counts is
    /// [`Approval::status_at`].
    pub fn status(&self) -> Status {
        match &self.state {
            State::Pending => Status::Pending,
            State::Approved(_) => Status::Approved,
            State::Redeemed { .. } => Status::Redeemed,
            State::Closed(status, _) => *status,
        }
    }

    /// Where it stands at `now`: a deadline ends it whether or not anybody was there to see it.
    pub fn status_at(&self, now: Timestamp) -> Status {
        match &self.state {
            State::Pending if now >= self.expires => Status::Expired,
            State::Approved(grant) if now >= grant.until => Status::Lapsed,
            State::Pending | State::Approved(_) | State::Redeemed { .. } | State::Closed(..) => {
                self.status()
            }
        }
    }

    /// The moment from which its grant cannot be spent any more, if it has one.
    pub fn redeem_before(&self) -> Option<Timestamp> {
        match &self.state {
            State::Approved(grant) | State::Redeemed { grant, .. } => Some(grant.until),
            State::Pending | State::Closed(..) => None,
        }
    }

    /// Whether further reviewers were asked.
    pub fn is_escalated(&self) -> bool {
        self.timers.escalated.is_some()
    }

    /// Whether further reviewers may approve at `now`, whether or not anybody was there to ask them.
    pub fn is_escalated_at(&self, now: Timestamp) -> bool {
        self.is_escalated() || self.escalation_due().is_some_and(|due| now >= due)
    }

    /// The seats to be filled.
    pub fn seats(&self) -> Seats {
        seats_of(&self.requirements)
    }

    /// Each person's last vote, by the one name of the person.
    pub fn counted_votes(&self) -> BTreeMap<&EntityRef, &Vote> {
        self.votes
            .iter()
            .map(|vote| (&vote.voter.canonical, vote))
            .collect()
    }

    /// How far the approving votes fill the seats, the persons in the order of their names.
    pub fn progress(&self) -> Filling {
        let approving: Vec<&BTreeSet<Seat>> =
            self.approving_votes().map(|vote| &vote.seats).collect();
        fill(&self.seats(), &approving)
    }

    /// The votes that approve, in the order of the voters' names.
    pub fn approving_votes(&self) -> impl Iterator<Item = &Vote> {
        self.counted_votes()
            .into_values()
            .filter(|vote| vote.choice == Choice::Approve)
    }

    /// Where people are told of it, each place once.
    pub fn destinations(&self) -> BTreeSet<&str> {
        let escalated = self.is_escalated();
        self.requirements
            .iter()
            .flat_map(|each| {
                each.notify
                    .iter()
                    .chain(each.escalate_to.iter().filter(move |_| escalated))
            })
            .map(String::as_str)
            .collect()
    }

    /// When time will next change something; none if nothing is left to wait for.
    pub fn next_timer(&self) -> Option<Timestamp> {
        match &self.state {
            State::Pending => [self.reminder_due(), self.escalation_due()]
                .into_iter()
                .flatten()
                .chain([self.expires])
                .min(),
            State::Approved(grant) => Some(grant.until),
            State::Redeemed {
                redemption,
                resolution: None,
                ..
            } => Some(after(redemption.at, REPORT_WITHIN)),
            State::Redeemed {
                resolution: Some(_),
                ..
            }
            | State::Closed(..) => None,
        }
    }

    pub(super) fn reminder_due(&self) -> Option<Timestamp> {
        let is_open = self.timers.reminded.is_none();
        self.earliest(|each| each.remind_after).filter(|_| is_open)
    }

    pub(super) fn escalation_due(&self) -> Option<Timestamp> {
        let is_open = self.timers.escalated.is_none();
        self.earliest(|each| each.escalate_after)
            .filter(|_| is_open)
    }

    fn earliest(&self, of: impl Fn(&FrozenRequirement) -> Option<Duration>) -> Option<Timestamp> {
        self.requirements
            .iter()
            .filter_map(of)
            .min()
            .map(|wait| after(self.opened, wait))
    }

    /// How long the grant lives: as long as the strictest of the rules says.
    pub(super) fn redeem_within(&self) -> Duration {
        self.requirements
            .iter()
            .map(|each| each.redeem_within)
            .min()
            .unwrap_or_default()
    }

    /// Who brought it where it is, and when.
    pub(super) fn resolved_by(&self) -> (Timestamp, Actor) {
        match &self.state {
            State::Pending => (
                self.opened,
                Actor::Caller(self.asked.request.caller.clone()),
            ),
            State::Approved(grant) => {
                let deciding = self.votes.iter().rev().find(|vote| vote.at == grant.since);
                let by = deciding.map_or(Actor::System, |vote| Actor::Person(vote.voter.clone()));
                (grant.since, by)
            }
            State::Redeemed { redemption, .. } => {
                (redemption.at, Actor::Caller(redemption.caller.clone()))
            }
            State::Closed(_, closed) => (closed.at, closed.by.clone()),
        }
    }
}

/// `wait` after `moment`; the end of time if that is beyond it.
pub(super) fn after(moment: Timestamp, wait: Duration) -> Timestamp {
    moment.checked_add(wait).unwrap_or(Timestamp::MAX)
}
