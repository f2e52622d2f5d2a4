//! Whose tokens are believed, and how far.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::Algorithm;

const DEFAULT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const DEFAULT_TYPES: [&str; 2] = ["at+jwt", "JWT"];

/// Whose tokens are believed, and how far.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// What the configuration calls it.
    pub name: String,
    /// The tokens' `iss`, letter by letter.
    pub issuer: String,
    /// The tokens' `aud`; one of them is enough.
    pub audiences: Vec<String>,
    /// How it may sign.
    pub algorithms: Vec<Algorithm>,
    /// Where its public keys are: a JSON Web Key Set.
    pub keys: KeyPlace,
    /// The tokens' `typ`, in any case and with or without `application/`. A token without `typ` counts as a `JWT`.
    pub types: Vec<String>,
    /// How long a token can be valid in all, from `iat`, or from now if it has none.
    pub max_age: Duration,
    /// The claim that names whom the token speaks for.
    pub subject_claim: String,
    /// The claim that holds roles, as one text or a list: a name, or a path with dots into nested claims. Of `scope` and `scp`, a
    /// text is a list with spaces.
    pub roles_claim: Option<String>,
}

/// Where an issuer's public keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file, which is looked at every 10 seconds.
    File(PathBuf),
    /// At an `https` address, or `http` on loopback, which is asked every 5 minutes.
    Url(Url),
}

impl IssuerSettings {
    /// Checks settings one by one and against each other.
    ///
    /// # Errors
    /// [`SettingsError`] for the first that cannot be used.
    pub fn check_all(all: &[Self]) -> Result<(), SettingsError> {
        check_all(all)
    }

    /// Settings with every algorithm, the types `at+jwt` and `JWT`, a day as the longest validity, `sub` as subject and no roles.
    pub fn new(
        name: impl Into<String>,
        issuer: impl Into<String>,
        audiences: Vec<String>,
        keys: KeyPlace,
    ) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audiences,
            algorithms: Algorithm::ALL.to_vec(),
            keys,
            types: DEFAULT_TYPES.map(str::to_owned).to_vec(),
            max_age: DEFAULT_MAX_AGE,
            subject_claim: "sub".to_owned(),
            roles_claim: None,
        }
    }

    /// Whether a token with this `typ` is one of the issuer's access tokens.
    pub(super) fn accepts_type(&self, found: Option<&str>) -> bool {
        let found = plain_type(found.unwrap_or("JWT"));
        self.types.iter().any(|known| plain_type(known) == found)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let missing = |key| SettingsError::Missing {
            name: self.name.clone(),
            key,
        };
        let has_empty = |texts: &[String]| texts.is_empty() || texts.iter().any(String::is_empty);
        if self.issuer.is_empty() {
            return Err(missing("issuer"));
        }
        if has_empty(&self.audiences) {
            return Err(missing("audiences"));
        }
        if self.algorithms.is_empty() {
            return Err(missing("algorithms"));
        }
        if has_empty(&self.types) {
            return Err(missing("types"));
        }
        if self.max_age.is_zero() {
            return Err(missing("max_age"));
        }
        if self.subject_claim.is_empty() {
            return Err(missing("subject_claim"));
        }
        if self.roles_claim.as_deref() == Some("") {
            return Err(missing("roles_claim"));
        }
        match &self.keys {
            KeyPlace::Url(url) if !is_fit(url) => Err(SettingsError::BadUrl {
                name: self.name.clone(),
            }),
            KeyPlace::Url(_) | KeyPlace::File(_) => Ok(()),
        }
    }
}

