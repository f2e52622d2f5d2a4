//! The audit log's tree, proofs, tiles, notes and checkpoints beside other people's: ct-merkle, `tlog_tiles` and `signed_note`.
//!
//! What is made must be the same bytes, what one accepts the other must accept, and what was changed must be refused.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there, in its helpers too"
)]

mod arbitrary;
mod notes;
mod proofs;
mod refused;
mod support;
mod tiles;
