//! What the control log must hold of an approval: every change, and every attempt that was refused.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::closed::Status;
use super::digest::Digest;
use super::event::{Event, Refusal};
use super::state::{Approval, ApprovalId};

/// What happened, as an auditor replays it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// The approval was opened.
    Opened(Box<Approval>),
    /// An event changed it.
    Changed(Event),
    /// An event was refused.
    Refused(Event, Refusal),
    /// Time ended it.
    TimedOut,
    /// Its reviewers were reminded.
    Reminded,
    /// Further reviewers were asked.
    Escalated,
}

/// One entry of the control log about an approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// When.
    pub at: Timestamp,
    /// Which approval.
    pub approval: ApprovalId,
    /// The approval's version after it.
    pub version: u64,
    /// Where it stood before; none at the opening.
    pub from: Option<Status>,
    /// Where it stood after.
    pub to: Status,
    /// The digest of the request.
    pub digest: Digest,
    /// What happened.
    pub what: Happening,
}
