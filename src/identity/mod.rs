//! Tells who somebody is by what they show: a certificate, a token, or the user that a process runs as.
//!
//! Place: floor 3; implements the port [`crate::usecase::ports::Authentication`].
//! Never: a credential in an error, a log line or a debug output.

mod authenticator;
mod development;
mod spiffe;
mod svid;
mod tls;
mod token;

pub use authenticator::{Authenticator, Credentials, IssuerMeaning};
pub use development::DevelopmentLogins;
pub use spiffe::{BadSpiffeId, SpiffeId, TrustDomain};
pub use svid::{Svid, SvidFault, svid_of};
pub use tls::{ClientCertificates, PeerFault, Tls, TlsError, TlsFiles, TlsGeneration};
pub use token::{
    Actor, Algorithm, IssuerSettings, IssuerSigns, KeyFetcher, KeyPlace, SettingsError, TokenFault,
    Tokens, VerifiedToken,
};
