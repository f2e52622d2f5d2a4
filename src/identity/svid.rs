//! Reads the name of a workload from its certificate: an X.509-SVID.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS;
use x509_parser::parse_x509_certificate;

use super::{BadSpiffeId, SpiffeId, TrustDomain};

/// Who a certificate says its holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svid {
    /// The holder's name.
    pub id: SpiffeId,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// Why a certificate says of nobody that it is theirs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidFault {
    /// It is no X.509 certificate, or one of its extensions is broken or there twice.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// It can sign certificates; such a one names a trust domain and no workload.
    #[error("the client certificate is one of a certificate authority")]
    Authority,
    /// Its key is not for signing.
    #[error("the client certificate's key usage does not include digitalSignature")]
    NotForSigning,
    /// Its key is for something else than showing who a client is.
    #[error("the client certificate's extended key usage does not include clientAuth")]
    NotForClients,
    /// It names no URI, so it is no SVID.
    #[error("the client certificate has no SPIFFE ID: it names no URI")]
    NoUri,
    /// It names several URIs.
    #[error("the client certificate names more than one URI; an SVID names exactly one")]
    SeveralUris,
    /// Its URI is no SPIFFE ID.
    #[error("the client certificate's URI is not a SPIFFE ID")]
    BadId {
        /// Why.
        #[source]
        source: BadSpiffeId,
    },
    /// Its URI names a whole trust domain.
    #[error("the client certificate's SPIFFE ID has no path, so it names no workload")]
    NoPath,
    /// Its URI names a workload elsewhere.
    #[error("the trust domain `{trust_domain}` is not in `tls.trust_domains`")]
    OtherTrustDomain {
        /// Where.
        trust_domain: TrustDomain,
    },
}

impl From<X509Error> for SvidFault {
    fn from(_: X509Error) -> Self {
        Self::Unreadable
    }
}

/// Reads who the holder of `leaf` is, by the rules of the X.509-SVID specification for leaves.
///
/// Says nothing of who signed it, nor of the time: that was verified before.
///
/// # Errors
/// [`SvidFault`]: a certificate that is no SVID of one of `trust_domains` names nobody.
pub fn svid_of(
    leaf: &CertificateDer<'_>,
    trust_domains: &[TrustDomain],
) -> Result<Svid, SvidFault> {
    let (rest, certificate) = parse_x509_certificate(leaf).map_err(|_| SvidFault::Unreadable)?;
    if !rest.is_empty() {
        return Err(SvidFault::Unreadable);
    }
    check_usage(&certificate)?;
    let id =
        SpiffeId::parse(only_uri(&certificate)?).map_err(|source| SvidFault::BadId { source })?;
    if id.path().is_empty() {
        return Err(SvidFault::NoPath);
    }
    if !trust_domains.contains(id.trust_domain()) {
        let trust_domain = id.trust_domain().clone();
        return Err(SvidFault::OtherTrustDomain { trust_domain });
    }
    let not_after = not_after(&certificate).ok_or(SvidFault::Unreadable)?;
    Ok(Svid { id, not_after })
}

/// When `certificate` ends; none if that is beyond all time.
pub(super) fn not_after(certificate: &X509Certificate<'_>) -> Option<Timestamp> {
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), SvidFault> {
    // The parser's own shortcut takes a broken extension for a missing one.
    if let Some(extension) = certificate.get_extension_unique(&OID_X509_EXT_BASIC_CONSTRAINTS)? {
        let ParsedExtension::BasicConstraints(constraints) = extension.parsed_extension() else {
            return Err(SvidFault::Unreadable);
        };
        if constraints.ca {
            return Err(SvidFault::Authority);
        }
    }
    if let Some(usage) = certificate.key_usage()? {
        if usage.value.key_cert_sign() || usage.value.crl_sign() {
            return Err(SvidFault::Authority);
        }
        if !usage.value.digital_signature() {
            return Err(SvidFault::NotForSigning);
        }
    }
    match certificate.extended_key_usage()? {
        Some(usage) if !usage.value.client_auth => Err(SvidFault::NotForClients),
        Some(_) | None => Ok(()),
    }
}

/// The one URI among the certificate's names; names of other kinds do not matter.
fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, SvidFault> {
    let names = certificate
        .subject_alternative_name()?
        .ok_or(SvidFault::NoUri)?;
    let names = &names.value.general_names;
    let is_broken = |name: &GeneralName<'_>| matches!(name, GeneralName::Invalid(..));
    if names.iter().any(is_broken) {
        return Err(SvidFault::Unreadable);
    }
    let mut uris = names.iter().filter_map(|name| {
        if let GeneralName::URI(uri) = name {
            Some(*uri)
        } else {
            None
        }
    });
    match (uris.next(), uris.next()) {
        (None, _) => Err(SvidFault::NoUri),
        (Some(uri), None) => Ok(uri),
        (Some(_), Some(_)) => Err(SvidFault::SeveralUris),
    }
}

#[cfg(test)]
#[path = "svid_tests.rs"]
mod tests;
