//! The nouns everybody shares.
//!
//! Place: floor 0; everything else builds on it.
//! Never: behaviour that needs a policy set, a clock, randomness, a file or a socket.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | request | principal, action, resource, context, as asked |
//! | policy, gate | a Cedar policy; a **gate** is a `forbid` that carries `@approval("rule")` |
//! | rule | an entry of `approvals.toml`: what it takes to lift a gate |
//! | bundle, snapshot | the raw files of one policy set; the compiled, immutable thing that decides |
//! | decision | allow, deny or require approval, with its reasons |
//! | posture | what becomes of policies that cannot be evaluated and of entities that are missing |
//! | footprint | which attributes the policies that apply to an action can read |
//! | slice | the entities one decision needs, taken out of the store |

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions)]

mod decision;
mod entity;
mod limits;
mod posture;
mod problem;
mod redaction;
mod request;
mod rule;
mod status;
mod trace_context;
mod value;

pub use decision::{
    Decided, Decision, DenyReason, DeterminingPolicy, Effect, Explanation, NearMiss, Outcome,
    PolicyFault, PolicyOutcome, PolicyVerdict, Requirement,
};
pub use entity::{EntityDescription, EntityRef};
pub use limits::RequestLimits;
pub use posture::{Posture, UnknownMode, ValidationMode};
pub use problem::{PolicyProblem, Severity};
pub use redaction::{NotAPath, Redaction, RedactionNode, Redactions};
pub use request::{Mode, Request, RequestFault, RequestProblem};
pub use rule::{Quorum, Rule, RuleRequirement, Seat};
pub use status::{LoadAttempt, PolicySetInfo, PolicyVersion};
pub use trace_context::TraceContext;
pub use value::{Record, Value};
