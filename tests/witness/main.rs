//! The client of witnesses beside a witness that does what C2SP tlog-witness says, and beside some that do not.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there, in its helpers too"
)]

mod asking;
mod cosignatures;
mod http;
mod log;
/// The server's own part, which nobody outside of it can name.
#[path = "../../src/server/audit/witness.rs"]
mod run;
mod running;
mod witness;

// The names by which the server's part knows them.
use countersign::{audit, channel, config, storage};
