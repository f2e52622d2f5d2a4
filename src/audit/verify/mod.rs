//! Verifies an audit log without the server that wrote it: bytes in, findings out.
//!
//! Logs are read in this order, so that what a running server adds meanwhile raises no false alarm: heads that were kept elsewhere,
//! the control log, the decision logs, and the database. What comes later may be ahead of what came before, never behind.
//!
//! INVARIANT (covered-is-found): no byte of a record that a checkpoint or an anchor covers can change without a finding.
//! INVARIANT (honest-is-silent): what honest writers and crashes leave is at most a note.
//!
//! Never: a file, a clock; trust in anything but signatures, hashes and what was given from outside.

mod approvals;
mod checkpoints;
mod conclude;
mod control;
mod database;
mod database_shown;
mod decisions;
mod finding;
mod happening;
mod keys;
mod log_check;
mod replicas;
mod report;
mod selected;
mod wire;

pub use approvals::{Approvals, CountedVote, Replayed, Spent};
pub use checkpoints::HeadCounts;
pub use conclude::{Given, SILENCE_US, conclude};
pub use control::{CONTROL, ControlCheck, ControlFacts, FolderTexts, Outside, check_key_lines};
pub use database::{DatabaseCheck, Stored, StoredRedemption, StoredVote};
pub use decisions::DecisionCheck;
pub use finding::{Finding, Findings, Kind, Severity};
pub use keys::KeyRing;
pub use log_check::{Expected, LogCheck, LogEnd, Speaker};
pub use replicas::{Ending, Registered, Replicas};
pub use report::{ApprovalCounts, Coverage, DatabaseCounts, ReplicaCoverage, Report, Span};
pub use selected::{SelectedCheck, SelectedTexts};
