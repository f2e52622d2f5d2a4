//! The log folder: written, read beside the writer, torn by crashes, changed by hand, pruned.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the unexpected, in its helpers too"
)]

mod beside;
mod crash;
mod damage;
mod disk;
mod failing;
mod hostile;
mod logs;
mod pruning;
mod round_trip;
mod speed;
