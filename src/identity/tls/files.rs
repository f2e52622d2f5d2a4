//! Reads the files that TLS is served from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustls::pki_types::pem::PemObject;

use crate::identity::TrustDomain;

use super::TlsError;

/// The longest that a file can be: room for hundreds of certificates.
pub(super) const MAX_FILE_BYTES: u64 = 1024 * 1024;
pub(super) const CERTIFICATE: &str = "tls.certificate";
pub(super) const KEY: &str = "tls.key";
pub(super) const CLIENT_CA: &str = "tls.client_ca";
pub(super) const CLIENT_CRL: &str = "tls.client_crl";

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Who shows none cannot connect.
    Required,
    /// Who shows none is nobody, until a token says otherwise. One that is shown must be right.
    Optional,
}

/// What TLS is served from. All files are PEM, each at most 1 MiB.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its root.
    pub certificate: PathBuf,
    /// The private key of the first certificate: PKCS #8, PKCS #1 or SEC 1, without a password.
    pub key: PathBuf,
    /// Who signs client certificates; without it, none are asked for.
    pub client_ca: Option<PathBuf>,
    /// Which client certificates no longer count. With it there must be a list, signed by the authority and in date, for every
    /// authority in a client's chain: a certificate of which nothing is known is refused.
    pub client_crl: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub client: ClientCertificates,
    /// Whose SPIFFE IDs count.
    pub trust_domains: Vec<TrustDomain>,
}

impl TlsFiles {
    /// Refuses what contradicts itself, whatever the files hold.
    pub(super) fn check(&self) -> Result<(), TlsError> {
        match (&self.client_ca, &self.client_crl, self.client) {
            (None, Some(_), _) => Err(TlsError::RevocationsOfNobody),
            (None, None, ClientCertificates::Required) => Err(TlsError::NoAuthority),
            (Some(_), _, _) if self.trust_domains.is_empty() => Err(TlsError::NoTrustDomain),
            (None, None, ClientCertificates::Optional) | (Some(_), _, _) => Ok(()),
        }
    }

    /// Reads all of them.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read_optional =
            |key, path: Option<&PathBuf>| path.map(|path| Content::read(key, path)).transpose();
        Ok(Contents {
            certificate: Content::read(CERTIFICATE, &self.certificate)?,
            key: Content::read(KEY, &self.key)?,
            client_ca: read_optional(CLIENT_CA, self.client_ca.as_ref())?,
            client_crl: read_optional(CLIENT_CRL, self.client_crl.as_ref())?,
        })
    }
}

/// What all files held. Has no debug output: there is a private key in it.
pub(super) struct Contents {
    pub(super) certificate: Content,
    pub(super) key: Content,
    pub(super) client_ca: Option<Content>,
    pub(super) client_crl: Option<Content>,
}

impl Contents {
    /// The same for the same contents only.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let all = [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
            self.client_crl.as_ref(),
        ];
        for content in all {
            let bytes = content.map(|content| content.bytes.as_slice());
            let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
            context.update(&length.to_be_bytes());
            context.update(bytes.unwrap_or_default());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// What an operator should know, if others can read the key. Kubernetes mounts secrets like that, so it is no error.
    pub(super) fn exposed_key(&self) -> Option<String> {
        let by_others = self.key.mode & 0o077;
        (by_others != 0).then(|| {
            format!(
                "`{KEY}` names `{}`, which more than its owner can read (mode {:o})",
                self.key.path.display(),
                self.key.mode
            )
        })
    }
}

/// What one file held.
pub(super) struct Content {
    key: &'static str,
    pub(super) path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

impl Content {
    fn read(key: &'static str, path: &Path) -> Result<Self, TlsError> {
        let (bytes, mode) = read_file(path).map_err(|source| TlsError::Unreadable {
            key,
            path: path.to_owned(),
            source,
        })?;
        let path = path.to_owned();
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(TlsError::TooLong { key, path });
        }
        Ok(Self {
            key,
            path,
            bytes,
            mode,
        })
    }

    /// Every item of type `T` in the file, at least one; items of other types are passed over.
    pub(super) fn items<T: PemObject>(&self, what: &'static str) -> Result<Vec<T>, TlsError> {
        let items = T::pem_slice_iter(&self.bytes).collect::<Result<Vec<T>, _>>();
        let items = items.map_err(|source| TlsError::NotPem {
            key: self.key,
            path: self.path.clone(),
            source,
        })?;
        if items.is_empty() {
            return Err(TlsError::Nothing {
                key: self.key,
                path: self.path.clone(),
                what,
            });
        }
        Ok(items)
    }
}

/// The bytes of a file, one more than allowed at most, and its permissions.
fn read_file(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = mode_of(&file)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

#[cfg(unix)]
fn mode_of(file: &File) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode_of(_file: &File) -> io::Result<u32> {
    Ok(0)
}
