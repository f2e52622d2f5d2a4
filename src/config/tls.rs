//! What a server can be told about how connections are encrypted, and who may connect.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::identity::{ClientCertificates, TlsFiles, TrustDomain};

/// How connections are encrypted. With a certificate every connection from the network is; without, none is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The server's certificate, followed by those between it and its root, in PEM.
    pub certificate: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    pub key: Option<PathBuf>,
    /// Who signs client certificates, in PEM; without it none are asked for.
    pub client_ca: Option<PathBuf>,
    /// Which client certificates no longer count, in PEM.
    pub client_crl: Option<PathBuf>,
    /// Whether clients must show a certificate; they must unless told otherwise, where `client_ca` is given.
    pub client: Option<ClientCertificateChoice>,
    /// Whose SPIFFE ids count, such as `example.org`.
    pub trust_domains: Vec<String>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificateChoice {
    /// Who shows none cannot connect.
    Required,
    /// Who shows none is nobody, until a token says otherwise.
    Optional,
}

impl TlsConfig {
    /// What to serve TLS from; none if connections are not encrypted.
    ///
    /// # Errors
    /// The key at fault, and why.
    pub fn files(&self) -> Result<Option<TlsFiles>, (&'static str, String)> {
        let (certificate, key) = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None) => {
                return Err((
                    "tls.key",
                    "is missing: `tls.certificate` needs it".to_owned(),
                ));
            }
            (None, Some(_)) => {
                return Err((
                    "tls.certificate",
                    "is missing: `tls.key` needs it".to_owned(),
                ));
            }
            (None, None) if *self == Self::default() => return Ok(None),
            (None, None) => {
                let message =
                    "is missing: clients can show certificates only to a server that has one";
                return Err(("tls.certificate", message.to_owned()));
            }
        };
        let trust_domains = self.trust_domains.iter().map(|name| {
            TrustDomain::parse(name)
                .map_err(|error| ("tls.trust_domains", format!("`{name}`: {error}")))
        });
        let client = match (self.client, &self.client_ca) {
            (Some(ClientCertificateChoice::Required), _) | (None, Some(_)) => {
                ClientCertificates::Required
            }
            (Some(ClientCertificateChoice::Optional), _) | (None, None) => {
                ClientCertificates::Optional
            }
        };
        Ok(Some(TlsFiles {
            certificate,
            key,
            client_ca: self.client_ca.clone(),
            client_crl: self.client_crl.clone(),
            client,
            trust_domains: trust_domains.collect::<Result<_, _>>()?,
        }))
    }
}