/// Why tokens cannot be verified with these settings. Names what the configuration calls the issuer, and the key.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting is empty.
    #[error("the token issuer `{name}` has an empty `{key}`")]
    Missing {
        /// The issuer.
        name: String,
        /// The setting.
        key: &'static str,
    },
    /// The keys would come from where others could change them on the way.
    #[error(
        "the token issuer `{name}` has keys at a URL that is not `https`, or `http` on loopback, or that has a user name, a password or a fragment"
    )]
    BadUrl {
        /// The issuer.
        name: String,
    },
    /// Two issuers have one name.
    #[error("two token issuers are called `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// A token could be read in two ways.
    #[error(
        "the token issuers `{first}` and `{second}` have the same `issuer`, so their `audiences` must differ: both have `{audience}`"
    )]
    SharedAudience {
        /// One of the two.
        first: String,
        /// The other.
        second: String,
        /// What they share.
        audience: String,
    },
    /// Keys cannot be fetched safely.
    #[error("the system's root certificates cannot be used, which the token issuer `{name}` needs")]
    NoRootCertificates {
        /// The issuer.
        name: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The HTTP client cannot be made.
    #[error("keys of the token issuer `{name}` cannot be fetched")]
    NoClient {
        /// The issuer.
        name: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Another part of the process has decided how signatures are checked.
    #[error("another part of this process has set how token signatures are checked")]
    OtherCryptography,
}

/// Checks the settings one by one and against each other.
pub(super) fn check_all(all: &[IssuerSettings]) -> Result<(), SettingsError> {
    let mut names = HashSet::new();
    for (at, settings) in all.iter().enumerate() {
        settings.check()?;
        if !names.insert(&settings.name) {
            return Err(SettingsError::SameName {
                name: settings.name.clone(),
            });
        }
        for earlier in all.iter().take(at) {
            check_pair(earlier, settings)?;
        }
    }
    Ok(())
}

fn check_pair(first: &IssuerSettings, second: &IssuerSettings) -> Result<(), SettingsError> {
    let mut audiences = first.audiences.iter();
    let shared = audiences.find(|audience| second.audiences.contains(audience));
    match shared {
        Some(audience) if first.issuer == second.issuer => Err(SettingsError::SharedAudience {
            first: first.name.clone(),
            second: second.name.clone(),
            audience: audience.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Whether what comes from there is what was put there.
fn is_fit(url: &Url) -> bool {
    let is_safe = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(url),
        _ => false,
    };
    let has_more =
        !url.username().is_empty() || url.password().is_some() || url.fragment().is_some();
    is_safe && !has_more && url.port() != Some(0)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn plain_type(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("application/")
        .map_or_else(|| name.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str) -> IssuerSettings {
        let keys = KeyPlace::File("keys.json".into());
        IssuerSettings::new(name, "https://issuer.example", vec!["us".to_owned()], keys)
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let other_audience = IssuerSettings {
            audiences: vec!["them".to_owned()],
            ..settings("b")
        };
        let other_issuer = IssuerSettings {
            issuer: "https://other.example".to_owned(),
            ..settings("b")
        };
        assert!(check_all(&[settings("a"), other_audience]).is_ok());
        assert!(check_all(&[settings("a"), other_issuer]).is_ok());
        let error = check_all(&[settings("a"), settings("b")]).unwrap_err();
        assert!(error.to_string().contains("both have `us`"), "{error}");
        let error = check_all(&[settings("a"), settings("a")]).unwrap_err();
        assert!(matches!(error, SettingsError::SameName { .. }));
    }

    #[test]
    fn empty_settings_are_refused_by_name() {
        let check = |key: &str, change: fn(&mut IssuerSettings)| {
            let mut settings = settings("main");
            change(&mut settings);
            let error = check_all(&[settings]).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("the token issuer `main` has an empty `{key}`")
            );
        };
        check("issuer", |settings| settings.issuer.clear());
        check("audiences", |settings| settings.audiences.clear());
        check("audiences", |settings| {
            settings.audiences.push(String::new());
        });
        check("algorithms", |settings| settings.algorithms.clear());
        check("types", |settings| settings.types.clear());
        check("max_age", |settings| settings.max_age = Duration::ZERO);
        check("subject_claim", |settings| settings.subject_claim.clear());
        check("roles_claim", |settings| {
            settings.roles_claim = Some(String::new());
        });
    }

    #[test]
    fn keys_come_over_https_or_from_loopback() {
        let check = |url: &str, is_right: bool| {
            let mut settings = settings("main");
            settings.keys = KeyPlace::Url(Url::parse(url).unwrap());
            assert_eq!(check_all(&[settings]).is_ok(), is_right, "{url}");
        };
        check("https://issuer.example/jwks?app=1", true);
        check("http://127.0.0.1:8080/jwks", true);
        check("http://[::1]/jwks", true);
        check("http://localhost/jwks", true);
        check("http://issuer.example/jwks", false);
        check("http://localhost.example/jwks", false);
        check("http://0.0.0.0/jwks", false);
        check("ftp://issuer.example/jwks", false);
        check("https://me:word@issuer.example/jwks", false);
        check("https://issuer.example/jwks#x", false);
        check("https://issuer.example:0/jwks", false);
    }

    #[test]
    fn types_are_compared_as_media_types_are() {
        let settings = settings("main");
        for (found, is_right) in [
            (None, true),
            (Some("JWT"), true),
            (Some("jwt"), true),
            (Some("at+jwt"), true),
            (Some("application/AT+JWT"), true),
            (Some("dpop+jwt"), false),
            (Some("logout+jwt"), false),
            (Some(""), false),
            (Some("application/application/jwt"), false),
        ] {
            assert_eq!(settings.accepts_type(found), is_right, "{found:?}");
        }
        let strict = IssuerSettings {
            types: vec!["at+jwt".to_owned()],
            ..settings
        };
        assert!(!strict.accepts_type(None));
        assert!(!strict.accepts_type(Some("JWT")));
    }
}
