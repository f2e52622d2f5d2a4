//! What those who run the server see of it: calls as they end, and how it stands now and then.
//!
//! Nothing here may hold up or fail a call: what cannot be seen is not seen.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::model::{Decision, TraceContext};

/// Sees what happens. Called on serving threads, so it must not wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A request was decided, or failed to be.
    fn decided(&self, seen: &DecisionSeen<'_>);

    /// A call was answered; a stream counts when it begins.
    fn called(&self, seen: &CallSeen<'_>);

    /// A call was turned away before anything was done for it.
    fn refused(&self, reason: RefusalKind);

    /// A connection was turned away.
    fn connection_refused(&self, reason: ConnectionRefusal);

    /// An approval got its result: approved, denied, or neither in time.
    fn resolved(&self, result: &'static str, waited: Duration);

    /// Somebody was told of an approval, or not, over a kind of channel such as `webhook`.
    fn told(&self, channel: &str, was_told: bool);
}

/// Sees nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn decided(&self, _: &DecisionSeen<'_>) {}
    fn called(&self, _: &CallSeen<'_>) {}
    fn refused(&self, _: RefusalKind) {}
    fn connection_refused(&self, _: ConnectionRefusal) {}
    fn resolved(&self, _: &'static str, _: Duration) {}
    fn told(&self, _: &str, _: bool) {}
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionSource {
    /// It was made before and kept.
    Cache,
    /// The policies were evaluated.
    Evaluation,
    /// An approval was opened, joined or redeemed.
    Approval,
}

/// A decision that was answered.
#[derive(Clone, Copy, Debug)]
pub struct DecisionSeen<'a> {
    /// The answer.
    pub decision: Decision,
    /// Why it is DENY, if it is: the API's name for it, such as `FORBIDDEN`.
    pub deny_reason: Option<&'static str>,
    /// What it rests on.
    pub source: DecisionSource,
    /// Its id.
    pub decision_id: Uuid,
    /// The policy set that decided.
    pub policy_version: &'a str,
    /// How long the policies were evaluated, in microseconds; 0 if they were not.
    pub evaluation_us: u32,
    /// The approval that took part.
    pub approval_id: Option<&'a str>,
    /// The call that opened that approval, if it is another one.
    pub opened_by: Option<TraceContext>,
    /// From the call's arrival to its answer.
    pub took: Duration,
    /// The caller's span.
    pub trace: Option<TraceContext>,
    /// Whether it is one of a batch: then the batch is the call.
    pub is_item: bool,
}

/// A call that was answered. Every call is seen so, single decisions too.
#[derive(Clone, Copy, Debug)]
pub struct CallSeen<'a> {
    /// Its full name, such as `countersign.v1.ApprovalService/Vote`; `_OTHER` for one that does not exist.
    pub method: &'static str,
    /// The gRPC status, such as `OK` or `INVALID_ARGUMENT`.
    pub status: &'static str,
    /// This API's reason, such as `NO_POLICIES`, where it failed with one.
    pub error: Option<&'a str>,
    /// From its arrival to its answer.
    pub took: Duration,
    /// The caller's span.
    pub trace: Option<TraceContext>,
    /// Whether its span was made by [`Observer::decided`].
    pub has_decision_span: bool,
}

/// Why a call is turned away before anything is done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalKind {
    /// It carries no credential that names a caller.
    Unauthenticated,
    /// Its caller may not call this.
    NotPermitted,
    /// Its caller may not speak for this principal.
    NotBound,
    /// Its caller calls too often.
    RateLimited,
    /// Its caller has too many calls under way, or it waited too long for its turn.
    Overloaded,
    /// Its deadline passed while it waited for its turn.
    DeadlinePassed,
}

impl RefusalKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unauthenticated,
        Self::NotPermitted,
        Self::NotBound,
        Self::RateLimited,
        Self::Overloaded,
        Self::DeadlinePassed,
    ];

    /// Its name in metrics and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::NotPermitted => "not_permitted",
            Self::NotBound => "not_bound",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::DeadlinePassed => "deadline_passed",
        }
    }
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// There are too many.
    TooMany,
    /// One caller has too many.
    TooManyOfCaller,
    /// Its TLS handshake failed, or took too long.
    Handshake,
    /// Its peer did not introduce itself in time, or does not speak HTTP/2.
    Introduction,
}

