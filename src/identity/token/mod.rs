//! Tells who a bearer token speaks for: JSON Web Tokens of the issuers that the configuration names.
//!
//! Place: floor 3; calls ask [`Tokens::known`] and then [`Tokens::verify`], the server runs [`Tokens::keep_fresh`].
//! Never: a symmetric or missing signature; a key that the token itself brings along; anything of a token in a fault or a log line.

mod actors;
mod algorithm;
mod claims;
mod fault;
mod header;
mod issuer;
mod key_fault;
mod key_set;
mod key_source;
mod settings;
mod signature;
#[cfg(test)]
mod test_bench;
mod tokens;

pub use actors::Actor;
pub use algorithm::Algorithm;
pub use claims::VerifiedToken;
pub use fault::TokenFault;
pub use issuer::IssuerSigns;
pub use key_source::KeyFetcher;
pub use settings::{IssuerSettings, KeyPlace, SettingsError};
pub use tokens::Tokens;
