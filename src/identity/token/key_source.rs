//! Gets an issuer's keys from where the settings say that they are.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use crate::usecase::ports::Clock;

use super::key_fault::KeyFault;
use super::key_set::MAX_SET_BYTES;
use super::{IssuerSettings, KeyPlace, SettingsError};

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("countersign/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json");
/// How long an answer takes at most, the lookup of the host and the body included.
const TIMEOUT: Duration = Duration::from_secs(5);
const FILE_INTERVAL: Duration = Duration::from_secs(10);
const URL_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What fetching keys needs from the world.
#[derive(Clone, Debug)]
pub struct KeyFetcher {
    clock: Arc<dyn Clock>,
    roots: Option<RootCertStore>,
}

impl KeyFetcher {
    /// Fetches from servers that the system's root certificates vouch for.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, roots: None }
    }

    /// Fetches from servers that `roots` vouch for, whatever the system thinks of them.
    #[must_use]
    pub fn trusting_only(self, roots: RootCertStore) -> Self {
        Self {
            roots: Some(roots),
            ..self
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(super) fn source(&self, settings: &IssuerSettings) -> Result<KeySource, SettingsError> {
        let url = match &settings.keys {
            KeyPlace::File(path) => return Ok(KeySource::File(path.clone())),
            KeyPlace::Url(url) => url.clone(),
        };
        let name = &settings.name;
        let tls = self
            .tls_for(&url)
            .map_err(|source| SettingsError::NoRootCertificates {
                name: name.clone(),
                source,
            })?;
        let port = url.port_or_known_default().unwrap_or_default();
        let loopback = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ];
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // Whatever the system makes of the name: over `http`, nothing but loopback will do.
            .resolve_to_addrs("localhost", &loopback)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|source| SettingsError::NoClient {
                name: name.clone(),
                source,
            })?;
        Ok(KeySource::Url { client, url })
    }

    fn tls_for(&self, url: &Url) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None if url.scheme() == "https" => builder.with_platform_verifier()?,
            None => builder.with_root_certificates(RootCertStore::empty()),
        };
        Ok(builder.with_no_client_auth())
    }
}

/// Where an issuer's keys come from.
pub(super) enum KeySource {
    File(PathBuf),
    Url { client: Client, url: Url },
}

impl KeySource {
    /// How often it is worth looking.
    pub(super) fn interval(&self) -> Duration {
        match self {
            Self::File(_) => FILE_INTERVAL,
            Self::Url { .. } => URL_INTERVAL,
        }
    }

    /// Gets what is there now.
    pub(super) async fn read(&self) -> Result<Vec<u8>, KeyFault> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let read = spawn_blocking(move || read_file(&path)).await;
                read.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
                    .map_err(|source| KeyFault::Unreadable { source })
            }
            Self::Url { client, url } => timeout(TIMEOUT, fetch(client, url))
                .await
                .unwrap_or(Err(KeyFault::TimedOut)),
        }
    }
}

impl fmt::Display for KeySource {
    /// A URL without its query, which may hold a key of another kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url { url, .. } => {
                write!(f, "{}{}", url.origin().ascii_serialization(), url.path())
            }
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

async fn fetch(client: &Client, url: &Url) -> Result<Vec<u8>, KeyFault> {
    let asking = client
        .get(url.clone())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, JSON)
        .send();
    let mut answer = asking.await.map_err(KeyFault::of_transport)?;
    if answer.status() != StatusCode::OK {
        let code = answer.status().as_u16();
        return Err(KeyFault::Status { code });
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(KeyFault::of_transport)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_SET_BYTES {
            return Err(KeyFault::TooLong);
        }
    }
    Ok(body)
}

/// The bytes of a file, one more than allowed at most.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_SET_BYTES as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
