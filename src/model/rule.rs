//! Approval rules: what it takes to lift a gate.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many persons must approve, and in which seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// This many distinct eligible persons.
    Persons(NonZeroU32),
    /// Named seats, each to be filled this many times; one person fills one seat.
    Slots(BTreeMap<String, NonZeroU32>),
}

impl Quorum {
    /// How many distinct persons it takes.
    pub fn persons(&self) -> u32 {
        match self {
            Self::Persons(count) => count.get(),
            Self::Slots(slots) => slots
                .values()
                .fold(0_u32, |sum, count| sum.saturating_add(count.get())),
        }
    }
}

/// A field that a request must carry before an approval is opened for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleRequirement {
    /// The requester's reason.
    Justification,
}

impl RuleRequirement {
    /// Its name in `approvals.toml` and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Justification => "justification",
        }
    }
}

/// An entry of `approvals.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name that gates refer to.
    pub name: String,
    /// What reviewers see first.
    pub title: String,
    /// How many persons, in which seats.
    pub quorum: Quorum,
    /// How long an approval waits for votes; a timeout never approves.
    pub expires_after: Duration,
    /// How long an approved request may be redeemed, counted from the deciding vote.
    pub redeem_within: Duration,
    /// What the request must carry.
    pub require: Vec<RuleRequirement>,
    /// Where to tell reviewers, such as `slack:#prod-approvals`.
    pub notify: Vec<String>,
}
