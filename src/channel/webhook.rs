//! Sends messages to a receiver of Standard Webhooks 1.0.0.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use crate::model::TraceContext;

use super::webhook_address::{Pinned, first_private, look_up};
use super::{WebhookConfig, WebhookConfigError, WebhookFailure, WebhookSecret};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const TRACE: HeaderName = HeaderName::from_static("traceparent");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("countersign/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const MAX_ID_BYTES: usize = 128;
/// How much of an answer's body is read, and thrown away, so that the receiver can finish writing it.
const MAX_ANSWER_BYTES: usize = 4 * 1024;

/// A message to deliver.
#[derive(Clone, Copy, Debug)]
pub struct WebhookMessage<'a> {
    /// 1 to 128 letters, digits, `_` or `-`; the same at every attempt, so that the receiver takes the message once.
    pub id: &'a str,
    /// JSON; sent and signed as these exact bytes.
    pub body: &'a [u8],
    /// The span that what is told of began in, so that the receiver's own spans join its trace.
    pub trace: Option<TraceContext>,
}

/// A receiver of webhooks, ready to be sent to.
pub struct WebhookEndpoint {
    name: String,
    url: Url,
    host: Host<String>,
    port: u16,
    secrets: Vec<WebhookSecret>,
    allow_private_addresses: bool,
    timeout: Duration,
    tls: ClientConfig,
}

impl WebhookEndpoint {
    /// Makes the receiver that the configuration calls `name`. Reads the secrets' files, and for `https` the system's root
    /// certificates.
    ///
    /// # Errors
    /// [`WebhookConfigError`] for the first key with a value that cannot be used.
    pub fn new(
        name: impl Into<String>,
        config: &WebhookConfig,
    ) -> Result<Self, WebhookConfigError> {
        let url = config.parse_url()?;
        let host = url.host().map(|host| host.to_owned());
        let (Some(host), Some(port)) = (host, url.port_or_known_default()) else {
            let source = url::ParseError::EmptyHost;
            return Err(WebhookConfigError::BadUrl { source });
        };
        let tls = tls_for(&url)
            .map_err(|source| WebhookConfigError::NoRootCertificates { source })?
            .with_no_client_auth();
        Ok(Self {
            name: name.into(),
            host,
            port,
            secrets: config.read_secrets()?,
            allow_private_addresses: config.allow_private_addresses,
            timeout: config.check_timeout()?,
            tls,
            url,
        })
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends `message` once, signed as of `now`. Delivered is what the receiver answers with 2xx; redirects are not followed.
    ///
    /// # Errors
    /// [`WebhookFailure`], within the endpoint's timeout.
    pub async fn send(
        &self,
        message: &WebhookMessage<'_>,
        now: Timestamp,
    ) -> Result<(), WebhookFailure> {
        let headers = self.headers(message, now)?;
        let deadline = Instant::now() + self.timeout;
        let posting = async {
            let addresses = self.checked_addresses().await?;
            self.post(addresses, headers, message.body).await
        };
        let Ok(answer) = timeout_at(deadline, posting).await else {
            return Err(WebhookFailure::TimedOut);
        };
        let answer = answer?;
        let failure = WebhookFailure::of_answer(answer.status(), answer.headers(), now);
        // The status was the answer; what becomes of the body changes nothing.
        let _ = timeout_at(deadline, drain(answer)).await;
        failure.map_or(Ok(()), Err)
    }

    fn headers(
        &self,
        message: &WebhookMessage<'_>,
        now: Timestamp,
    ) -> Result<HeaderMap, WebhookFailure> {
        let seconds = now.as_second();
        let signatures: Vec<String> = self
            .secrets
            .iter()
            .map(|secret| secret.sign(message.id, seconds, message.body))
            .collect();
        let (true, Ok(id), Ok(signature)) = (
            is_id(message.id),
            HeaderValue::from_str(message.id),
            HeaderValue::from_str(&signatures.join(" ")),
        ) else {
            return Err(WebhookFailure::BadMessageId);
        };
        let trace = message.trace.map(|trace| trace.to_string());
        let trace = trace.and_then(|trace| HeaderValue::try_from(trace).ok());
        let mut headers = HeaderMap::from_iter([
            (ID, id),
            (TIMESTAMP, HeaderValue::from(seconds)),
            (SIGNATURE, signature),
            (CONTENT_TYPE, JSON),
            (USER_AGENT, AGENT),
        ]);
        headers.extend(trace.map(|trace| (TRACE, trace)));
        Ok(headers)
    }

    /// Where the host leads, if it may be sent to.
    async fn checked_addresses(&self) -> Result<Vec<SocketAddr>, WebhookFailure> {
        let addresses = look_up(&self.host, self.port).await?;
        if self.allow_private_addresses {
            return Ok(addresses);
        }
        match first_private(&addresses) {
            Some(address) => Err(WebhookFailure::Refused { address }),
            None => Ok(addresses),
        }
    }

    /// Posts to one of `addresses`. The client lives for this request: no connection outlives the check of its address.
    async fn post(
        &self,
        addresses: Vec<SocketAddr>,
        headers: HeaderMap,
        body: &[u8],
    ) -> Result<Response, WebhookFailure> {
        let client = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(Pinned(addresses)))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(WebhookFailure::of_transport)?;
        client
            .post(self.url.clone())
            .headers(headers)
            .body(body.to_vec())
            .send()
            .await
            .map_err(WebhookFailure::of_transport)
    }
}

impl fmt::Debug for WebhookEndpoint {
    /// Leaves out the secrets, and of the URL what may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookEndpoint")
            .field("name", &self.name)
            .field("scheme", &self.url.scheme())
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Trusts what the system trusts; without TLS, nothing.
pub(super) fn tls_for(
    url: &Url,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    if url.scheme() == "https" {
        builder.with_platform_verifier()
    } else {
        Ok(builder.with_root_certificates(RootCertStore::empty()))
    }
}

fn is_id(id: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(is_part)
}

async fn drain(mut answer: Response) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes += chunk.len();
        if bytes > MAX_ANSWER_BYTES {
            return;
        }
    }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
