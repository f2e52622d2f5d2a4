//! The server's certificate, and whose client certificates count: read from files, and read again while serving.
//!
//! Place: floor 3; the server asks for [`Tls::current`] at each connection, and looks again at open ones when
//! [`Tls::generations`] changes.
//! Never: a half-read generation in force; a private key in an error, a log line or a debug output.

mod clients;
mod error;
mod files;
mod generation;
mod open;
#[cfg(test)]
mod test_bench;

pub use error::TlsError;
pub use files::{ClientCertificates, TlsFiles};
pub use generation::{PeerFault, TlsGeneration};
pub use open::Tls;
