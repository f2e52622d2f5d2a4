//! The gRPC surface: parse, call a use case, convert; nothing else.
//!
//! Place: floor 3. Only this folder, and the command line through it, names the generated types.
//! Never: a decision. What a client may see of an error is decided in `status.rs` alone.

mod access;
mod answer;
mod approval;
mod approvals;
mod audit;
mod authorization;
pub mod client;
mod convert;
mod deadline;
pub mod json;
mod limits;
mod page;
mod policy;
pub mod proto;
mod request;
mod routes;
mod seen;
mod status;
mod timed;
mod trace;
mod unary;

pub use access::{Access, Connection, Gatekeeper};
pub use approvals::ApprovalApi;
pub use audit::{AuditApi, AuditParts, filter_message, logged_message};
pub use authorization::AuthorizationApi;
pub use limits::{
    CallerKey, CallerLimits, Entering, FairGate, FairSettings, Limit, Limited, Pass, Permit,
    RateSettings, TurnedAway,
};
pub use policy::PolicyApi;
pub use request::{DecodeRequestError, decode_request};
pub use routes::Api;
pub use unary::BoxedFuture;

/// The largest Authorize message, in bytes: what it decodes to may take a hundred times as much.
pub const MAX_AUTHORIZE_BYTES: usize = 64 * 1024;
/// The largest batch, in bytes.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
