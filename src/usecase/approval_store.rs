//! What the use cases need from a store of approvals.
//!
//! Each operation is one transaction: all of it is kept, or nothing. `now` is the one clock; expiry is decided by it, never by when a
//! sweeper came by. An operation that returned an error may or may not have happened: repeat it with the same command key.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::approval::flood::{FloodLimit, FloodLimits};
use crate::approval::{
    Approval, ApprovalId, ControlRecord, Digest, Event, Opening, Refusal, Status,
};

use super::observing::ApprovalSigns;
use super::ports::PortFuture;

/// How long a command key is remembered at least: longer than any caller retries.
pub const COMMAND_MEMORY: Duration = Duration::from_secs(72 * 3_600);

/// Why a store could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time. Whether the operation happened is unknown.
    #[error("the store of approvals cannot be reached: {0}")]
    Unreachable(String),
    /// The store holds something that this program did not write so.
    #[error("the store of approvals holds something unreadable: {0}")]
    Corrupt(String),
    /// The store refused a write that breaks one of its own rules.
    #[error("the store of approvals refused a write: {0}")]
    RuleBroken(String),
}

/// Says that two calls are one: the same caller, the same method, the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandKey {
    /// Who calls: a service or a person, with their kind.
    pub caller: String,
    /// Which operation.
    pub method: &'static str,
    /// The key the caller chose.
    pub key: String,
    /// The digest of what was asked; the same key with another payload is a mistake.
    pub payload: Digest,
}

/// A wish to open an approval.
#[derive(Clone, Debug)]
pub struct OpenCommand {
    /// What to open.
    pub opening: Opening,
    /// Makes the wish repeatable.
    pub key: Option<CommandKey>,
    /// How much may be asked.
    pub limits: FloodLimits,
}

/// What became of a wish to open an approval.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// It was opened.
    New(Box<Approval>),
    /// The request waits already, or is approved and waits to be redeemed. Nobody is told again.
    Joined(Box<Approval>),
    /// The same wish was fulfilled before: the approval as it is now.
    Repeated(Box<Approval>),
    /// The request was denied a short while ago; nothing was opened.
    CoolDown {
        /// The denial.
        denied: Box<Approval>,
        /// When people may be asked again.
        until: Timestamp,
    },
    /// The requester asks too much; nothing was opened.
    TooMany {
        /// The limit that was met.
        limit: FloodLimit,
        /// When asking again may help.
        retry_at: Timestamp,
    },
    /// The key belongs to another wish; nothing was opened.
    KeyReused,
}

/// A wish to change an approval.
#[derive(Clone, Debug)]
pub struct ApplyCommand {
    /// Which approval.
    pub id: ApprovalId,
    /// What happens to it.
    pub event: Event,
    /// The version that the event was prepared for; the event happens to no other. None: to any.
    pub version: Option<u64>,
    /// Makes the wish repeatable. Only what was done is remembered: a refused wish may be tried again.
    pub key: Option<CommandKey>,
}

/// What became of a wish to change an approval.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// The event happened; the approval after it.
    Done(Box<Approval>),
    /// The same wish was fulfilled before: the approval as it is now.
    Repeated(Box<Approval>),
    /// The event was refused, which is recorded; the approval as it is now. Time, or the attempt itself, may have changed it.
    Refused(Box<Approval>, Refusal),
    /// The approval is not at the version the event was prepared for; nothing happened.
    Moved(Box<Approval>),
    /// The key belongs to another wish; nothing happened.
    KeyReused,
    /// There is no such approval.
    Unknown,
}

/// Which approvals to list. An empty set means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Those that stand so, by the time of the call.
    pub statuses: BTreeSet<Status>,
    /// Those that wait for one of these rules.
    pub rules: BTreeSet<String>,
    /// Those of this principal, as `Type::"id"`.
    pub requester: Option<String>,
}

/// Where to go on listing: behind this approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListCursor {
    /// When it was opened, in microseconds since the epoch.
    pub opened_us: i64,
    /// Its id.
    pub id: ApprovalId,
}

/// A part of a list, latest opened first.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalPage {
    /// The approvals.
    pub approvals: Vec<Approval>,
    /// Where the list goes on; none at its end.
    pub next: Option<ListCursor>,
}

