//! The operators' port: plain HTTP, for those who run the server.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::StartError;

/// A listening port; it closes with this value.
#[derive(Debug)]
pub(super) struct Operators {
    pub(super) address: SocketAddr,
    stop: CancellationToken,
}

impl Operators {
    /// Serves `router` at `address` on `background`.
    pub(super) fn start(
        address: SocketAddr,
        router: Router,
        background: &Runtime,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen {
            address: address.to_string(),
            source,
        };
        let listener = background
            .block_on(TcpListener::bind(address))
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        background.spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stopped);
            if let Err(error) = served.await {
                tracing::error!(%error, "the operators' port is closed");
            }
        });
        Ok(Self { address, stop })
    }
}

impl Drop for Operators {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
