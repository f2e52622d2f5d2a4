//! What a webhook can be told.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{BadSecret, Hidden, WebhookSecret};

const DEFAULT_TIMEOUT: SignedDuration = SignedDuration::from_secs(15);
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_SECRET_FILE_BYTES: u64 = 4 * 1024;

/// A receiver of webhooks.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to send: `https`, with neither user name nor password.
    pub url: Hidden,
    /// What to sign with: `whsec_` and 24 to 64 bytes in base64.
    #[serde(default)]
    pub secret: Option<Hidden>,
    /// A file that holds the secret instead.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// During a rotation, the secret from before: everything is signed with both.
    #[serde(default)]
    pub previous_secret: Option<Hidden>,
    /// A file that holds the secret from before instead.
    #[serde(default)]
    pub previous_secret_file: Option<PathBuf>,
    /// Whether the receiver may be in our own network.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// Whether `url` may begin with `http:`; everybody on the way can then read along.
    #[serde(default)]
    pub allow_http: bool,
    /// How long to wait for an answer, the lookup of the host included: 1 to 60 seconds.
    #[serde(default = "default_timeout")]
    pub timeout: SignedDuration,
}

fn default_timeout() -> SignedDuration {
    DEFAULT_TIMEOUT
}

/// Why a webhook's configuration cannot be used. Names the key, never the value.
#[derive(Debug, thiserror::Error)]
pub enum WebhookConfigError {
    /// The URL cannot be read.
    #[error("`url` cannot be read")]
    BadUrl {
        /// Why.
        #[source]
        source: url::ParseError,
    },
    /// The URL is for something else.
    #[error("`url` begins with `https:`, or with `http:` if `allow_http` is true")]
    Scheme,
    /// The URL holds a user name or a password.
    #[error("`url` holds a user name or a password; the signature tells the receiver who sent it")]
    Credentials,
    /// The URL names port 0.
    #[error("`url` names port 0")]
    PortZero,
    /// There is no secret.
    #[error("`secret` or `secret_file` is missing")]
    NoSecret,
    /// A secret is given twice.
    #[error("`{key}` and `{key}_file` exclude each other")]
    TwoSecrets {
        /// The key of the one that is not in a file.
        key: &'static str,
    },
    /// A secret's file cannot be read.
    #[error("`{key}_file` cannot be read")]
    UnreadableSecret {
        /// The secret's key.
        key: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A secret has not the form of one.
    #[error("`{key}` is not a secret")]
    BadSecret {
        /// The secret's key.
        key: &'static str,
        /// Why.
        #[source]
        source: BadSecret,
    },
    /// The timeout is too short or too long.
    #[error("`timeout` is not between 1 and 60 seconds")]
    Timeout,
    /// The system's root certificates cannot be used.
    #[error("the system's root certificates cannot be used, which an `https:` `url` needs")]
    NoRootCertificates {
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl WebhookConfig {
    /// Where to send.
    pub(super) fn parse_url(&self) -> Result<Url, WebhookConfigError> {
        let url = Url::parse(self.url.reveal())
            .map_err(|source| WebhookConfigError::BadUrl { source })?;
        if url.scheme() != "https" && !(self.allow_http && url.scheme() == "http") {
            return Err(WebhookConfigError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookConfigError::Credentials);
        }
        if url.port() == Some(0) {
            return Err(WebhookConfigError::PortZero);
        }
        Ok(url)
    }

    /// What to sign with: one secret, or two during a rotation.
    pub(super) fn read_secrets(&self) -> Result<Vec<WebhookSecret>, WebhookConfigError> {
        let current = read_secret("secret", self.secret.as_ref(), self.secret_file.as_deref())?;
        let previous = read_secret(
            "previous_secret",
            self.previous_secret.as_ref(),
            self.previous_secret_file.as_deref(),
        )?;
        let current = current.ok_or(WebhookConfigError::NoSecret)?;
        Ok(std::iter::once(current).chain(previous).collect())
    }

    /// How long to wait.
    pub(super) fn check_timeout(&self) -> Result<Duration, WebhookConfigError> {
        Duration::try_from(self.timeout)
            .ok()
            .filter(|timeout| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(timeout))
            .ok_or(WebhookConfigError::Timeout)
    }
}

/// The secret that is given as `text` or in `file`; none if there is neither.
fn read_secret(
    key: &'static str,
    text: Option<&Hidden>,
    file: Option<&Path>,
) -> Result<Option<WebhookSecret>, WebhookConfigError> {
    let text = match (text, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(WebhookConfigError::TwoSecrets { key }),
        (Some(text), None) => text.clone(),
        (None, Some(file)) => read_secret_file(file)
            .map_err(|source| WebhookConfigError::UnreadableSecret { key, source })?,
    };
    WebhookSecret::parse(text.reveal())
        .map(Some)
        .map_err(|source| WebhookConfigError::BadSecret { key, source })
}

fn read_secret_file(path: &Path) -> io::Result<Hidden> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_SECRET_FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(Hidden::from(text.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn config(changes: &Value) -> WebhookConfig {
        let mut config = json!({"url": "https://hooks.example/x?token=t0ken", "secret": SECRET});
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        serde_json::from_value(config).unwrap()
    }

    fn check_url(url: &str, allow_http: bool, expected: &str) {
        let config = config(&json!({"url": url, "allow_http": allow_http}));
        let found = match config.parse_url() {
            Ok(url) => url.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(found.starts_with(expected), "{url}: {found}");
    }

    #[test]
    fn a_url_that_could_mean_something_else_is_refused() {
        check_url("https://hooks.example/x", false, "https://hooks.example/x");
        check_url("http://hooks.example/x", true, "http://hooks.example/x");
        check_url("http://0x7f.1/", true, "http://127.0.0.1/");
        check_url("http://hooks.example/x", false, "`url` begins with");
        check_url("ftp://hooks.example/x", true, "`url` begins with");
        check_url("file:///etc/passwd", true, "`url` begins with");
        check_url("https://user@hooks.example/", false, "`url` holds a user");
        check_url("https://:word@hooks.example/", false, "`url` holds a user");
        check_url("https://hooks.example:0/", false, "`url` names port 0");
        check_url("hooks.example", false, "`url` cannot be read");
        check_url("https://", false, "`url` cannot be read");
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
        let path = file.path().to_str().unwrap();
        for (changes, expected) in [
            (json!({}), Ok(1)),
            (json!({"previous_secret": SECRET}), Ok(2)),
            (json!({"secret": null, "secret_file": path}), Ok(1)),
            (json!({"previous_secret_file": path}), Ok(2)),
            (
                json!({"secret": null}),
                Err("`secret` or `secret_file` is missing"),
            ),
            (
                json!({"secret_file": path}),
                Err("`secret` and `secret_file` exclude each other"),
            ),
            (
                json!({"secret": null, "secret_file": "/nowhere"}),
                Err("`secret_file` cannot be read"),
            ),
            (
                json!({"previous_secret": "x"}),
                Err("`previous_secret` is not a secret"),
            ),
        ] {
            let found = config(&changes).read_secrets();
            let found = found.map(|secrets| secrets.len());
            assert_eq!(
                found.map_err(|error| error.to_string()),
                expected.map_err(str::to_owned),
                "{changes}"
            );
        }
    }

    #[test]
    fn a_timeout_has_its_limits() {
        let check = |timeout: &str, is_right: bool| {
            let config = config(&json!({ "timeout": timeout }));
            assert_eq!(config.check_timeout().is_ok(), is_right, "{timeout}");
        };
        check("1s", true);
        check("60s", true);
        check("0s", false);
        check("61s", false);
        check("-15s", false);
        assert_eq!(config(&json!({})).timeout, SignedDuration::from_secs(15));
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it() {
        let text = r#"{"url": "https://hooks.example", "allow_private": true}"#;
        let error = serde_json::from_str::<WebhookConfig>(text).unwrap_err();
        assert!(error.to_string().contains("`allow_private`"));
    }

    #[test]
    fn neither_secrets_nor_the_url_are_written() {
        let config = config(&json!({"previous_secret": SECRET}));
        let written = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
        assert!(!written.contains("MfKQ"), "{written}");
        assert!(!written.contains("t0ken"), "{written}");
    }
}
