//! Verifies tokens, and remembers those that were right.

use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode};
use moka::sync::Cache;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::claims::{self, Validity};
use super::header::TokenHeader;
use super::issuer::{Issuer, KeySet};
use super::key_set::{Fingerprint, SigningKey, fitting};
use super::settings::check_all;
use super::signature;
use super::{
    Algorithm, IssuerSettings, IssuerSigns, KeyFetcher, SettingsError, TokenFault, VerifiedToken,
};

const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How much memory remembered tokens take, about.
const MAX_REMEMBERED_BYTES: u64 = 32 * 1024 * 1024;

/// Verifies tokens, and remembers those that were right.
pub struct Tokens {
    issuers: Vec<Issuer>,
    fetcher: KeyFetcher,
    /// By the SHA-256 of the whole token.
    remembered: Cache<[u8; 32], Arc<Remembered>>,
}

/// A token that was right, and what it depends on.
struct Remembered {
    token: Arc<VerifiedToken>,
    validity: Validity,
    issuer: usize,
    epoch: u64,
    key: Fingerprint,
}

/// Whom a token says it is from and for, before anything of that is believed.
#[derive(Deserialize)]
struct Addressed {
    iss: Option<Value>,
    aud: Option<Value>,
}

impl Tokens {
    /// Believes the issuers in `settings`. Knows no keys before [`Tokens::keep_fresh`] runs.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that cannot be used.
    pub fn new(settings: Vec<IssuerSettings>, fetcher: KeyFetcher) -> Result<Self, SettingsError> {
        check_all(&settings)?;
        if !signature::install() {
            return Err(SettingsError::OtherCryptography);
        }
        let issuer = |settings: IssuerSettings| {
            let source = fetcher.source(&settings)?;
            Ok(Issuer::new(settings, source))
        };
        let issuers = settings.into_iter().map(issuer);
        Ok(Self {
            issuers: issuers.collect::<Result<_, SettingsError>>()?,
            fetcher,
            remembered: Cache::builder()
                .max_capacity(MAX_REMEMBERED_BYTES)
                .weigher(|_, known: &Arc<Remembered>| {
                    u32::try_from(known.token.weight()).unwrap_or(u32::MAX)
                })
                .build(),
        })
    }

