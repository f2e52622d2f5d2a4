//! What a token says, once its signature is right.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::actors::{self, Actor};
use super::{IssuerSettings, TokenFault};

/// How far the issuer's clock and ours may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(60);
/// The longest name of anybody, in bytes.
const MAX_NAME_BYTES: usize = 1024;
const MAX_ROLES: usize = 256;

/// What a token says, once everything about it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// What the configuration calls the issuer.
    pub issuer_name: String,
    /// The issuer: `iss`.
    pub issuer: String,
    /// Whom the token speaks for.
    pub subject: String,
    /// The subject's roles, in the token's order.
    pub roles: Vec<String>,
    /// Who acts for the subject, the present actor first; empty if it is the subject.
    pub actors: Vec<Actor>,
    /// Which client the token was issued to: `azp`, or `client_id`.
    pub client_id: Option<String>,
    /// When it ends: `exp`.
    pub expires: Timestamp,
}

impl VerifiedToken {
    /// About how much memory it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        let texts = self.roles.iter().chain([&self.subject, &self.issuer]);
        let actors = self
            .actors
            .iter()
            .map(|actor| 96 + actor.subject.len() + actor.issuer.as_ref().map_or(0, String::len));
        let texts = texts.map(|text| text.len() + 24);
        512 + texts.chain(actors).sum::<usize>()
    }
}

/// When a token counts, the clocks' difference aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    not_before: Option<Timestamp>,
    expires: Timestamp,
}

impl Validity {
    /// Whether the token counts at `now`, give or take the clocks' difference.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), TokenFault> {
        if now.duration_since(self.expires) >= SKEW {
            return Err(TokenFault::Expired);
        }
        match self.not_before {
            Some(begin) if begin.duration_since(now) > SKEW => Err(TokenFault::NotYetValid),
            Some(_) | None => Ok(()),
        }
    }
}

/// Reads the claims of a token whose signature, issuer and audience are right.
pub(super) fn read(
    claims: &Map<String, Value>,
    settings: &IssuerSettings,
    now: Timestamp,
) -> Result<(VerifiedToken, Validity), TokenFault> {
    let validity = read_validity(claims, settings.max_age, now)?;
    let token = VerifiedToken {
        issuer_name: settings.name.clone(),
        issuer: settings.issuer.clone(),
        subject: read_subject(claims, &settings.subject_claim)?,
        roles: read_roles(claims, settings.roles_claim.as_deref())?,
        actors: actors::read(claims.get("act"))?,
        client_id: read_client(claims)?,
        expires: validity.expires,
    };
    Ok((token, validity))
}

/// Whether `text` can name somebody: not empty, not too long, no control characters.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
}

fn read_validity(
    claims: &Map<String, Value>,
    max_age: Duration,
    now: Timestamp,
) -> Result<Validity, TokenFault> {
    let expires = read_time(claims, "exp")?.ok_or(TokenFault::BadClaim { claim: "exp" })?;
    let not_before = read_time(claims, "nbf")?;
    let issued = read_time(claims, "iat")?;
    let validity = Validity {
        not_before: not_before.max(issued),
        expires,
    };
    validity.check(now)?;
    let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
    if expires.duration_since(issued.unwrap_or(now)) > max_age {
        return Err(TokenFault::LivesTooLong);
    }
    Ok(validity)
}

/// Reads seconds since 1970, with or without a fraction; none if the claim is missing.
fn read_time(
    claims: &Map<String, Value>,
    claim: &'static str,
) -> Result<Option<Timestamp>, TokenFault> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let whole = value.as_i64().map(SignedDuration::from_secs);
    let since_1970 = whole.or_else(|| SignedDuration::try_from_secs_f64(value.as_f64()?).ok());
    let time = since_1970.and_then(|span| Timestamp::from_duration(span).ok());
    time.map(Some).ok_or(TokenFault::BadClaim { claim })
}

