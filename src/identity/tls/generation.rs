//! What one reading of the files came to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{InconsistentKeys, ServerConfig};
use x509_parser::parse_x509_certificate;

use crate::identity::svid::not_after;
use crate::identity::{Svid, SvidFault, TrustDomain, svid_of};
use crate::usecase::ports::Clock;

use super::clients::Clients;
use super::files::{Content, Contents};
use super::{ClientCertificates, TlsError, TlsFiles};

/// What one reading of the files came to; never changes.
pub struct TlsGeneration {
    /// For accepting connections: TLS 1.3 and 1.2, HTTP/2 only, no resumption.
    pub server: Arc<ServerConfig>,
    /// Counts from 1.
    pub number: u64,
    /// When the server's own certificate ends.
    pub certificate_expires: Timestamp,
    /// When the first of the revocation lists ends, and with it the trust in its authority's clients.
    pub revocations_expire: Option<Timestamp>,
    /// What an operator should know, although it is no error.
    pub warnings: Vec<String>,
    pub(super) digest: [u8; 32],
    clients: Option<Arc<dyn ClientCertVerifier>>,
    client: ClientCertificates,
    trust_domains: Vec<TrustDomain>,
}

/// Why a connection's client certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// The client showed none.
    #[error("a client certificate is required")]
    NoCertificate,
    /// The client showed one that nobody verified.
    #[error("no client certificate was asked for")]
    Unasked,
    /// The client's certificate names nobody.
    #[error(transparent)]
    Svid(#[from] SvidFault),
}

impl TlsGeneration {
    /// Makes a generation of what the files held, as of now.
    pub(super) fn new(
        files: &TlsFiles,
        contents: &Contents,
        number: u64,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let now = clock.now();
        let clients = match &contents.client_ca {
            Some(ca) => Some(Clients::new(ca, contents, files.client, now)?),
            None => None,
        };
        let chain = contents.certificate.items("certificate")?;
        let certificate_expires = check_validity(&contents.certificate, &chain, now)?;
        let verifier = clients
            .as_ref()
            .map_or_else(WebPkiClientVerifier::no_client_auth, |clients| {
                Arc::clone(&clients.verifier)
            });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let time = Arc::new(ClockTime(Arc::clone(clock)));
        let builder = ServerConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Library { source })?
            .with_client_cert_verifier(verifier);
        let mut server = builder
            .with_single_cert(chain, read_key(&contents.key)?)
            .map_err(|source| refused_key(&contents.key, source))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would bring back a client certificate without asking whether it still counts.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            server: Arc::new(server),
            number,
            certificate_expires,
            revocations_expire: clients
                .as_ref()
                .and_then(|clients| clients.revocations_expire),
            warnings: contents
                .exposed_key()
                .into_iter()
                .chain(clients.iter().flat_map(|clients| clients.warnings.clone()))
                .collect(),
            digest: contents.digest(),
            clients: clients.map(|clients| clients.verifier),
            client: files.client,
            trust_domains: files.trust_domains.clone(),
        })
    }

    /// Who is at the other end of a connection whose handshake this generation did; none if it may be nobody.
    ///
    /// # Errors
    /// [`PeerFault`] if the connection should be closed.
    pub fn peer(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<Option<Svid>, PeerFault> {
        let Some(leaf) = chain.and_then(<[_]>::first) else {
            return match self.client {
                ClientCertificates::Required => Err(PeerFault::NoCertificate),
                ClientCertificates::Optional => Ok(None),
            };
        };
        if self.clients.is_none() {
            return Err(PeerFault::Unasked);
        }
        Ok(Some(svid_of(leaf, &self.trust_domains)?))
    }

    /// Whether this generation would accept a client certificate that an earlier one did, as of `now`: its authority is still
    /// trusted, no list revokes it, and it has not ended. Verifies signatures, so it takes a fraction of a millisecond.
    pub fn still_vouches(&self, chain: Option<&[CertificateDer<'_>]>, now: Timestamp) -> bool {
        let Some((leaf, between)) = chain.and_then(<[_]>::split_first) else {
            return self.client == ClientCertificates::Optional;
        };
        let (Some(clients), Ok(seconds)) = (&self.clients, u64::try_from(now.as_second())) else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        clients.verify_client_cert(leaf, between, now).is_ok()
            && svid_of(leaf, &self.trust_domains).is_ok()
    }
}

impl fmt::Debug for TlsGeneration {
    /// Leaves out what holds the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsGeneration")
            .field("number", &self.number)
            .field("certificate_expires", &self.certificate_expires)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// The time by our own clock.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// When the first certificate of the chain ends, if that is after `now`.
fn check_validity(
    content: &Content,
    chain: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Timestamp, TlsError> {
    let path = || content.path.clone();
    let bad = || TlsError::BadCertificate { path: path() };
    let leaf = chain.first().ok_or_else(bad)?;
    let (_, certificate) = parse_x509_certificate(leaf).map_err(|_| bad())?;
    let begin = Timestamp::from_second(certificate.validity().not_before.timestamp());
    let begin = begin.map_err(|_| bad())?;
    let end = not_after(&certificate).ok_or_else(bad)?;
    if end <= now {
        return Err(TlsError::Expired {
            path: path(),
            at: end,
        });
    }
    if begin > now {
        return Err(TlsError::NotYetValid {
            path: path(),
            at: begin,
        });
    }
    Ok(end)
}

fn read_key(content: &Content) -> Result<PrivateKeyDer<'static>, TlsError> {
    let keys = content.items::<PrivateKeyDer<'static>>("private key")?;
    keys.into_iter().next().ok_or_else(|| TlsError::Nothing {
        key: super::files::KEY,
        path: content.path.clone(),
        what: "private key",
    })
}

fn refused_key(content: &Content, source: rustls::Error) -> TlsError {
    let path = content.path.clone();
    if source == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
        return TlsError::OtherKey { path };
    }
    TlsError::BadKey { path, source }
}
