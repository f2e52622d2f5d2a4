//! Connects to a server, for the command line.

use std::net::IpAddr;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection that waits for an answer is looked after, and how long the server may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not a URI.
    #[error(
        "`{address}` is not an address: write `https://host:port`, `http://host:port` or `unix:/path/to/socket`"
    )]
    BadAddress {
        /// What was given.
        address: String,
    },
    /// The certificates cannot be used.
    #[error("the certificates for `{address}` cannot be used")]
    BadCertificate {
        /// What was given.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// Nobody answers there.
    #[error("`{address}` cannot be reached")]
    Unreachable {
        /// What was given.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Which servers are trusted, and what they are shown. All in PEM.
#[derive(Clone, Default)]
pub struct ClientTls {
    /// What a server's certificate must lead to; what the system trusts if there is none.
    pub ca: Option<Vec<u8>>,
    /// A certificate and its private key, to be shown to the server.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("has_ca", &self.ca.is_some())
            .field("has_identity", &self.identity.is_some())
            .finish()
    }
}

impl ClientTls {
    fn config(&self) -> ClientTlsConfig {
        let config = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }

    fn is_given(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }
}

/// Connects to `address`: `host:port`, `https://host:port`, `http://host:port` or `unix:/path`. An address without a scheme is taken as
/// `https` where certificates are given.
///
/// # Errors
/// When the address or the certificates cannot be used, or nobody answers within 5 s.
pub async fn connect(address: &str, tls: &ClientTls) -> Result<Channel, ConnectError> {
    let bad = || ConnectError::BadAddress {
        address: address.to_owned(),
    };
    let uri = uri_of(address, tls.is_given()).ok_or_else(bad)?;
    let mut endpoint = Endpoint::from_shared(uri.clone()).map_err(|_| bad())?;
    if uri.starts_with("https://") {
        endpoint =
            endpoint
                .tls_config(tls.config())
                .map_err(|source| ConnectError::BadCertificate {
                    address: address.to_owned(),
                    source,
                })?;
    }
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .connect()
        .await
        .map_err(|source| ConnectError::Unreachable {
            address: address.to_owned(),
            source,
        })
}

/// `address` as a URI of a scheme that is known here; none if it has another one.
fn uri_of(address: &str, has_certificates: bool) -> Option<String> {
    let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
    let has_scheme = address.contains("://") || scheme.eq_ignore_ascii_case("unix");
    if !has_scheme {
        let scheme = if has_certificates { "https" } else { "http" };
        return Some(format!("{scheme}://{address}"));
    }
    let known = ["http", "https", "unix"];
    let known = known
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known))?;
    let rest = address.get(scheme.len()..)?;
    Some(format!("{known}{rest}"))
}

/// Whether others can read what is sent to `address`: it is neither encrypted nor on this machine. In doubt they can.
pub fn is_readable_on_the_way(address: &str, tls: &ClientTls) -> bool {
    let Some(uri) = uri_of(address, tls.is_given()) else {
        return true;
    };
    if uri.starts_with("https:") || uri.starts_with("unix:") {
        return false;
    }
    let parsed = http::Uri::try_from(&*uri).ok();
    let Some(host) = parsed.as_ref().and_then(http::Uri::host) else {
        return true;
    };
    let bare = host.trim_matches(['[', ']']);
    let is_here = host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_encrypted_nor_here_can_be_read() {
        for readable in [
            "pdp:1",
            "http://10.0.0.1:1",
            "http://localhost.evil:1",
            "0.0.0.0:1",
            "HTTP://pdp:1",
            "grpc://127.0.0.1:1",
            "h2c://pdp:1",
            "dns://pdp:1",
        ] {
            assert!(
                is_readable_on_the_way(readable, &ClientTls::default()),
                "{readable}"
            );
        }
        for hidden in [
            "https://pdp:1",
            "HTTPS://pdp:1",
            "127.0.0.1:1",
            "http://localhost:1",
            "http://[::1]:1",
            "unix:/run/s",
        ] {
            assert!(
                !is_readable_on_the_way(hidden, &ClientTls::default()),
                "{hidden}"
            );
        }
    }
}
