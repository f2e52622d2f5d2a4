//! What a token says about its signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::TokenFault;

/// What a token says about its signature. Keys and addresses of keys that it may bring along are not even read.
#[derive(Debug, Deserialize)]
pub(super) struct TokenHeader {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    /// Whether there is any, be it null.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

impl TokenHeader {
    /// Reads the first of a token's three parts.
    pub(super) fn of(token: &str) -> Result<Self, TokenFault> {
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed);
        };
        let header = URL_SAFE_NO_PAD
            .decode(header)
            .map_err(|_| TokenFault::Malformed)?;
        let header: Self = serde_json::from_slice(&header).map_err(|_| TokenFault::Malformed)?;
        if header.crit {
            return Err(TokenFault::Critical);
        }
        Ok(header)
    }
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
