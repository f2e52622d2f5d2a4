//! What can happen to an approval, and why it may be refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{EntityRef, PolicyVersion, Seat};

use super::closed::{Cause, ReportedOutcome, Status};
use super::digest::Digest;
use super::quorum::Seats;

/// A human being, as an identity provider names them: never an e-mail address, a display name or a chat account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Person {
    /// Who says so.
    pub issuer: String,
    /// Whom they name.
    pub subject: String,
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.subject, self.issuer)
    }
}

/// A person with the account policies know them by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Who signed in.
    pub person: Person,
    /// The account they signed in with.
    pub account: EntityRef,
    /// One name for all accounts of the same person: votes are counted by it.
    pub canonical: EntityRef,
    /// The way the vote came, such as `api` or `slack`.
    pub channel: String,
}

impl Voter {
    /// Whether both are one human: by the one name, by the account or by who signed in, since policies may rename a person between
    /// two votes.
    pub(super) fn is_same_human(&self, other: &Self) -> bool {
        self.canonical == other.canonical
            || self.account == other.account
            || self.person == other.person
    }
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A person.
    Person(Voter),
    /// The service that asked; empty if callers are not authenticated.
    Caller(String),
    /// Countersign itself.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(voter) => write!(f, "{}", voter.account),
            Self::Caller(name) if name.is_empty() => f.write_str("the caller"),
            Self::Caller(name) => write!(f, "the caller `{name}`"),
            Self::System => f.write_str("Countersign"),
        }
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Choice {
    /// The request may run.
    Approve,
    /// The request must not run.
    Deny,
}

impl Choice {
    /// Its name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "APPROVE",
            Self::Deny => "DENY",
        }
    }
}

/// What policy and floors say of a person and one approval, at the time of the vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// These seats are theirs to fill; never empty.
    MayFill(BTreeSet<Seat>),
    /// They belong to the requester's side, so they may say no but never yes. Says why.
    Barred(String),
    /// No policy lets them approve. Says why.
    NotEligible(String),
}

/// A vote as it is cast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ballot {
    /// Who votes.
    pub voter: Voter,
    /// Yes or no.
    pub choice: Choice,
    /// What they may do, by the policies of `policy_version`.
    pub standing: Standing,
    /// The policies that were asked.
    pub policy_version: PolicyVersion,
    /// The digest of the request that the voter was shown.
    pub request_digest: Digest,
    /// The digest of what the voter was shown of it.
    pub view_digest: Digest,
    /// What the voter says about it.
    pub comment: Option<String>,
}

/// A wish to end an approval that is not a vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Who wishes it.
    pub by: Actor,
    /// What a person may do, by the current policies; none for a caller.
    pub standing: Option<Standing>,
    /// Why.
    pub comment: Option<String>,
}

/// A request that comes back with its approval, judged by the current policies, which still require approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RedeemAttempt {
    /// The service that asks.
    pub caller: String,
    /// The caller's idempotency key: the same key gets the same answer.
    pub key: Option<String>,
    /// The digest of the request as it is now.
    pub digest: Digest,
    /// The decision that spends the grant.
    pub decision_id: String,
    /// The policies that judged.
    pub policy_version: PolicyVersion,
    /// What the policies ask for now.
    #[serde(with = "super::pairs")]
    pub seats: Seats,
    /// For each counted voter, by the name the vote was counted under: one name for the person, and what they may do now.
    #[serde(with = "super::pairs")]
    pub standings: BTreeMap<EntityRef, (EntityRef, Standing)>,
}

/// What can happen to an approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The same request was asked again.
    Join,
    /// Somebody votes.
    Vote(Box<Ballot>),
    /// The requester's side gives up.
    Cancel(Withdrawal),
    /// Somebody takes an unspent grant back.
    Revoke(Withdrawal),
    /// The request comes back to be allowed.
    Redeem(Box<RedeemAttempt>),
    /// The policies in force do not fit the approval any more.
    Supersede(Cause, PolicyVersion),
    /// Too few people are left who could approve.
    Strand(PolicyVersion),
    /// The caller says what became of the redeemed request.
    Report {
        /// The service that says so.
        caller: String,
        /// What became of it.
        outcome: ReportedOutcome,
        /// In the caller's words.
        detail: Option<String>,
    },
    /// Time has passed.
    Tick,
}

impl Event {
    /// Its name, for records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Vote(_) => "vote",
            Self::Cancel(_) => "cancel",
            Self::Revoke(_) => "revoke",
            Self::Redeem(_) => "redeem",
            Self::Supersede(..) => "supersede",
            Self::Strand(_) => "strand",
            Self::Report { .. } => "report",
            Self::Tick => "tick",
        }
    }
}

/// Why an event changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It came too late.
    #[error("the approval is already {status}, since {at}, by {by}")]
    AlreadyResolved {
        /// Where it stands.
        status: Status,
        /// Since when.
        at: Timestamp,
        /// Who brought it there.
        by: Box<Actor>,
    },
    /// Nothing can be redeemed or revoked before the quorum is full.
    #[error("the approval is still PENDING")]
    StillPending,
    /// The person has voted; only a change from yes to no is possible.
    #[error("this person has already voted")]
    AlreadyVoted,
    /// The person belongs to the requester's side.
    #[error("{why}, and nobody approves a request of their own side")]
    OwnRequest {
        /// How they belong to it.
        why: String,
    },
    /// No policy lets the person approve.
    #[error("{why}")]
    NotEligible {
        /// Why not.
        why: String,
    },
    /// The vote was cast for another request.
    #[error("the vote is for another request than this approval's; look at it again")]
    OtherRequest,
    /// The voter was shown something else.
    #[error("what the voter was shown is not what this approval shows; look at it again")]
    OtherView,
    /// Only the requester's side may do this.
    #[error("only the requester's side may do this")]
    NotTheRequester,
    /// The approval belongs to another caller.
    #[error("the approval was opened by another caller")]
    OtherCaller,
    /// The request is not the one that was approved.
    #[error("the request is not the one that was approved: its digest differs")]
    RequestMismatch,
    /// The grant was spent under another key.
    #[error("the approval was already redeemed, at {at}")]
    AlreadyRedeemed {
        /// When.
        at: Timestamp,
    },
    /// The votes do not satisfy the policies of today, so the approval is superseded.
    #[error("{}", .0.sentence())]
    Superseded(Cause),
    /// Nothing has been redeemed, so there is no outcome.
    #[error("the approval is not redeemed, so there is no outcome to report")]
    NotRedeemed,
    /// The outcome was reported otherwise before.
    #[error("the outcome was already reported as {}", .0.as_str())]
    AlreadyReported(ReportedOutcome),
}
