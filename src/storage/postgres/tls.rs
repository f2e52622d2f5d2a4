//! How a connection is made: in the clear, or encrypted by rustls.

use std::path::Path;
use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::PostgresTls;
use super::error::PostgresOpenError;

/// How a connection is made.
#[derive(Clone)]
pub(super) enum Transport {
    /// In the clear.
    Plain,
    /// Encrypted.
    Encrypted(MakeRustlsConnect),
}

impl Transport {
    pub(super) fn of(tls: &PostgresTls) -> Result<Self, PostgresOpenError> {
        match tls {
            PostgresTls::Disabled => Ok(Self::Plain),
            PostgresTls::Required { ca_file } => {
                let roots = match ca_file {
                    Some(path) => roots_in(path)?,
                    None => roots_of_the_system()?,
                };
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let client = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|source| PostgresOpenError::Tls { source })?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                Ok(Self::Encrypted(MakeRustlsConnect::new(client)))
            }
        }
    }

    /// What makes the pool's connections.
    pub(super) fn manager(&self, driver: tokio_postgres::Config) -> Manager {
        let settings = ManagerConfig {
            // A closed connection is noticed without asking; what the store leaves behind is a clean session.
            recycling_method: RecyclingMethod::Fast,
        };
        match self {
            Self::Plain => Manager::from_config(driver, NoTls, settings),
            Self::Encrypted(connect) => Manager::from_config(driver, connect.clone(), settings),
        }
    }
}

fn roots_in(path: &Path) -> Result<RootCertStore, PostgresOpenError> {
    let unreadable = |why: String| PostgresOpenError::CaFile {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn roots_of_the_system() -> Result<RootCertStore, PostgresOpenError> {
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that are of no use to us; one that is will do.
    let (added, _ignored) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(PostgresOpenError::NoSystemRoots);
    }
    Ok(roots)
}
