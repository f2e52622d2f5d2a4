//! The engine: a bundle of files in, an immutable snapshot that decides out.
//!
//! Place: floor 1, pure: values in, values out. The only folder that names Cedar, and `cedar.rs` lists what it takes from it.
//! Never: async, a clock, randomness, a file or a socket; whoever calls gives the time and the bytes.
//!
//! A bundle becomes a snapshot in `compile`; a request becomes a decision in three steps:
//! [`Snapshot::prepare`] (is it well formed?), [`Prepared::write_key`] (have we decided it before?) and
//! [`Snapshot::plan`] with [`Plan::decide`] (what do the policies say?).
//! Who may approve is asked with [`Snapshot::eligibility`] and [`Snapshot::requester_closure`]: the first is the policies' say, the
//! second the floor under it. Both have to hold.

mod action;
mod audit_annotations;
mod bundle;
mod case_files;
mod cases;
mod cedar;
mod closure;
mod compile;
mod convert;
mod diagnostics;
mod eligibility;
mod engine;
mod entities;
mod explain;
mod extension_text;
mod footprint;
mod format;
mod guard;
mod index;
mod key;
mod literals;
mod outcome;
mod persons;
mod policies;
mod policy_files;
mod prepare;
mod reviewers;
mod rules;
mod schema;
mod shape;
mod slice;
mod snapshot;

pub use bundle::{Bundle, BundleFile, BundleLimits, FileKind};
pub use case_files::parse_entity;
pub use cases::{CaseReport, CaseResult, run_cases};
pub use closure::{ClosureProblem, ClosureReason, RequesterClosure};
pub use compile::{CompileOptions, CompileReport, compile};
pub use eligibility::{ApproveQuestion, Eligibility, NotEligible};
pub use engine::Engine;
pub use explain::explain;
pub use extension_text::canonical_extension;
pub use format::format_policies;
pub use prepare::Prepared;
pub use reviewers::PossibleReviewer;
pub use snapshot::{Plan, Snapshot};

/// The reserved action that asks whether a reviewer may approve; requests may not name it.
pub const APPROVE_ACTION: &str = "Countersign::Action::\"Approve\"";
