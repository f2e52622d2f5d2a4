//! Signatures of Standard Webhooks 1.0.0: `v1`, HMAC-SHA256.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
const MIN_BYTES: usize = 24;
const MAX_BYTES: usize = 64;

/// A secret that sender and receiver share: `whsec_` and 24 to 64 bytes in base64.
#[derive(Clone)]
pub struct WebhookSecret(Hmac<Sha256>);

/// Why a text is no secret. Tells nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// It does not begin as secrets do.
    #[error("a secret begins with `whsec_`")]
    NoPrefix,
    /// What follows is not base64.
    #[error("what follows `whsec_` is not base64 with its padding")]
    NotBase64,
    /// It is too short to be safe, or too long to be meant.
    #[error("a secret has 24 to 64 bytes, not {bytes}")]
    Length {
        /// How many it has.
        bytes: usize,
    },
}

impl WebhookSecret {
    /// Reads a secret.
    ///
    /// # Errors
    /// [`BadSecret`] when it is not of the form above.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(BadSecret::NoPrefix)?;
        let key = STANDARD.decode(encoded).map_err(|_| BadSecret::NotBase64)?;
        let wrong_length = BadSecret::Length { bytes: key.len() };
        if !(MIN_BYTES..=MAX_BYTES).contains(&key.len()) {
            return Err(wrong_length);
        }
        Hmac::new_from_slice(&key)
            .map(Self)
            .map_err(|_| wrong_length)
    }

    /// Signs the exact bytes of `body`: `v1,` and the HMAC of `id.timestamp.body` in base64. The time is in Unix seconds.
    pub fn sign(&self, id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp_seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_vector_is_met() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_has_its_form() {
        let of_length = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        let check = |text: &str, expected: Option<BadSecret>| {
            assert_eq!(WebhookSecret::parse(text).err(), expected, "{text}");
        };
        check(&of_length(24), None);
        check(&of_length(64), None);
        check(&of_length(23), Some(BadSecret::Length { bytes: 23 }));
        check(&of_length(65), Some(BadSecret::Length { bytes: 65 }));
        check("whsec_", Some(BadSecret::Length { bytes: 0 }));
        check(
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            Some(BadSecret::NoPrefix),
        );
        check(
            "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            Some(BadSecret::NoPrefix),
        );
        check(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
            Some(BadSecret::NotBase64),
        );
        check(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
            Some(BadSecret::NotBase64),
        );
    }
}
