//! Configuration: one TOML file, `COUNTERSIGN_SECTION__KEY` above it, flags above both.
//!
//! Place: floor 4; gathers what each part can be told.
//! Never: a key that is read but not known: a misspelt key is an error that names it.

mod approvals;
mod audit;
mod callers;
mod issuers;
mod limits;
mod server;
mod telemetry;
mod tls;
mod witness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::model::{Posture, ValidationMode};

pub use approvals::{ApprovalsConfig, ChannelsConfig, StoreChoice};
pub use audit::{AuditConfig, FailureChoice};
pub use callers::{CallerConfig, IdentityConfig};
pub use issuers::IssuerConfig;
pub use limits::LimitsConfig;
pub use server::ServerConfig;
pub use telemetry::TelemetryConfig;
pub use tls::{ClientCertificateChoice, TlsConfig};
pub use witness::WitnessConfig;

/// What is said of a duration that is none.
const NOTHING: &str = "is not longer than nothing";
const ENV_PREFIX: &str = "COUNTERSIGN_";
/// What commands that call a server read from the environment; no key of a server.
const CLIENT_VARIABLES: [&str; 6] = [
    "COUNTERSIGN_SERVER",
    "COUNTERSIGN_LOGIN",
    "COUNTERSIGN_TOKEN_FILE",
    "COUNTERSIGN_TLS_CA",
    "COUNTERSIGN_TLS_CERTIFICATE",
    "COUNTERSIGN_TLS_KEY",
];

/// Everything a server can be told.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How to serve.
    pub server: ServerConfig,
    /// What decides.
    pub policy: PolicyConfig,
    /// What waits for humans.
    pub approvals: ApprovalsConfig,
    /// What is recorded.
    pub audit: AuditConfig,
    /// Where people are told of it.
    pub channels: ChannelsConfig,
    /// How connections are encrypted, and who may connect.
    pub tls: TlsConfig,
    /// Who callers and people are.
    pub identity: IdentityConfig,
    /// Who vouches for them by tokens.
    pub issuer: BTreeMap<String, IssuerConfig>,
    /// What callers may do.
    pub caller: BTreeMap<String, CallerConfig>,
    /// How much callers may take of the server.
    pub limits: LimitsConfig,
    /// What is told of it to others.
    pub telemetry: TelemetryConfig,
    /// What is written about it.
    pub log: LogConfig,
}

/// What decides.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// The policy directory.
    pub dir: PathBuf,
    /// `strict`, `warn` or `off`: how policies are checked against the schema.
    pub validation: String,
    /// `strict` or `cedar`: what becomes of policies that cannot be evaluated and of entities that are missing.
    pub posture: String,
    /// The entity types of the people who review.
    pub reviewer_types: Vec<String>,
    /// The attributes that name the owners of an agent.
    pub owner_attributes: Vec<String>,
    /// The attributes by which an account names other accounts of the same person.
    pub link_attributes: Vec<String>,
    /// How often the directory is read again even if nothing tells of a change.
    pub rescan_interval: SignedDuration,
    /// Bytes of kept decisions.
    pub cache_bytes: u64,
    /// How many of the most used decisions are made again before new policies come into force.
    pub warm_up: usize,
    /// One in how many evaluations is checked against Cedar's own; 0 for none.
    pub shadow_one_in: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("policies"),
            validation: "strict".to_owned(),
            posture: "strict".to_owned(),
            reviewer_types: vec!["User".to_owned()],
            owner_attributes: vec!["owner".to_owned(), "owners".to_owned()],
            link_attributes: vec!["same_person_as".to_owned()],
            rescan_interval: SignedDuration::from_secs(30),
            cache_bytes: 64 * 1024 * 1024,
            warm_up: 10_000,
            shadow_one_in: 4_096,
        }
    }
}

/// What is written about it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: String,
    /// Which events: a level, or `target=level` pairs separated by commas.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: "text".to_owned(),
            filter: "info".to_owned(),
        }
    }
}