fn read_subject(claims: &Map<String, Value>, claim: &str) -> Result<String, TokenFault> {
    match claims.get(claim) {
        Some(Value::String(subject)) if is_plain(subject) => Ok(subject.clone()),
        Some(_) | None => Err(TokenFault::BadSubject),
    }
}

fn read_client(claims: &Map<String, Value>) -> Result<Option<String>, TokenFault> {
    for claim in ["azp", "client_id"] {
        match claims.get(claim) {
            None => {}
            Some(Value::String(client)) if is_plain(client) => return Ok(Some(client.clone())),
            Some(_) => return Err(TokenFault::BadClaim { claim }),
        }
    }
    Ok(None)
}

fn read_roles(claims: &Map<String, Value>, path: Option<&str>) -> Result<Vec<String>, TokenFault> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let roles: Vec<&str> = match find(claims, path) {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) if is_spaced(path) => text.split_ascii_whitespace().collect(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts.ok_or(TokenFault::BadRoles)?
        }
        Some(_) => return Err(TokenFault::BadRoles),
    };
    if roles.len() > MAX_ROLES || !roles.iter().all(|role| is_plain(role)) {
        return Err(TokenFault::BadRoles);
    }
    Ok(roles.into_iter().map(str::to_owned).collect())
}

/// Finds the claim of exactly that name, which may have dots in it, or else the one that the path with dots leads to.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_object()?.get(name))
}

/// Whether the claim is one of those whose text is a list with spaces: OAuth's scope.
fn is_spaced(path: &str) -> bool {
    matches!(path, "scope" | "scp")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn roles(claims: &Value, path: &str) -> Result<Vec<String>, TokenFault> {
        read_roles(claims.as_object().unwrap(), Some(path))
    }

    #[test]
    fn roles_are_found_by_name_or_path() {
        for (claims, path, expected) in [
            (json!({"roles": ["a", "b"]}), "roles", vec!["a", "b"]),
            (json!({"roles": "an admin"}), "roles", vec!["an admin"]),
            (json!({"scope": "a b  c"}), "scope", vec!["a", "b", "c"]),
            (json!({"scp": ["a b"]}), "scp", vec!["a b"]),
            (
                json!({"realm_access": {"roles": ["a"]}}),
                "realm_access.roles",
                vec!["a"],
            ),
            (
                json!({"https://x.example/roles": ["a"]}),
                "https://x.example/roles",
                vec!["a"],
            ),
            (json!({}), "roles", vec![]),
            (json!({"realm_access": "a"}), "realm_access.roles", vec![]),
            (json!({"roles": []}), "roles", vec![]),
        ] {
            assert_eq!(roles(&claims, path).unwrap(), expected, "{claims}");
        }
    }

    #[test]
    fn roles_in_another_form_are_a_fault() {
        let many: Vec<String> = (0..257).map(|at| at.to_string()).collect();
        for value in [
            json!(1),
            json!(null),
            json!({"a": 1}),
            json!(["a", 1]),
            json!([["a"]]),
            json!([""]),
            json!("a\0b"),
            json!(many),
        ] {
            let claims = json!({ "roles": value });
            assert_eq!(roles(&claims, "roles"), Err(TokenFault::BadRoles));
        }
    }

    #[test]
    fn times_may_have_fractions_but_must_be_numbers() {
        let check = |value: Value, expected: Option<&str>| {
            let claims = json!({ "exp": value });
            let found = read_time(claims.as_object().unwrap(), "exp");
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(found.ok().flatten(), expected, "{claims}");
        };
        check(json!(1_700_000_000), Some("2023-11-14T22:13:20Z"));
        check(json!(1_700_000_000.5), Some("2023-11-14T22:13:20.5Z"));
        check(json!(1.7e9), Some("2023-11-14T22:13:20Z"));
        check(json!(-1), Some("1969-12-31T23:59:59Z"));
        for value in [
            json!("1700000000"),
            json!(null),
            json!(1e300),
            json!(u64::MAX),
            json!(true),
        ] {
            check(value, None);
        }
    }
}
