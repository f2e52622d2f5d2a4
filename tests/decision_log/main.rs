//! The decision log: what is accepted is logged or declared lost, whatever becomes of the disk, the callers and the process.
//!
//! Logs are kept in memory by [`disk::Disk`], which can fail, block and write half of a round.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the unexpected, in its helpers too"
)]

mod appending;
mod disk;
mod durable;
mod failing;
mod full;
mod random;
mod stopping;
