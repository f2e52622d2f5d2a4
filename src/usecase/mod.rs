//! The order of steps: decide a request, load a policy directory, swap snapshots.
//!
//! Place: floor 2; uses the engines below and owns the ports (traits) that adapters above implement.
//! Never: a wire format, a file, a socket or the system clock; they come in through `ports`.

mod active;
pub mod approval_store;
pub mod approvals;
pub mod audit_reading;
mod authorize;
mod authorized;
mod beside;
mod cache;
pub mod callers;
pub mod control_log;
pub mod decision_log;
mod evaluation;
pub mod evidence;
mod ids;
mod loading;
pub mod observing;
pub mod ports;
mod recording;
mod refusals;
mod reload;
pub mod sequencing;
mod verdict;

pub use active::{ActiveSnapshot, CacheSettings};
pub use authorize::{AuthorizeError, Authorizer, AuthorizerSettings, Step, Waiting};
pub use authorized::Authorized;
pub use cache::CachedDecision;
pub use loading::{LARGE_STACK_BYTES, LoadError, on_large_stack};
pub use recording::{PolicyRecords, Recorder};
pub use refusals::Refusals;
pub use reload::{ActivationHistory, LoadCounts, PolicyEvent, ReloadOutcome, Reloader};
pub use verdict::{ApprovalFault, ApprovalPart, ApprovalRefusal};
