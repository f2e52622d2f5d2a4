//! Reads audit folders: searched, proved, served as tiles, exported; over folders that the log's own writer wrote.

#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    reason = "a test stops at the unexpected, in its helpers too"
)]

mod export;
mod grpc;
mod http;
mod proofs;
mod query;
mod support;
