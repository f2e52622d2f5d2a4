//! Countersign: a policy decision point that answers allow, deny or require approval.
//!
//! Services ask over gRPC whether a principal may do an action on a resource in a context; the answer comes from Cedar policies.
//! `docs/ARCHITECTURE.md` walks through a call and a reload.
//!
//! Never: a module that uses a peer or a higher floor; `tests/architecture.rs` keeps it so.

#![forbid(unsafe_code)]

pub mod approval;
pub mod audit;
pub mod channel;
pub mod cli;
pub mod config;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod model;
pub mod policy;
pub mod server;
pub mod storage;
pub mod telemetry;
pub mod usecase;
