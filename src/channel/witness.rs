//! Asks a witness to cosign a checkpoint of the log, as C2SP tlog-witness says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use rustls::ClientConfig;
use tokio::time::timeout;
use url::{Host, Url};

use crate::audit::cosignature::CosignerKey;
use crate::audit::tree::TreeHash;

use super::webhook::tls_for;
use super::webhook_address::{Pinned, look_up};
use super::{Hidden, WebhookFailure};

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("countersign/", env!("CARGO_PKG_VERSION")));
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// The type of an answer that is the size of the witness's last checkpoint.
const SIZE: &str = "text/x.tlog.size";
/// How long an answer takes at most, the lookup of the host included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer is at most: room for a few signatures of any kind.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where a witness takes checkpoints: its submission prefix with `/add-checkpoint` behind it. Never shown: it may hold a token.
#[derive(Clone)]
pub struct WitnessUrl {
    url: Url,
    host: Host<String>,
    port: u16,
}

/// Why a text is no submission prefix. Never says what the text was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessUrlError {
    /// The URL cannot be read.
    #[error("the URL cannot be read: {0}")]
    Unreadable(#[from] url::ParseError),
    /// The URL is for something else, or would be read by others on the way.
    #[error("the URL does not begin with `https:`; `http:` is for loopback only")]
    Scheme,
    /// The URL holds what a prefix cannot have.
    #[error("the URL has a user name, a password, a query or a fragment, or names port 0")]
    NoPrefix,
}

impl WitnessUrl {
    /// Reads a submission prefix, with or without a slash at its end.
    ///
    /// # Errors
    /// [`WitnessUrlError`]: `http:` is for loopback addresses and `localhost` only.
    pub fn parse(prefix: &Hidden) -> Result<Self, WitnessUrlError> {
        let mut url = Url::parse(prefix.reveal())?;
        let host = url.host().map(|host| host.to_owned());
        let host = host.ok_or(url::ParseError::EmptyHost)?;
        let is_fit = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&host);
        if !is_fit {
            return Err(WitnessUrlError::Scheme);
        }
        let has_more = !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some();
        let port = url.port_or_known_default().filter(|port| *port != 0);
        let (Some(port), false) = (port, has_more) else {
            return Err(WitnessUrlError::NoPrefix);
        };
        let path = format!("{}/add-checkpoint", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self { url, host, port })
    }

    fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }
}

impl fmt::Debug for WitnessUrl {
    /// Leaves out the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WitnessUrl")
            .field("scheme", &self.url.scheme())
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// What a witness answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took the checkpoint: what should be lines with its cosignature. Nothing of it was verified.
    Cosigned(String),
    /// It took none: its last checkpoint is of another size than was said, this one.
    Behind(u64),
}

/// Why a witness did not answer the question. Names no URL: it may hold a token.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The host leads nowhere.
    #[error("the witness cannot be found")]
    Unresolved {
        /// Why.
        #[source]
        source: WebhookFailure,
    },
    /// The connection would not be secure.
    #[error(
        "the host leads to `{address}`, which is not loopback, and the URL begins with `http:`"
    )]
    Insecure {
        /// The first such address.
        address: IpAddr,
    },
    /// There was no connection, no secure one, or no whole answer on it.
    #[error("the witness cannot be reached")]
    Unreachable {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// There was no whole answer in time.
    #[error("the witness did not answer in time")]
    TimedOut,
    /// The answer is longer than it can be.
    #[error("the witness's answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// The answer is not text.
    #[error("the witness's answer is not text")]
    NotText,
    /// The witness does not know the log (404).
    #[error("the witness does not know the log (404)")]
    UnknownLog,
    /// The witness knows none of the keys that signed (403).
    #[error("the witness trusts none of the keys that signed the checkpoint (403)")]
    UntrustedKey,
    /// The checkpoint does not follow from what the witness has seen (422).
    #[error(
        "the witness refuses the proof: it says that the log it has seen is not the beginning of this one (422)"
    )]
    Inconsistent,
    /// The checkpoint contradicts what the witness has seen (409 without a size).
    #[error("the witness says that it has seen another log of the same size (409)")]
    Conflict,
    /// Another answer that is no success; a redirect, for one.
    #[error("the witness answered with status {code}")]
    Status {
        /// The HTTP status.
        code: u16,
    },
}

impl WitnessError {
    /// Whether the witness says that the log is not the one that it has seen.
    pub fn is_contradiction(&self) -> bool {
        matches!(self, Self::Inconsistent | Self::Conflict)
    }
}

/// A witness, ready to be asked.
#[derive(Clone)]
pub struct Witness {
    name: String,
    url: WitnessUrl,
    key: CosignerKey,
    tls: ClientConfig,
    timeout: Duration,
}

impl Witness {
    /// The witness that the configuration calls `name`. For `https`, reads the system's root certificates.
    ///
    /// # Errors
    /// The system's root certificates cannot be used.
    pub fn new(
        name: impl Into<String>,
        url: WitnessUrl,
        key: CosignerKey,
    ) -> Result<Self, rustls::Error> {
        let tls = tls_for(&url.url)?.with_no_client_auth();
        Ok(Self {
            name: name.into(),
            url,
            key,
            tls,
            timeout: TIMEOUT,
        })
    }

