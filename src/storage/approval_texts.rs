//! Approvals and their records as the JSON texts that SQL stores keep.
//!
//! What was asked is a text of its own, written once and never again; its digest is kept beside it and compared with every reading.
//! The texts must come back byte for byte, so a store keeps them as text.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::approval::{
    Approval, ApprovalId, Asked, ControlRecord, Digest, FrozenRequirement, State, Timers, Vote,
};
use crate::usecase::approval_store::StoreError;

/// The domain of the digest over the text of what was asked.
const ASKED_DOMAIN: &str = "countersign asked text v1";

/// The part of an approval that never changes.
#[derive(Serialize, Deserialize)]
struct AskedText {
    asked: Asked,
    requirements: Vec<FrozenRequirement>,
    opened: Timestamp,
    expires: Timestamp,
}

/// The part of an approval that changes.
#[derive(Serialize, Deserialize)]
struct CourseText {
    state: State,
    votes: Vec<Vote>,
    joined: u32,
    timers: Timers,
}

/// An approval as texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredApproval {
    /// Its name.
    pub(super) id: String,
    /// Its version.
    pub(super) version: u64,
    /// What was asked, as JSON.
    pub(super) asked: String,
    /// The digest of `asked`.
    pub(super) asked_digest: String,
    /// What became of it so far, as JSON.
    pub(super) course: String,
}

/// What was asked, as JSON, with its digest.
pub(super) fn asked_text(approval: &Approval) -> Result<(String, String), StoreError> {
    let text = json(&AskedText {
        asked: approval.asked.clone(),
        requirements: approval.requirements.clone(),
        opened: approval.opened,
        expires: approval.expires,
    })?;
    let digest = Digest::of(ASKED_DOMAIN, text.as_bytes()).to_string();
    Ok((text, digest))
}

/// What became of an approval so far, as JSON.
pub(super) fn course_text(approval: &Approval) -> Result<String, StoreError> {
    json(&CourseText {
        state: approval.state.clone(),
        votes: approval.votes.clone(),
        joined: approval.joined,
        timers: approval.timers.clone(),
    })
}

/// Reads an approval.
pub(super) fn approval_of(stored: &StoredApproval) -> Result<Approval, StoreError> {
    let digest = Digest::of(ASKED_DOMAIN, stored.asked.as_bytes()).to_string();
    if digest != stored.asked_digest {
        let id = &stored.id;
        return Err(StoreError::Corrupt(format!(
            "what was asked with the approval `{id}` was changed after its opening"
        )));
    }
    let AskedText {
        asked,
        requirements,
        opened,
        expires,
    } = from_json(&stored.asked)?;
    let CourseText {
        state,
        votes,
        joined,
        timers,
    } = from_json(&stored.course)?;
    Ok(Approval {
        id: ApprovalId::new(stored.id.clone()),
        version: stored.version,
        state,
        asked,
        requirements,
        opened,
        expires,
        votes,
        joined,
        timers,
    })
}

/// A record as JSON.
pub(super) fn record_text(record: &ControlRecord) -> Result<String, StoreError> {
    json(record)
}

/// Reads a record.
pub(super) fn record_of(text: &str) -> Result<ControlRecord, StoreError> {
    from_json(text)
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(&error))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| corrupt(&error))
}

fn corrupt(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt(error.to_string())
}
