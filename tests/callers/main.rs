//! Who may call what, and for whom: a real server with TLS, tokens and bindings, and callers of every kind.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the unexpected, in its helpers too"
)]

mod certificates;
mod credentials;
mod matrix;
mod people;
mod reload;
mod tokens;
mod world;
