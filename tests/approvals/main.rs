//! The approval state machine, from the outside: random lives against a model, its table, and what others got wrong.
//!
//! `COUNTERSIGN_STEPS` says how many random events are tried; `COUNTERSIGN_SEED` repeats the one life that failed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::pedantic,
    clippy::complexity,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the unexpected, in its helpers too; generators and tables read better so"
)]

mod digests;
mod floods;
mod mistakes_of_others;
mod random;
mod serialization;
mod support;
mod table;
mod views;
