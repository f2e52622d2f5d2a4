//! What a store holds, for whoever checks it: read without changing anything, while a server may go on writing.
//!
//! All of it is as it was at one moment: when the store was opened to be read so. Every operation blocks.

use std::fmt;

use jiff::Timestamp;

use crate::approval::{Approval, ApprovalId, Choice, Digest};

use super::approval_store::StoreError;
use super::control_log::{ControlHead, PendingEntry};

/// A vote that counts, as its own row says: written beside the approval, and by other rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRow {
    /// The one name for all accounts of the person.
    pub person: String,
    /// The account they voted by.
    pub account: String,
    /// Yes or no.
    pub choice: Choice,
    /// When.
    pub at: Timestamp,
    /// The digest of the request they voted on.
    pub request_digest: Digest,
    /// The digest of what they were shown.
    pub view_digest: Digest,
}

/// The redemption of a grant, as its own row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedemptionRow {
    /// Who redeemed it.
    pub caller: String,
    /// The digest of the request it was redeemed for.
    pub digest: Digest,
    /// The key it was redeemed by.
    pub key: Option<String>,
    /// The decision it became.
    pub decision_id: String,
    /// When.
    pub at: Timestamp,
}

/// What is kept of an approval, from each place where something is.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalEvidence {
    /// Its name.
    pub id: ApprovalId,
    /// The approval as the store reads it, or why it cannot.
    pub approval: Result<Approval, StoreError>,
    /// Its votes, ordered by person.
    pub votes: Vec<VoteRow>,
    /// Its redemption.
    pub redemption: Option<RedemptionRow>,
}

/// Reads what a store holds. A page is never longer than the store gives at once, whatever was asked for: an empty one is the end.
///
/// Every operation fails with [`StoreError`] if the store cannot be reached any more, or holds what it cannot hold.
pub trait Evidence: fmt::Debug + Send {
    /// Approvals behind the one called `after`, ordered by id, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]; not for an approval that cannot be read, which is part of the evidence.
    fn approvals(
        &self,
        after: Option<&ApprovalId>,
        limit: u32,
    ) -> Result<Vec<ApprovalEvidence>, StoreError>;

    /// How far the control log has come, by its head.
    ///
    /// # Errors
    /// [`StoreError`]
    fn control_head(&self) -> Result<ControlHead, StoreError>;

    /// How many places the control log has, by the places themselves.
    ///
    /// # Errors
    /// [`StoreError`]
    fn control_size(&self) -> Result<u64, StoreError>;

    /// The bytes of the records from place `from` on, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]; a missing place among them is [`StoreError::Corrupt`].
    fn control_bodies(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Records that wait for a place, behind the entry `after`, oldest first, at most `limit`. The first entry is above 0.
    ///
    /// # Errors
    /// [`StoreError`]
    fn pending_bodies(&self, after: u64, limit: u32) -> Result<Vec<PendingEntry>, StoreError>;
}
