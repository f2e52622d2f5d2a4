//! Tokens that are signed for one test.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

pub(crate) const SERVICES: &str = "https://services.example";
pub(crate) const PEOPLE: &str = "https://people.example";

/// Somebody who signs tokens.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
    }

    /// The public half, as a JWK set.
    pub(crate) fn keys(&self) -> String {
        let point = &self.0.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "alg": "ES256", "x": coded(x), "y": coded(y),
        }]})
        .to_string()
    }

    /// A token of `issuer` about `subject` that is good now, with `changes` to what it says; null takes a claim away.
    pub(crate) fn token(&self, issuer: &str, subject: &str, changes: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "k"});
        let message = unsigned(&header, issuer, subject, changes);
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", coded(signature.unwrap()))
    }
}

/// The same without a signature, under any header.
pub(crate) fn unsigned(header: &Value, issuer: &str, subject: &str, changes: &Value) -> String {
    let now = now();
    let mut claims = json!({
        "iss": issuer, "aud": "countersign", "sub": subject, "iat": now, "exp": now + 600,
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    format!(
        "{}.{}",
        coded(header.to_string()),
        coded(claims.to_string())
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "a token is good at the real time, which the server goes by"
)]
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub(crate) fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
