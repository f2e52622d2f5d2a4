//! Approval rules: what it takes to lift a gate.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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

/// A seat of a rule's quorum: what a reviewer is asked to fill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// The rule's name.
    pub rule: String,
    /// The slot's name; empty where the rule only counts persons.
    pub slot: String,
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.slot.is_empty() {
            f.write_str(&self.rule)
        } else {
            write!(f, "{}/{}", self.rule, self.slot)
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
    /// How long after its opening reviewers are reminded of an approval that still waits; less than `expires_after`.
    pub remind_after: Option<Duration>,
    /// How long after its opening more people may approve; less than `expires_after`. The quorum stays the same.
    pub escalate_after: Option<Duration>,
    /// Where to tell those who may approve after the escalation; empty without `escalate_after`.
    pub escalate_to: Vec<String>,
}

impl Rule {
    /// The seats to fill, each with how many persons it takes.
    pub fn seats(&self) -> Vec<(Seat, NonZeroU32)> {
        let seat = |slot: &str| Seat {
            rule: self.name.clone(),
            slot: slot.to_owned(),
        };
        match &self.quorum {
            Quorum::Persons(count) => vec![(seat(""), *count)],
            Quorum::Slots(slots) => slots
                .iter()
                .map(|(slot, count)| (seat(slot), *count))
                .collect(),
        }
    }
}