impl ConnectionRefusal {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::TooMany,
        Self::TooManyOfCaller,
        Self::Handshake,
        Self::Introduction,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooManyOfCaller => "too_many_of_caller",
            Self::Handshake => "handshake",
            Self::Introduction => "introduction",
        }
    }
}

/// Writes metrics for whoever asks.
pub trait Metrics: fmt::Debug + Send + Sync {
    /// All metrics as they are now. Takes about a millisecond.
    ///
    /// # Errors
    /// Why they cannot be written.
    fn scrape(&self) -> Result<Scrape, String>;
}

/// Metrics in a text format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrape {
    /// The format, as HTTP names it.
    pub content_type: &'static str,
    /// The metrics.
    pub text: String,
}

/// Tells how the server stands. Read by whoever exports metrics, from a thread of its own: it must answer at once from what it knows.
pub trait Vitals: fmt::Debug + Send + Sync {
    /// How it stands now.
    fn read(&self) -> VitalSigns;
}

/// How a server stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VitalSigns {
    /// The policies in force; none before the first good load.
    pub policies: Option<PolicySigns>,
    /// How many loads brought other policies into force, since the start.
    pub loads_activated: u64,
    /// How many found what was in force already.
    pub loads_unchanged: u64,
    /// How many were rejected.
    pub loads_rejected: u64,
    /// Whether the last load was rejected: what is in force is older than what is on disk.
    pub is_last_load_rejected: bool,
    /// When policies were last read without a fault.
    pub last_good_load: Option<Timestamp>,
    /// Bytes of kept decisions, and how many there are.
    pub cache_bytes: u64,
    /// How many decisions are kept.
    pub cache_entries: u64,
    /// The approvals, if they are kept here and could be counted.
    pub approvals: Option<ApprovalSigns>,
    /// The log of decisions, if one is kept.
    pub audit: Option<AuditSigns>,
    /// Whether it serves, as health checks are told.
    pub is_serving: bool,
    /// Whether it has been told to stop.
    pub is_stopping: bool,
    /// Open connections by transport: `tcp`, `tls` or `unix`.
    pub connections: Vec<(&'static str, u64)>,
    /// Calls that wait for their turn.
    pub waiting_calls: u64,
    /// The server's certificate is valid until then.
    pub certificate_expires: Option<Timestamp>,
    /// By issuer: when its signing keys were last fetched, and how many times that failed since the start.
    pub signing_keys: Vec<(String, Option<Timestamp>, u64)>,
}

/// The policies in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicySigns {
    /// The version: 64 hexadecimal digits.
    pub version: String,
    /// How many permits.
    pub permits: u64,
    /// How many forbids that are no gates.
    pub forbids: u64,
    /// How many gates.
    pub gates: u64,
    /// Whether the index of policies was switched off because it disagreed with the full evaluation.
    pub is_index_distrusted: bool,
}

/// The approvals of all replicas that share a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApprovalSigns {
    /// How many wait for votes.
    pub pending: u64,
    /// How many wait to be redeemed.
    pub approved: u64,
    /// When the oldest that waits for votes was opened.
    pub oldest_pending: Option<Timestamp>,
    /// How many messages to people are not delivered and not given up, whenever it is tried again.
    pub undelivered: u64,
    /// When the oldest of those was due that are due now.
    pub oldest_undelivered: Option<Timestamp>,
}

/// The log of decisions of this replica.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditSigns {
    /// Decisions that may be answered.
    pub accepted: u64,
    /// Those with a durable record.
    pub logged: u64,
    /// Those without one.
    pub lost: u64,
    /// How long the oldest record of the last round waited until it was durable.
    pub time_to_durable: Duration,
    /// Whether records are taken.
    pub is_writable: bool,
    /// Whether all decisions are stopped because the log was changed from outside.
    pub is_sealed: bool,
}
