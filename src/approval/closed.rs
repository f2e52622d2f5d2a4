//! How an approval stands, and why.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::Actor;

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It waits for votes.
    Pending,
    /// Its quorum is full; the grant waits to be redeemed.
    Approved,
    /// Its grant was spent.
    Redeemed,
    /// Somebody who may, said no.
    Denied,
    /// It waited for too long.
    Expired,
    /// The requester's side gave up.
    Cancelled,
    /// The policies now say otherwise.
    Superseded,
    /// The grant was taken back before it was spent.
    Revoked,
    /// The grant was not spent in time.
    Lapsed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Approved,
        Self::Redeemed,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
        Self::Superseded,
        Self::Revoked,
        Self::Lapsed,
    ];

    /// The pairs that may follow one another; a status may always follow itself.
    pub const TRANSITIONS: [(Self, Self); 9] = [
        (Self::Pending, Self::Approved),
        (Self::Pending, Self::Denied),
        (Self::Pending, Self::Expired),
        (Self::Pending, Self::Cancelled),
        (Self::Pending, Self::Superseded),
        (Self::Approved, Self::Redeemed),
        (Self::Approved, Self::Revoked),
        (Self::Approved, Self::Lapsed),
        (Self::Approved, Self::Superseded),
    ];

    /// Its name, as in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Redeemed => "REDEEMED",
            Self::Denied => "DENIED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
            Self::Superseded => "SUPERSEDED",
            Self::Revoked => "REVOKED",
            Self::Lapsed => "LAPSED",
        }
    }

    /// The status called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing can change it any more.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Approved)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an approval was denied or superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cause {
    /// An eligible person, or the requester's side, voted to deny.
    Veto,
    /// Too few people are left who could approve.
    UnreachableQuorum,
    /// The policies now deny the request.
    PolicyNowDenies,
    /// The policies now ask for more than the votes give.
    RequirementStronger,
    /// A counted voter may not approve any more, and without that vote the quorum is not full.
    ApproverIneligible,
}

impl Cause {
    /// Its name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Veto => "VETO",
            Self::UnreachableQuorum => "UNREACHABLE_QUORUM",
            Self::PolicyNowDenies => "POLICY_NOW_DENIES",
            Self::RequirementStronger => "REQUIREMENT_STRONGER",
            Self::ApproverIneligible => "APPROVER_INELIGIBLE",
        }
    }

    /// A sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Veto => "a reviewer said no",
            Self::UnreachableQuorum => "too few people are left who could approve it",
            Self::PolicyNowDenies => "the policies now deny the request",
            Self::RequirementStronger => "the policies now ask for more than its votes give",
            Self::ApproverIneligible => "a person who approved it may not approve it any more",
        }
    }
}

/// How and when an approval ended without being redeemed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub by: Actor,
    /// Why, where the status alone does not say.
    pub cause: Option<Cause>,
    /// What whoever did it said.
    pub comment: Option<String>,
}

/// What became of a redeemed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReportedOutcome {
    /// It was done.
    Succeeded,
    /// It was tried and failed.
    Failed,
    /// Nobody said within the time to report.
    Unknown,
}

impl ReportedOutcome {
    /// Its name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
        }
    }
}