    /// What `token` says, at once, if it was verified before and still counts: it has not ended, and its issuer still has the key.
    pub fn known(&self, token: &str, now: Timestamp) -> Option<Arc<VerifiedToken>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let known = self.remembered.get(&digest_of(token))?;
        let keys = self.issuers.get(known.issuer)?.keys(now)?;
        let has_key =
            keys.epoch == known.epoch || keys.keys.iter().any(|key| key.fingerprint == known.key);
        let counts = has_key && known.validity.check(now).is_ok();
        counts.then(|| Arc::clone(&known.token))
    }

    /// Verifies `token` in full. If its key is unknown, waits for its issuer's keys: some seconds at most.
    ///
    /// # Errors
    /// [`TokenFault`]: the token names nobody, or nobody can tell.
    pub async fn verify(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<VerifiedToken>, TokenFault> {
        if let Some(known) = self.known(token, now) {
            return Ok(known);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong);
        }
        let header = TokenHeader::of(token)?;
        let algorithm = Algorithm::named(&header.alg).ok_or(TokenFault::AlgorithmNotAllowed)?;
        let addressed: Addressed =
            insecure_decode_claims(token).map_err(|_| TokenFault::Malformed)?;
        let (at, issuer) = self.addressed_issuer(&addressed)?;
        if !issuer.settings.algorithms.contains(&algorithm) {
            return Err(TokenFault::AlgorithmNotAllowed);
        }
        if !issuer.settings.accepts_type(header.typ.as_deref()) {
            return Err(TokenFault::WrongType);
        }
        let (keys, key) = find_key(issuer, &header, algorithm, now).await?;
        let claims = check_signature(token, &key, algorithm)?;
        let (verified, validity) = claims::read(&claims, &issuer.settings, now)?;
        let verified = Arc::new(verified);
        let remembered = Remembered {
            token: Arc::clone(&verified),
            validity,
            issuer: at,
            epoch: keys.epoch,
            key: key.fingerprint,
        };
        self.remembered
            .insert(digest_of(token), Arc::new(remembered));
        Ok(verified)
    }

    /// Keeps every issuer's keys fresh, until `stop`: fetches them now, every 5 minutes, when a token has an unknown key (every 30
    /// seconds at most), and at [`Tokens::reload`]. To be run once, by the server, beside the calls.
    pub async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        let clock = self.fetcher.clock();
        let all = self.issuers.iter().map(|issuer| issuer.keep_fresh(clock));
        stop.run_until_cancelled(join_all(all)).await;
    }

    /// Has all keys fetched, and returns when that was tried; how it went is in the log and in [`Tokens::signs`].
    pub async fn reload(&self) {
        join_all(self.issuers.iter().map(Issuer::reload)).await;
    }

    /// How the issuers' keys are doing, in the order of the settings.
    pub fn signs(&self) -> Vec<IssuerSigns> {
        self.issuers.iter().map(Issuer::signs).collect()
    }

    /// The one issuer whose token this would be, and its place.
    fn addressed_issuer(&self, addressed: &Addressed) -> Result<(usize, &Issuer), TokenFault> {
        let Some(Value::String(from)) = &addressed.iss else {
            return Err(TokenFault::BadClaim { claim: "iss" });
        };
        let audiences = read_audiences(addressed.aud.as_ref())?;
        let all = self.issuers.iter().enumerate();
        let mut senders = all
            .filter(|(_, issuer)| issuer.settings.issuer == *from)
            .peekable();
        if senders.peek().is_none() {
            return Err(TokenFault::UnknownIssuer);
        }
        let mut meant = senders.filter(|(_, issuer)| {
            let ours = &issuer.settings.audiences;
            ours.iter().any(|ours| audiences.contains(&ours.as_str()))
        });
        match (meant.next(), meant.next()) {
            (None, _) => Err(TokenFault::WrongAudience),
            (Some(issuer), None) => Ok(issuer),
            (Some(_), Some(_)) => Err(TokenFault::SeveralAudiences),
        }
    }
}

impl fmt::Debug for Tokens {
    /// Leaves out what is remembered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuers", &self.issuers)
            .finish_non_exhaustive()
    }
}

fn read_audiences(aud: Option<&Value>) -> Result<Vec<&str>, TokenFault> {
    let audiences = match aud {
        Some(Value::String(audience)) => Some(vec![audience.as_str()]),
        Some(Value::Array(audiences)) => audiences.iter().map(Value::as_str).collect(),
        Some(_) | None => None,
    };
    audiences.ok_or(TokenFault::BadClaim { claim: "aud" })
}

/// The key that the token must be signed with; asks for other keys once if it is not there.
async fn find_key(
    issuer: &Issuer,
    header: &TokenHeader,
    algorithm: Algorithm,
    now: Timestamp,
) -> Result<(Arc<KeySet>, SigningKey), TokenFault> {
    let find = || {
        let keys = issuer.keys(now)?;
        let key = fitting(&keys.keys, header.kid.as_deref(), algorithm)?.clone();
        Some((keys, key))
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    issuer.ask_for_other_keys().await;
    find().ok_or_else(|| match issuer.keys(now) {
        Some(_) => TokenFault::UnknownKey,
        None => TokenFault::KeysUnavailable,
    })
}

/// The claims, if `key` signed them.
fn check_signature(
    token: &str,
    key: &SigningKey,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, TokenFault> {
    let mut validation = Validation::new(algorithm.of_library());
    // The library would ask the system for the time; claims are checked by our own clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = decode(token, &key.key, &validation);
    decoded.map(|decoded| decoded.claims).map_err(|error| {
        if matches!(error.kind(), ErrorKind::InvalidSignature) {
            TokenFault::BadSignature
        } else {
            TokenFault::Malformed
        }
    })
}

fn digest_of(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod fetch_tests;
