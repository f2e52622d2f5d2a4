//! What operators read over HTTP: metrics, health, and the logs as static files for monitors that keep or compare them.
//!
//! Place: floor 3, beside `grpc`; reads through the port [`crate::usecase::audit_reading::LogLibrary`].
//! Never: a credential, a write, a record of who reads: whoever reaches the operators' port reads the logs, and nothing notes it.

mod operators;
mod tiles;

pub use operators::operators;
pub use tiles::router;
