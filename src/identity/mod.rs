//! Tells who somebody is by what they show.
//!
//! Place: floor 3; implements the port [`crate::usecase::ports::Credentials`].
//! Never: a credential in an error, a log line or a debug output.

mod development;
mod none;

pub use development::DevelopmentLogins;
pub use none::NoLogins;
