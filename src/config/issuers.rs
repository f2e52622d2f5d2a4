//! What a server can be told about those who vouch for callers and people by tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::identity::{Algorithm, DevelopmentLogins, IssuerMeaning, IssuerSettings, KeyPlace};

use super::to_std;

/// Somebody who vouches by tokens: `[issuer.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Which `aud` its tokens must have, one of these.
    pub audiences: Vec<String>,
    /// How its tokens may be signed: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`.
    pub algorithms: Vec<String>,
    /// Where its keys are published, as a JWK set: `https`, or `http` on loopback.
    #[serde(default)]
    pub keys_url: Option<String>,
    /// The file with its keys, as a JWK set.
    #[serde(default)]
    pub keys_file: Option<PathBuf>,
    /// Which `typ` its tokens may have.
    #[serde(default = "types")]
    pub types: Vec<String>,
    /// How long its tokens may be good for.
    #[serde(default = "longest_life")]
    pub longest_life: SignedDuration,
    /// The claim that names the subject.
    #[serde(default = "subject_claim")]
    pub subject_claim: String,
    /// The claim with the roles or groups, such as `groups` or `realm_access.roles`.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// Whether its subjects are people, who may vote and read the audit log.
    #[serde(default)]
    pub people: bool,
    /// The entity type of its subjects.
    #[serde(default = "subject_type")]
    pub subject_type: String,
    /// The entity type of those who act for its subjects, where tokens say so by `act`.
    #[serde(default = "actor_type")]
    pub actor_type: String,
}

fn types() -> Vec<String> {
    ["at+jwt", "JWT"].map(str::to_owned).to_vec()
}

fn longest_life() -> SignedDuration {
    SignedDuration::from_hours(24)
}

fn subject_claim() -> String {
    "sub".to_owned()
}

fn subject_type() -> String {
    "User".to_owned()
}

fn actor_type() -> String {
    "Agent".to_owned()
}

impl IssuerConfig {
    /// How its tokens are checked.
    ///
    /// # Errors
    /// The key at fault, and why.
    pub fn settings(&self, name: &str) -> Result<IssuerSettings, (&'static str, String)> {
        let keys = match (&self.keys_url, &self.keys_file) {
            (Some(url), None) => {
                let url: Url = url
                    .parse()
                    .map_err(|error| ("keys_url", format!("`{url}` is not a URL: {error}")))?;
                KeyPlace::Url(url)
            }
            (None, Some(path)) => KeyPlace::File(path.clone()),
            (Some(_), Some(_)) | (None, None) => {
                let message = "say where the keys are, by one of `keys_url` and `keys_file`";
                return Err(("keys_url", message.to_owned()));
            }
        };
        let algorithms = self.algorithms.iter().map(|name| {
            Algorithm::named(name).ok_or_else(|| {
                let message = format!("`{name}` is not one of the algorithms with a public key, such as `RS256`, `ES256` or `EdDSA`");
                ("algorithms", message)
            })
        });
        if !self.longest_life.is_positive() {
            return Err(("longest_life", "is not longer than nothing".to_owned()));
        }
        Ok(IssuerSettings {
            name: name.to_owned(),
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            algorithms: algorithms.collect::<Result<_, _>>()?,
            keys,
            types: self.types.clone(),
            max_age: to_std(self.longest_life),
            subject_claim: self.subject_claim.clone(),
            roles_claim: self.roles_claim.clone(),
        })
    }

    /// What its tokens mean.
    pub fn meaning(&self) -> IssuerMeaning {
        IssuerMeaning {
            has_people: self.people,
            subject_type: self.subject_type.clone(),
            actor_type: self.actor_type.clone(),
        }
    }
}

/// Checks `[issuer.NAME]`, for each name.
///
/// # Errors
/// The first key with a value that cannot be used, and why.
pub(super) fn check(
    issuers: &BTreeMap<String, IssuerConfig>,
    has_development_logins: bool,
) -> Result<(), String> {
    for (name, issuer) in issuers {
        issuer
            .settings(name)
            .map_err(|(key, message)| format!("`issuer.{name}.{key}`: {message}"))?;
    }
    for (name, issuer) in issuers {
        if issuer.issuer == DevelopmentLogins::ISSUER {
            return Err(format!(
                "`issuer.{name}.issuer`: `{}` is the name of development logins",
                issuer.issuer
            ));
        }
        // Callers are named by issuer and subject, so one name must not be two.
        let other = issuers.iter().find(|(_, other)| {
            let is_same = other.issuer == issuer.issuer;
            is_same
                && (other.subject_claim != issuer.subject_claim || other.people != issuer.people)
        });
        if let Some((other, _)) = other {
            return Err(format!(
                "`issuer.{name}`: has the `issuer` of `{other}`, but not its `subject_claim` and `people`"
            ));
        }
    }
    let settings = issuers
        .iter()
        .filter_map(|(name, issuer)| issuer.settings(name).ok());
    IssuerSettings::check_all(&settings.collect::<Vec<_>>())
        .map_err(|error| format!("`issuer`: {error}"))?;
    let mut of_people = issuers.iter().filter(|(_, issuer)| issuer.people);
    // Accounts are found by subjects alone, so one subject must not be two persons.
    match (of_people.next(), of_people.next()) {
        (Some((first, _)), Some((second, _))) => Err(format!(
            "`issuer.{second}.people`: only one issuer may vouch for people, and `{first}` does"
        )),
        (Some((name, _)), None) if has_development_logins => Err(format!(
            "`issuer.{name}.people`: with `identity.development_logins` nobody else may vouch for people"
        )),
        (Some(_) | None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(toml: &str, words: &str) {
        let issuers: BTreeMap<String, IssuerConfig> = toml::from_str(toml).unwrap();
        let said = check(&issuers, false).unwrap_err();
        assert!(said.contains(words), "{said}");
    }

    const COMMON: &str = "algorithms = [\"ES256\"]\nkeys_file = \"keys.json\"\n";

    #[test]
    fn what_is_wrong_with_issuers_is_named() {
        let table = |name: &str, more: &str| format!("[{name}]\n{COMMON}{more}\n");
        let one = "issuer = \"https://a.example\"\naudiences = [\"x\"]";
        let two = "issuer = \"https://a.example\"\naudiences = [\"y\"]";
        refused(
            &table("a", "issuer = \"development\"\naudiences = [\"x\"]"),
            "name of development logins",
        );
        refused(
            &[
                table("a", one),
                table("b", &format!("{two}\npeople = true")),
            ]
            .concat(),
            "not its `subject_claim` and `people`",
        );
        refused(&[table("a", one), table("b", one)].concat(), "audience");
        refused(&format!("[a]\n{one}\nalgorithms = [\"ES256\"]"), "keys_url");
        refused(
            &format!("[a]\n{one}\nalgorithms = [\"HS256\"]\nkeys_file = \"k\""),
            "`HS256` is not one of the algorithms",
        );
        let fine = [table("a", one), table("b", two)].concat();
        let issuers: BTreeMap<String, IssuerConfig> = toml::from_str(&fine).unwrap();
        assert_eq!(check(&issuers, false), Ok(()));
    }
}
