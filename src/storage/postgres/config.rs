//! Where the database is and how it is reached.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::error::PostgresOpenError;

/// How many connections the pool holds unless told otherwise.
const MAX_CONNECTIONS: usize = 16;

/// Whether the connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PostgresTls {
    /// It is not: for unix sockets and this very machine only.
    #[default]
    Disabled,
    /// It is, and the server proves its name.
    Required {
        /// The authorities that may vouch for the server, as PEM; the system's if there is none.
        ca_file: Option<PathBuf>,
    },
}

/// Where the database is and how it is reached.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://user@host:port/database`. A password in it is never shown.
    pub url: String,
    /// A file that holds the password alone; spaces and line ends around it do not count.
    pub password_file: Option<PathBuf>,
    /// Whether the connection is encrypted.
    pub tls: PostgresTls,
    /// How many connections are held at most, beside one that listens.
    pub max_connections: usize,
    /// Accepts a server that may forget what it has acknowledged. For tests.
    pub allow_unsafe_settings: bool,
}

impl PostgresConfig {
    /// The database at `url`, unencrypted, with safe settings required.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            tls: PostgresTls::default(),
            max_connections: MAX_CONNECTIONS,
            allow_unsafe_settings: false,
        }
    }

    /// What the driver is told.
    pub(super) fn driver_config(&self) -> Result<tokio_postgres::Config, PostgresOpenError> {
        // The driver's reason may quote the URL, and with it the password.
        let mut driver =
            tokio_postgres::Config::from_str(&self.url).map_err(|_| PostgresOpenError::BadUrl)?;
        self.check_transport(&driver)?;
        if let Some(path) = &self.password_file {
            driver.password(read_password(path)?);
        }
        if driver.get_application_name().is_none() {
            driver.application_name("countersign");
        }
        driver
            .ssl_mode(match self.tls {
                PostgresTls::Disabled => SslMode::Disable,
                PostgresTls::Required { .. } => SslMode::Require,
            })
            // Of several hosts, the one that takes writes.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(Duration::from_secs(2))
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(30));
        Ok(driver)
    }

    /// Refuses to send passwords and approvals over a network in the clear.
    fn check_transport(&self, driver: &tokio_postgres::Config) -> Result<(), PostgresOpenError> {
        let hosts = driver.get_hosts();
        if hosts.is_empty() && driver.get_hostaddrs().is_empty() {
            return Err(PostgresOpenError::NoHost);
        }
        if self.tls != PostgresTls::Disabled {
            return Ok(());
        }
        if driver.get_ssl_mode() == SslMode::Require {
            return Err(PostgresOpenError::TlsWantedByUrl);
        }
        let is_remote = |address: &&IpAddr| !address.is_loopback();
        if let Some(address) = driver.get_hostaddrs().iter().find(is_remote) {
            return Err(PostgresOpenError::PlainText {
                host: address.to_string(),
            });
        }
        // An address, where there is one, is what the driver connects to; the name is then only a name.
        let named = if driver.get_hostaddrs().is_empty() {
            hosts
        } else {
            &[]
        };
        match named.iter().find_map(remote_name) {
            Some(host) => Err(PostgresOpenError::PlainText {
                host: host.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("password_file", &self.password_file)
            .field("tls", &self.tls)
            .field("max_connections", &self.max_connections)
            .field("allow_unsafe_settings", &self.allow_unsafe_settings)
            .finish_non_exhaustive()
    }
}

/// The host's name, if it is another machine or may be one.
fn remote_name(host: &Host) -> Option<&str> {
    match host {
        Host::Tcp(name) => {
            let is_local = name == "localhost"
                || IpAddr::from_str(name).is_ok_and(|address| address.is_loopback());
            (!is_local).then_some(name.as_str())
        }
        #[cfg(unix)]
        Host::Unix(_) => None,
    }
}

fn read_password(path: &Path) -> Result<String, PostgresOpenError> {
    let text = std::fs::read_to_string(path).map_err(|source| PostgresOpenError::PasswordFile {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, tls: PostgresTls) -> Result<(), String> {
        let config = PostgresConfig {
            tls,
            ..PostgresConfig::new(url)
        };
        let checked = config.driver_config();
        checked.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        for url in [
            "postgres://u@%2Ftmp%2Fpg/db",
            "postgres://u@localhost/db",
            "postgres://u@127.0.0.1:5433/db",
            "postgres://u@[::1]/db",
        ] {
            assert_eq!(check(url, PostgresTls::Disabled), Ok(()), "{url}");
        }
        for url in [
            "postgres://u@db.example/db",
            "postgres://u@10.0.0.1/db",
            "postgres://u@localhost,db.example/db",
            "postgres://u@localhost/db?hostaddr=10.0.0.1",
            "postgres://u@localhost/db?sslmode=require",
            "postgres:///db",
        ] {
            assert!(check(url, PostgresTls::Disabled).is_err(), "{url}");
        }
        let encrypted = PostgresTls::Required { ca_file: None };
        assert_eq!(check("postgres://u@db.example/db", encrypted), Ok(()));
    }

    #[test]
    fn a_password_is_never_shown() {
        let config = PostgresConfig::new("postgres://u:s3cret@db.example/db");
        let refused = config.driver_config().unwrap_err();
        assert!(!format!("{config:?} {refused} {refused:?}").contains("s3cret"));
        let odd = PostgresConfig::new("postgres://u:s3cret@db.example:s3cret/db");
        let refused = odd.driver_config().unwrap_err();
        assert!(!format!("{odd:?} {refused} {refused:?}").contains("s3cret"));
    }

    #[test]
    fn a_password_comes_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        let config = PostgresConfig {
            password_file: Some(path),
            ..PostgresConfig::new("postgres://u@localhost/db")
        };
        let driver = config.driver_config().unwrap();
        assert_eq!(driver.get_password(), Some(b"s3cret".as_slice()));
    }
}