    /// The same witness with another time for an answer than 10 seconds.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key with which it signs.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Asks once for a cosignature of `note`, a signed checkpoint, which `proof` shows to follow from the log's first `old_size`
    /// leaves. Nothing that comes back is verified.
    ///
    /// # Errors
    /// [`WitnessError`], within 10 seconds.
    pub async fn ask(
        &self,
        old_size: u64,
        proof: &[TreeHash],
        note: &str,
    ) -> Result<Answer, WitnessError> {
        let asking = async {
            let addresses = self.checked_addresses().await?;
            let answer = self.post(addresses, body(old_size, proof, note)).await?;
            read_answer(answer).await
        };
        timeout(self.timeout, asking)
            .await
            .map_err(|_| WitnessError::TimedOut)?
    }

    /// Where the host leads. A witness may be anywhere, but without TLS on this machine only.
    async fn checked_addresses(&self) -> Result<Vec<SocketAddr>, WitnessError> {
        let addresses = look_up(&self.url.host, self.url.port).await;
        let addresses = addresses.map_err(|source| WitnessError::Unresolved { source })?;
        let mut ips = addresses.iter().map(SocketAddr::ip);
        match ips.find(|address| !self.url.is_https() && !address.is_loopback()) {
            Some(address) => Err(WitnessError::Insecure { address }),
            None => Ok(addresses),
        }
    }

    /// Posts to one of `addresses`. The client lives for this request: witnesses are asked once a minute.
    async fn post(
        &self,
        addresses: Vec<SocketAddr>,
        body: String,
    ) -> Result<Response, WitnessError> {
        let client = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(Pinned(addresses)))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(unreachable)?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, TEXT), (USER_AGENT, AGENT)]);
        let request = client.post(self.url.url.clone()).headers(headers);
        request.body(body).send().await.map_err(unreachable)
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name == "localhost",
    }
}

/// What is posted: the size the proof begins at, the proof, an empty line, the signed checkpoint.
fn body(old_size: u64, proof: &[TreeHash], note: &str) -> String {
    let mut body = format!("old {old_size}\n");
    for hash in proof {
        body.push_str(&hash.to_base64());
        body.push('\n');
    }
    body.push('\n');
    body.push_str(note);
    body
}

async fn read_answer(answer: Response) -> Result<Answer, WitnessError> {
    let is_size = has_type(answer.headers(), SIZE);
    match answer.status() {
        StatusCode::OK => Ok(Answer::Cosigned(read_text(answer).await?)),
        StatusCode::CONFLICT if is_size => {
            let text = read_text(answer).await?;
            let size = text.trim_end_matches('\n').parse().map(Answer::Behind);
            size.map_err(|_| WitnessError::Status { code: 409 })
        }
        StatusCode::CONFLICT => Err(WitnessError::Conflict),
        StatusCode::NOT_FOUND => Err(WitnessError::UnknownLog),
        StatusCode::FORBIDDEN => Err(WitnessError::UntrustedKey),
        StatusCode::UNPROCESSABLE_ENTITY => Err(WitnessError::Inconsistent),
        other => Err(WitnessError::Status {
            code: other.as_u16(),
        }),
    }
}

fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = text.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
}

async fn read_text(mut answer: Response) -> Result<String, WitnessError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if bytes.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
            return Err(WitnessError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| WitnessError::NotText)
}

fn unreachable(error: reqwest::Error) -> WitnessError {
    WitnessError::Unreachable {
        source: error.without_url(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(prefix: &str) -> Result<String, WitnessUrlError> {
        let url = WitnessUrl::parse(&Hidden::from(prefix.to_owned()))?;
        assert!(!format!("{url:?}").contains("t0ken"));
        Ok(url.url.to_string())
    }

    #[test]
    fn a_prefix_gets_its_end() {
        for (prefix, expected) in [
            ("https://w.example", "https://w.example/add-checkpoint"),
            ("https://w.example/", "https://w.example/add-checkpoint"),
            (
                "https://w.example/t0ken/w%201/",
                "https://w.example/t0ken/w%201/add-checkpoint",
            ),
            (
                "http://127.0.0.1:8/w",
                "http://127.0.0.1:8/w/add-checkpoint",
            ),
            ("http://[::1]:8", "http://[::1]:8/add-checkpoint"),
            ("http://LOCALHOST", "http://localhost/add-checkpoint"),
        ] {
            assert_eq!(parse(prefix).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_url_that_is_no_prefix_is_refused() {
        for prefix in [
            "http://w.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "ftp://127.0.0.1",
        ] {
            assert_eq!(parse(prefix), Err(WitnessUrlError::Scheme), "{prefix}");
        }
        for prefix in [
            "https://u@w.example",
            "https://:p@w.example",
            "https://w.example/?t=1",
            "https://w.example/#x",
            "https://w.example:0",
        ] {
            assert_eq!(parse(prefix), Err(WitnessUrlError::NoPrefix), "{prefix}");
        }
        for prefix in ["", "w.example", "https://", "unix:/w"] {
            assert!(
                matches!(parse(prefix), Err(WitnessUrlError::Unreadable(_))),
                "{prefix}"
            );
        }
    }

    #[tokio::test]
    async fn without_tls_nobody_elsewhere_is_asked() {
        let key = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
        let hidden = Hidden::from("http://localhost".to_owned());
        let mut url = WitnessUrl::parse(&hidden).unwrap();
        // As if the name led elsewhere.
        url.host = Host::Ipv4([192, 0, 2, 1].into());
        let witness = Witness::new("w", url, key.parse().unwrap()).unwrap();
        let error = witness.ask(0, &[], "").await.unwrap_err();
        assert!(matches!(error, WitnessError::Insecure { .. }), "{error:?}");
    }
}