/// A key with a value that cannot be used, and why.
type Fault = (&'static str, String);

impl PolicyConfig {
    fn fault(&self) -> Option<Fault> {
        if let Err(error) = self.validation.parse::<ValidationMode>() {
            return Some(("policy.validation", error.to_string()));
        }
        if let Err(error) = self.posture.parse::<Posture>() {
            return Some(("policy.posture", error.to_string()));
        }
        let is_long = self.rescan_interval.is_positive();
        (!is_long).then(|| ("policy.rescan_interval", NOTHING.to_owned()))
    }
}

impl LogConfig {
    fn fault(&self) -> Option<Fault> {
        if self.format != "text" && self.format != "json" {
            let message = format!("`{}` is not one of `text`, `json`", self.format);
            return Some(("log.format", message));
        }
        let error = EnvFilter::try_new(&self.filter).err()?;
        let message = format!("`{}` is not a filter: {error}", self.filter);
        Some(("log.filter", message))
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file `{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration file `{path}` is not right: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A variable or the whole has a key or value it should not have.
    #[error("the configuration is not right: {0}")]
    Invalid(String),
}

impl Config {
    /// Reads `file`, if one is given, and lays the `COUNTERSIGN_…` variables of `env` above it.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, or a value of the wrong kind.
    pub fn load(file: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => read_table(path)?,
            None => toml::Table::new(),
        };
        let is_key = |name: &str| name.starts_with(ENV_PREFIX) && !CLIENT_VARIABLES.contains(&name);
        for (name, value) in env.iter().filter(|(name, _)| is_key(name)) {
            overlay(&mut table, name, value)?;
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            ConfigError::Invalid(error.to_string().trim_end().to_owned())
        })?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first key with a value that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        let faults = [
            self.policy.fault(),
            self.log.fault(),
            self.approvals.fault(),
            self.audit.check().err(),
            self.tls.files().err(),
            self.limits.fault(),
            self.telemetry.fault(),
            self.server.fault(self.identity.development_logins),
        ];
        if let Some((key, message)) = faults.into_iter().flatten().next() {
            return Err(ConfigError::Invalid(format!("`{key}`: {message}")));
        }
        self.check_ways_in().map_err(ConfigError::Invalid)?;
        issuers::check(&self.issuer, self.identity.development_logins)
            .and_then(|()| callers::check(&self.caller, &self.issuer))
            .map_err(ConfigError::Invalid)
    }

    /// Checks that callers who are bound can show what they are known by.
    fn check_ways_in(&self) -> Result<(), String> {
        let has_certificates = self.tls.client_ca.is_some();
        for (name, caller) in &self.caller {
            if caller.spiffe.is_some() && !has_certificates {
                return Err(format!(
                    "`caller.{name}.spiffe`: no client can show a certificate without `tls.client_ca`"
                ));
            }
            if caller.unix_user.is_some() && self.server.unix.is_none() {
                return Err(format!(
                    "`caller.{name}.unix_user`: there is no socket to come by without `server.unix`"
                ));
            }
        }
        Ok(())
    }

    /// Checks that a server with this configuration would let somebody in.
    ///
    /// # Errors
    /// When it would not.
    pub fn check_callers(&self) -> Result<(), ConfigError> {
        let identity = &self.identity;
        let is_somebody = identity.unauthenticated_callers || identity.development_logins;
        if is_somebody || !self.caller.is_empty() {
            return Ok(());
        }
        let message = "nobody may call: add a `[caller.NAME]` for each caller, or set `identity.unauthenticated_callers = true` to let everybody who reaches the server call everything";
        Err(ConfigError::Invalid(message.to_owned()))
    }

    /// The configuration as TOML, for `serve --check-config`.
    ///
    /// # Errors
    /// Never, unless a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Invalid(error.to_string()))
    }
}

/// A configured duration; `check` has made sure that it is positive.
pub fn to_std(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

fn read_table(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let malformed = |error: toml::de::Error| ConfigError::Malformed {
        path: path.to_owned(),
        message: placed(&text, &error),
    };
    // Read as the real thing first: its errors know the place.
    toml::from_str::<Config>(&text).map_err(malformed)?;
    toml::from_str(&text).map_err(malformed)
}

/// What is wrong and where. The line itself is not shown: it may hold a secret.
fn placed(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else {
        return error.message().to_owned();
    };
    let line = before.matches('\n').count().saturating_add(1);
    let column = before
        .chars()
        .rev()
        .take_while(|c| *c != '\n')
        .count()
        .saturating_add(1);
    format!("line {line}, column {column}: {}", error.message())
}

/// Sets the key that `name` stands for: `COUNTERSIGN_SERVER__THREADS` is `server.threads`.
fn overlay(table: &mut toml::Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let wrong = || {
        let message = format!(
            "`{name}` names no key: write `{ENV_PREFIX}SECTION__KEY`, such as `{ENV_PREFIX}SERVER__THREADS`"
        );
        ConfigError::Invalid(message)
    };
    let path = name
        .strip_prefix(ENV_PREFIX)
        .ok_or_else(wrong)?
        .to_lowercase();
    let (section, key) = path
        .split_once("__")
        .filter(|(_, key)| !key.contains("__"))
        .ok_or_else(wrong)?;
    let section = table
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        .as_table_mut()
        .ok_or_else(wrong)?;
    // What reads as TOML is taken as TOML, so that numbers and lists can be set; anything else is a text.
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
    let parsed = parsed.and_then(|mut table| table.remove("value"));
    section.insert(
        key.to_owned(),
        parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn variables_lie_above_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "[server]\nthreads = 3\nmax_connections = 7\n").unwrap();
        let config = Config::load(
            Some(&file),
            &env(&[
                ("COUNTERSIGN_SERVER__THREADS", "5"),
                ("COUNTERSIGN_SERVER__LISTEN", "[\"0.0.0.0:1\"]"),
                ("COUNTERSIGN_POLICY__DIR", "/etc/p"),
                ("COUNTERSIGN_POLICY__RESCAN_INTERVAL", "5s"),
            ]),
        )
        .unwrap();
        assert_eq!(
            (config.server.threads, config.server.max_connections),
            (5, 7)
        );
        assert_eq!(config.server.listen[0].to_string(), "0.0.0.0:1");
        assert_eq!(config.policy.rescan_interval, SignedDuration::from_secs(5));
    }

    #[test]
    fn unknown_keys_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "[server]\nthreds = 3\n").unwrap();
        let error = Config::load(Some(&file), &env(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("threds") && error.contains("line 2"),
            "{error}"
        );
        let error = Config::load(None, &env(&[("COUNTERSIGN_SERVER__THREDS", "3")])).unwrap_err();
        assert!(error.to_string().contains("threds"), "{error}");
        let error = Config::load(None, &env(&[("COUNTERSIGN_THREADS", "3")])).unwrap_err();
        assert!(error.to_string().contains("COUNTERSIGN_THREADS"), "{error}");
    }

    #[test]
    fn no_error_shows_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(
            &file,
            "[channels.webhook.soc]\nurl = \"https://h/\"\nsecrett = \"whsec_hush\"\n",
        )
        .unwrap();
        let error = Config::load(Some(&file), &env(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("secrett") && error.contains("line 3") && !error.contains("hush"),
            "{error}"
        );
        let config = "[approvals]\nstore = \"postgres\"\nurl = \"postgres://u:hush@h/d\"\n";
        std::fs::write(&file, config).unwrap();
        let config = Config::load(Some(&file), &env(&[])).unwrap();
        let shown = format!("{config:?}{}", config.to_toml().unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_posture_that_does_not_exist_is_refused() {
        let error =
            Config::load(None, &env(&[("COUNTERSIGN_POLICY__POSTURE", "lax")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the configuration is not right: `policy.posture`: `lax` is not one of `strict`, `cedar`"
        );
    }

    #[test]
    fn the_effective_configuration_can_be_read_back() {
        let config = Config::default();
        let read: Config = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(read, config);
    }
}
