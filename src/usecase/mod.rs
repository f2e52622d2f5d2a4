//! The order of steps: decide a request, load a policy directory, swap snapshots.
//!
//! Place: floor 2; uses the engines below and owns the ports (traits) that adapters above implement.
//! Never: a wire format, a file, a socket or the system clock; they come in through `ports`.

mod active;
pub mod approval_store;
pub mod approvals;
mod authorize;
mod cache;
mod ids;
mod loading;
pub mod ports;
mod reload;
mod verdict;

pub use active::{ActiveSnapshot, CacheSettings};
pub use authorize::{AuthorizeError, Authorized, Authorizer, AuthorizerSettings, Step, Waiting};
pub use cache::CachedDecision;
pub use loading::{LARGE_STACK_BYTES, LoadError, on_large_stack};
pub use reload::{ActivationHistory, ReloadOutcome, Reloader};
pub use verdict::{ApprovalFault, ApprovalPart, ApprovalRefusal};
