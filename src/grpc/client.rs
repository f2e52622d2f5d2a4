//! Connects to a server, for the command line.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not a URI.
    #[error("`{address}` is not an address: write `http://host:port` or `unix:/path/to/socket`")]
    BadAddress {
        /// What was given.
        address: String,
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

/// Connects to `address`: `host:port`, `http://host:port` or `unix:/path`.
///
/// # Errors
/// When the address cannot be read or nobody answers within 5 s.
pub async fn connect(address: &str) -> Result<Channel, ConnectError> {
    let uri = if address.contains("://") || address.starts_with("unix:") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| ConnectError::BadAddress {
        address: address.to_owned(),
    })?;
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .connect()
        .await
        .map_err(|source| ConnectError::Unreachable {
            address: address.to_owned(),
            source,
        })
}
