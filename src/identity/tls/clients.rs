//! Decides which client certificates are vouched for.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use super::files::{Content, Contents};
use super::{ClientCertificates, TlsError};

/// Decides which client certificates are vouched for.
pub(super) struct Clients {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// When the first of the revocation lists ends.
    pub(super) revocations_expire: Option<Timestamp>,
    /// What an operator should know, although it is no error.
    pub(super) warnings: Vec<String>,
}

impl Clients {
    /// Trusts the authorities in `ca`, but not what the revocation lists name.
    pub(super) fn new(
        ca: &Content,
        contents: &Contents,
        client: ClientCertificates,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let crl = contents.client_crl.as_ref();
        let revocations = crl.map_or(Ok(Vec::new()), |crl| read_revocations(crl, now))?;
        let authorities = ca.items::<CertificateDer<'static>>("certificate")?;
        let warnings = match crl {
            Some(_) => missing_lists(&authorities, &revocations),
            None => Vec::new(),
        };
        let revocations_expire = revocations.iter().map(|list| list.end).min();
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let added = roots.add(authority);
            added.map_err(|source| TlsError::BadAuthority {
                path: ca.path.clone(),
                source,
            })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // With lists, a certificate of unknown status is refused, and so is one whose authority's list has ended.
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(revocations.into_iter().map(|list| list.der))
            .enforce_revocation_expiration();
        let builder = match client {
            ClientCertificates::Required => builder,
            ClientCertificates::Optional => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|source| TlsError::BadRevocations {
            path: crl.unwrap_or(ca).path.clone(),
            source,
        })?;
        Ok(Self {
            verifier,
            revocations_expire,
            warnings,
        })
    }
}

/// What an authority says that no longer counts.
struct Revocations {
    der: CertificateRevocationListDer<'static>,
    /// The authority's name, as it is encoded.
    issuer: Vec<u8>,
    end: Timestamp,
}

fn read_revocations(crl: &Content, now: Timestamp) -> Result<Vec<Revocations>, TlsError> {
    let lists = crl.items::<CertificateRevocationListDer<'static>>("revocation list")?;
    let lists = lists.into_iter().map(|list| match parse(list) {
        Some(list) if list.end > now => Ok(list),
        Some(_) | None => Err(TlsError::OldRevocations {
            path: crl.path.clone(),
        }),
    });
    lists.collect()
}

fn parse(der: CertificateRevocationListDer<'static>) -> Option<Revocations> {
    let (_, list) = parse_x509_crl(&der).ok()?;
    let end = Timestamp::from_second(list.next_update()?.timestamp()).ok()?;
    let issuer = list.issuer().as_raw().to_vec();
    Some(Revocations { der, issuer, end })
}

/// Says which authorities have no list, although there are lists: nobody whom they vouch for can connect.
fn missing_lists(authorities: &[CertificateDer<'_>], lists: &[Revocations]) -> Vec<String> {
    let warning = |authority: &CertificateDer<'_>| {
        let (_, authority) = parse_x509_certificate(authority).ok()?;
        let name = authority.subject();
        let has_list = lists.iter().any(|list| list.issuer == name.as_raw());
        (!has_list).then(|| {
            format!(
                "`tls.client_crl` has no list of the authority `{name}`, so its clients are refused"
            )
        })
    };
    authorities.iter().filter_map(warning).collect()
}
