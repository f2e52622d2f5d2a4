//! Why an issuer's keys could not be renewed.

use std::io;

use super::key_set::{MAX_KEYS, MAX_SET_BYTES};

/// Why an issuer's keys could not be renewed. Names neither URL nor file: the log line does.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFault {
    #[error("the file cannot be read")]
    Unreadable {
        #[source]
        source: io::Error,
    },
    #[error("the URL cannot be reached")]
    Unreachable {
        #[source]
        source: reqwest::Error,
    },
    #[error("there was no whole answer in time")]
    TimedOut,
    #[error("the answer's status is {code}, not 200; redirects are not followed")]
    Status { code: u16 },
    #[error("the key set is longer than {MAX_SET_BYTES} bytes")]
    TooLong,
    #[error("it is not a JSON Web Key Set")]
    NotKeys {
        #[source]
        source: serde_json::Error,
    },
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    #[error(
        "the key set has no public key that signatures could be checked with: RSA from 2048 bits, P-256, P-384 or Ed25519"
    )]
    NoneFits,
}

impl KeyFault {
    pub(super) fn of_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        Self::Unreachable {
            source: error.without_url(),
        }
    }
}
