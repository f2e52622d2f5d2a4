//! An issuer's public keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::Algorithm;
use super::algorithm::KeyKind;
use super::key_fault::KeyFault;

/// The longest key set.
pub(super) const MAX_SET_BYTES: usize = 256 * 1024;
/// The most keys in a set, those that do not fit included.
pub(super) const MAX_KEYS: usize = 100;
/// How long an RSA modulus is, in bytes: from 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Tells keys apart by everything that decides what they can be used for.
pub(super) type Fingerprint = [u8; 32];

/// A public key that signatures can be checked with.
#[derive(Clone, Debug)]
pub(super) struct SigningKey {
    pub(super) fingerprint: Fingerprint,
    pub(super) key: DecodingKey,
    id: Option<String>,
    kind: KeyKind,
    /// The only algorithm that the key may be used with, if it says so.
    algorithm: Option<Algorithm>,
}

impl SigningKey {
    fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.kind == algorithm.key_kind()
            && self.algorithm.is_none_or(|only| only == algorithm)
            && (id.is_none() || self.id.as_deref() == id)
    }
}

/// The one key that a token with this `kid` and `alg` can be checked with; none if there is no such key, or more than one.
pub(super) fn fitting<'a>(
    keys: &'a [SigningKey],
    id: Option<&str>,
    algorithm: Algorithm,
) -> Option<&'a SigningKey> {
    let mut fitting = keys.iter().filter(|key| key.fits(id, algorithm));
    fitting.next().filter(|_| fitting.next().is_none())
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// A key as RFC 7517 writes it. What is missing or strange in one key does not harm the others.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// There in private keys only.
    d: Option<IgnoredAny>,
}

/// Reads a JSON Web Key Set. Keys that cannot check signatures are passed over; so are private ones, which are no longer secret.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<SigningKey>, KeyFault> {
    if bytes.len() > MAX_SET_BYTES {
        return Err(KeyFault::TooLong);
    }
    let set: Jwks = serde_json::from_slice(bytes).map_err(|source| KeyFault::NotKeys { source })?;
    if set.keys.len() > MAX_KEYS {
        return Err(KeyFault::TooMany);
    }
    let is_empty = set.keys.is_empty();
    let keys: Vec<SigningKey> = set.keys.into_iter().filter_map(read_key).collect();
    // A set that was emptied on purpose takes all keys away; one of keys that none can be read of is a mistake.
    if keys.is_empty() && !is_empty {
        return Err(KeyFault::NoneFits);
    }
    Ok(keys)
}

fn read_key(value: Value) -> Option<SigningKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let is_for_checking = jwk
        .purpose
        .as_deref()
        .is_none_or(|purpose| purpose == "sig")
        && jwk
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !is_for_checking || jwk.d.is_some() {
        return None;
    }
    let algorithm = match jwk.alg.as_deref() {
        None => None,
        // The name of the same thing in RFC 9864.
        Some("Ed25519") => Some(Algorithm::EdDsa),
        Some(name) => Some(Algorithm::named(name)?),
    };
    let (kind, first, second) = read_material(&jwk)?;
    if algorithm.is_some_and(|algorithm| algorithm.key_kind() != kind) {
        return None;
    }
    let key = match kind {
        KeyKind::Rsa => DecodingKey::from_rsa_raw_components(&first, &second),
        KeyKind::P256 | KeyKind::P384 => {
            DecodingKey::from_ec_der(&[&[4], first.as_slice(), &second].concat())
        }
        KeyKind::Ed25519 => DecodingKey::from_ed_der(&first),
    };
    Some(SigningKey {
        fingerprint: fingerprint(&[
            format!("{kind:?} {algorithm:?}").as_bytes(),
            jwk.kid.as_deref().unwrap_or_default().as_bytes(),
            &first,
            &second,
        ]),
        key,
        id: jwk.kid,
        kind,
        algorithm,
    })
}

/// What sort of key it is, and the one or two numbers that it consists of.
fn read_material(jwk: &Jwk) -> Option<(KeyKind, Vec<u8>, Vec<u8>)> {
    let number = |text: Option<&String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let exactly =
        |text: Option<&String>, length: usize| number(text).filter(|number| number.len() == length);
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", None) => {
            let modulus = without_zeros(number(jwk.n.as_ref())?);
            let exponent = without_zeros(number(jwk.e.as_ref())?);
            let is_right = RSA_BYTES.contains(&modulus.len()) && (1..=5).contains(&exponent.len());
            is_right.then_some((KeyKind::Rsa, modulus, exponent))
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (exactly(jwk.x.as_ref(), 32)?, exactly(jwk.y.as_ref(), 32)?);
            Some((KeyKind::P256, x, y))
        }
        ("EC", Some("P-384")) => {
            let (x, y) = (exactly(jwk.x.as_ref(), 48)?, exactly(jwk.y.as_ref(), 48)?);
            Some((KeyKind::P384, x, y))
        }
        ("OKP", Some("Ed25519")) => {
            Some((KeyKind::Ed25519, exactly(jwk.x.as_ref(), 32)?, Vec::new()))
        }
        _ => None,
    }
}

