//! Why TLS cannot be served from the files.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use rustls::pki_types::pem;
use rustls::server::VerifierBuilderError;

use super::files::MAX_FILE_BYTES;

/// Why TLS cannot be served from the files. Names the key, the file and what to change; never what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{key}` names `{}`, which cannot be read", .path.display())]
    Unreadable {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is longer than any that makes sense.
    #[error("`{key}` names `{}`, which is longer than {MAX_FILE_BYTES} bytes", .path.display())]
    TooLong {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file is not in PEM.
    #[error("`{key}` names `{}`, which cannot be read as PEM", .path.display())]
    NotPem {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A file holds something else.
    #[error("`{key}` names `{}`, which holds no {what}", .path.display())]
    Nothing {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The server's certificate is broken.
    #[error("`tls.certificate` names `{}`, whose first certificate cannot be read", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The server's certificate has ended.
    #[error("`tls.certificate` names `{}`, whose first certificate ended at {at}", .path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        at: Timestamp,
    },
    /// The server's certificate has not begun.
    #[error("`tls.certificate` names `{}`, whose first certificate begins at {at}", .path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When.
        at: Timestamp,
    },
    /// The key is not that of the certificate.
    #[error("`tls.key` names `{}`, which is not the key of the first certificate in `tls.certificate`", .path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// The key cannot sign.
    #[error("`tls.key` names `{}`, which is not a key that can be used: RSA, ECDSA P-256 or P-384, or Ed25519", .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A certificate authority is broken.
    #[error("`tls.client_ca` names `{}`, with a certificate that cannot be read", .path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A revocation list is broken.
    #[error("`tls.client_crl` names `{}`, with a revocation list that cannot be used", .path.display())]
    BadRevocations {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
    /// A revocation list has ended, or does not say when it will: no client of its authority could connect.
    #[error("`tls.client_crl` names `{}`, with a revocation list that has ended or does not say when it will", .path.display())]
    OldRevocations {
        /// The file.
        path: PathBuf,
    },
    /// Clients must show certificates that nothing could vouch for.
    #[error("`tls.client` is `required`, which needs `tls.client_ca`")]
    NoAuthority,
    /// There are revocations of nobody's certificates.
    #[error("`tls.client_crl` has no meaning without `tls.client_ca`")]
    RevocationsOfNobody,
    /// Every client certificate would be refused.
    #[error("`tls.client_ca` needs `tls.trust_domains`: a client is named by its SPIFFE ID")]
    NoTrustDomain,
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Library {
        /// Why.
        #[source]
        source: rustls::Error,
    },
}
