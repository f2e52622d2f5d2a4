//! A real server on a free port, real files, real clients: what a caller, an operator or a policy's author can see.
//!
//! One program, so that it is linked once. Each test has a policy directory and a server of its own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops at the unexpected, in its helpers too"
)]

mod approvals;
mod approvals_cli;
mod approvals_refused;
mod approvals_replicas;
mod approvals_support;
mod approvals_webhook;
mod audit;
mod authorize;
mod bad_batch;
mod bad_input;
mod bad_meaning;
mod cli;
mod cli_policies;
mod cli_serve;
mod explain;
mod folder;
mod harness;
mod lifecycle;
mod load;
mod peers;
mod program;
mod reflection;
mod reload;
mod requests;
mod sockets;
mod status;
mod wire;