/// The same number without the zeros that some issuers put in front.
fn without_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn b64(byte: u8, length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![byte; length])
    }

    fn p256(changes: &Value) -> Value {
        let mut key = json!({"kty": "EC", "crv": "P-256", "x": b64(1, 32), "y": b64(2, 32)});
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn set(keys: &[Value]) -> Result<Vec<SigningKey>, String> {
        let text = json!({ "keys": keys }).to_string();
        read(text.as_bytes()).map_err(|fault| fault.to_string())
    }

    fn count(key: Value) -> usize {
        set(&[key]).map_or(0, |keys| keys.len())
    }

    #[test]
    fn keys_for_signatures_are_kept_and_others_passed_over() {
        let rsa = |bytes: usize| json!({"kty": "RSA", "n": b64(0xc1, bytes), "e": "AQAB"});
        assert_eq!(count(rsa(256)), 1);
        assert_eq!(count(rsa(255)), 0);
        assert_eq!(count(rsa(1024)), 1);
        assert_eq!(count(rsa(1025)), 0);
        assert_eq!(count(p256(&json!({}))), 1);
        assert_eq!(
            count(p256(&json!({"use": "sig", "key_ops": ["verify"]}))),
            1
        );
        for changes in [
            json!({"use": "enc"}),
            json!({"key_ops": ["encrypt"]}),
            json!({"alg": "ES384"}),
            json!({"alg": "RS256"}),
            json!({"alg": "HS256"}),
            json!({"alg": "none"}),
            json!({"alg": "ECDH-ES"}),
            json!({"d": b64(3, 32)}),
            json!({"x": b64(1, 31)}),
            json!({"y": null}),
            json!({"x": "!"}),
            json!({"crv": "secp256k1"}),
            json!({"kty": "oct", "k": b64(1, 32)}),
            json!({"kid": 7}),
        ] {
            assert_eq!(count(p256(&changes)), 0, "{changes}");
        }
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(1, 32), "alg": "Ed25519"});
        assert_eq!(count(ed), 1);
        let kept = set(&[json!(1), p256(&json!({"use": "enc"})), p256(&json!({}))]);
        assert_eq!(kept.unwrap().len(), 1);
    }

    #[test]
    fn a_set_has_its_limits() {
        assert_eq!(set(&vec![p256(&json!({})); 100]).unwrap().len(), 100);
        let error = set(&vec![p256(&json!({})); 101]).unwrap_err();
        assert!(error.contains("more than 100 keys"), "{error}");
        // Emptied on purpose; what has no keys at all is something else.
        assert!(set(&[]).unwrap().is_empty());
        assert!(matches!(read(b"{}"), Err(KeyFault::NotKeys { .. })));
        let private = json!({"kty": "oct", "k": "AAAA"});
        assert!(set(&[private]).unwrap_err().contains("no public key"));
        assert!(matches!(read(b"[]"), Err(KeyFault::NotKeys { .. })));
        assert!(matches!(read(b"<html>"), Err(KeyFault::NotKeys { .. })));
        let long = vec![b' '; MAX_SET_BYTES + 1];
        assert!(matches!(read(&long), Err(KeyFault::TooLong)));
    }

    #[test]
    fn a_token_must_fit_exactly_one_key() {
        let (a, b) = (json!({"kid": "a"}), json!({"kid": "b", "alg": "ES256"}));
        let keys = set(&[p256(&a), p256(&b)]).unwrap();
        let id = |id: Option<&str>, algorithm| {
            fitting(&keys, id, algorithm).and_then(|key| key.id.clone())
        };
        assert_eq!(id(Some("a"), Algorithm::Es256).as_deref(), Some("a"));
        assert_eq!(id(Some("b"), Algorithm::Es256).as_deref(), Some("b"));
        assert_eq!(id(Some("c"), Algorithm::Es256), None);
        assert_eq!(id(Some("a"), Algorithm::Es384), None);
        assert_eq!(id(None, Algorithm::Es256), None);
        assert!(fitting(&keys[..1], None, Algorithm::Es256).is_some());
        let twins = set(&[p256(&a), p256(&a)]).unwrap();
        assert!(fitting(&twins, Some("a"), Algorithm::Es256).is_none());
    }
}