/// Takes part in telling people: a place that must hear how an approval stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The approval.
    pub approval: ApprovalId,
    /// The place, such as `webhook:soc`.
    pub destination: String,
    /// The version of the approval that the place must hear of at least.
    pub desired_version: u64,
    /// The version that the place has heard of; 0 if it has heard nothing yet.
    pub posted_version: u64,
    /// How often it was tried to tell this version, this time included.
    pub attempt: u32,
    /// What the place calls the message, so that it can be edited.
    pub reference: Option<String>,
    /// Until when nobody else will try.
    pub leased_until: Timestamp,
}

/// How telling went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The place has heard of this version.
    Posted {
        /// The version.
        version: u64,
        /// What the place calls the message.
        reference: Option<String>,
    },
    /// It will be tried again.
    Retry {
        /// When.
        at: Timestamp,
        /// What went wrong.
        error: String,
    },
    /// It is given up, which stays visible, until the approval changes again.
    Dead {
        /// What went wrong.
        error: String,
    },
}

/// How telling one place stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryState {
    /// The approval.
    pub approval: ApprovalId,
    /// The place.
    pub destination: String,
    /// The version it must hear of.
    pub desired_version: u64,
    /// The version it has heard of.
    pub posted_version: u64,
    /// How often it was tried to tell the desired version.
    pub attempts: u32,
    /// Whether it was given up.
    pub is_dead: bool,
    /// What went wrong last.
    pub error: Option<String>,
}

/// A record as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    /// Its place in the order in which the store was written.
    pub sequence: u64,
    /// What was recorded.
    pub record: ControlRecord,
}

/// Keeps approvals, their votes, their records and what must be told of them.
pub trait ApprovalStore: fmt::Debug + Send + Sync {
    /// Opens an approval, unless [`crate::approval::flood::judge`] says otherwise. Opening writes the approval, its record and a
    /// delivery for each place to be told; joining counts.
    fn open(
        &self,
        command: OpenCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Opened, StoreError>>;

    /// Lets an event happen by [`Approval::apply`]: writes the new state, its votes, its records and the deliveries.
    fn apply(
        &self,
        command: ApplyCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Applied, StoreError>>;

    /// The approval called `id`.
    fn find(&self, id: &ApprovalId) -> PortFuture<'_, Result<Option<Approval>, StoreError>>;

    /// Approvals that fit `filter` as of `now`, latest opened first, at most `limit`, from behind `after` on.
    fn list(
        &self,
        filter: ApprovalFilter,
        after: Option<ListCursor>,
        limit: u32,
        now: Timestamp,
    ) -> PortFuture<'_, Result<ApprovalPage, StoreError>>;

    /// Approvals that time should change by `now`, longest overdue first, at most `limit`.
    fn due(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<ApprovalId>, StoreError>>;

    /// The present versions of those of `ids` that exist.
    fn versions(
        &self,
        ids: Vec<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<(ApprovalId, u64)>, StoreError>>;

    /// What was recorded of an approval, earliest first.
    fn records(&self, id: &ApprovalId) -> PortFuture<'_, Result<Vec<StoredRecord>, StoreError>>;

    /// Takes up to `limit` deliveries that are due, each for `lease` long, longest due first. No two workers get the same one.
    fn claim_deliveries(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<Delivery>, StoreError>>;

    /// Keeps how a claimed delivery went. Ignored if its lease was lost to another worker meanwhile.
    fn finish_delivery(
        &self,
        delivery: Delivery,
        outcome: DeliveryOutcome,
        now: Timestamp,
    ) -> PortFuture<'_, Result<(), StoreError>>;

    /// How telling stands: of the approval called `id`, or of everything that was given up.
    fn deliveries(
        &self,
        id: Option<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<DeliveryState>, StoreError>>;

    /// Takes or renews the lease called `name` for `holder`. Answers its epoch, which grows whenever the holder changes; none while
    /// another holds it.
    fn lease(
        &self,
        name: &'static str,
        holder: String,
        ttl: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Option<u64>, StoreError>>;

    /// How many approvals wait, and how telling people keeps up.
    fn signs(&self, now: Timestamp) -> PortFuture<'_, Result<ApprovalSigns, StoreError>>;

    /// Forgets command keys older than [`COMMAND_MEMORY`]. Answers how many.
    fn forget_commands(&self, now: Timestamp) -> PortFuture<'_, Result<u64, StoreError>>;

    /// Hears of approvals that changed, from this process or another. A hint: some may be missed, so look once a second anyway.
    fn changes(&self) -> broadcast::Receiver<ApprovalId>;
}
