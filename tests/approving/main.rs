//! The life of an approval through the use cases: a real engine, policies as text, a store in memory, a clock and channels that
//! tests hold in their hands.
//!
//! One program, so that it is linked once. Each test has a world of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the unexpected, in its helpers too"
)]

mod asking;
mod failures;
mod interleavings;
mod life;
mod mismatch;
mod own_request;
mod people;
mod policy_change;
mod races;
mod request;
mod store;
mod telling;
mod time;
mod voting;
mod world;
