//! Listens, and hands connections to the serving threads.
//!
//! One listener hands out to all threads, to the one with the fewest connections. Sharing the port among listeners would leave the
//! choice to a hash, which with few and long connections leaves threads idle, and would let a second process share it unseen.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;

use super::cores::{Accepted, Cores, Dispatcher};
use super::{Addresses, StartError};

/// How long to wait after an accept failed, as it does when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Everything that is listened on.
#[derive(Debug)]
pub(super) struct Listeners {
    addresses: Addresses,
    stop: CancellationToken,
}

impl Listeners {
    /// Listens on all configured addresses.
    pub(super) fn start(
        config: &ServerConfig,
        runtime: &Runtime,
        cores: &Cores,
    ) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let mut tcp = Vec::new();
        for address in &config.listen {
            tcp.push(listen_tcp(
                *address,
                runtime,
                cores.dispatcher(),
                stop.clone(),
            )?);
        }
        if let Some(path) = &config.unix {
            listen_unix(path, runtime, cores.dispatcher(), stop.clone()).map_err(|source| {
                StartError::Listen {
                    address: path.display().to_string(),
                    source,
                }
            })?;
        }
        let addresses = Addresses {
            tcp,
            unix: config.unix.clone(),
        };
        Ok(Self { addresses, stop })
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Takes no more connections.
    pub(super) fn stop(&self) {
        self.stop.cancel();
        if let Some(path) = &self.addresses.unix {
            // Left behind it does no harm: the next start removes a socket nobody listens on.
            std::fs::remove_file(path).ok();
        }
    }
}

fn listen_tcp(
    address: SocketAddr,
    runtime: &Runtime,
    dispatcher: Dispatcher,
    stop: CancellationToken,
) -> Result<SocketAddr, StartError> {
    let listen = |source| StartError::Listen {
        address: address.to_string(),
        source,
    };
    let listener = runtime
        .block_on(TcpListener::bind(address))
        .map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    runtime.spawn(stop.run_until_cancelled_owned(async move {
        loop {
            let accepted = listener.accept().await.and_then(|(stream, address)| {
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream.into_std()?, address))
            });
            hand_over(accepted, &dispatcher).await;
        }
    }));
    Ok(bound)
}

fn listen_unix(
    path: &Path,
    runtime: &Runtime,
    dispatcher: Dispatcher,
    stop: CancellationToken,
) -> io::Result<()> {
    remove_stale(path)?;
    let _entered = runtime.enter();
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    runtime.spawn(stop.run_until_cancelled_owned(async move {
        loop {
            let accepted = listener
                .accept()
                .await
                .and_then(|(stream, _)| stream.into_std());
            hand_over(accepted.map(Accepted::Unix), &dispatcher).await;
        }
    }));
    Ok(())
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(());
    };
    // Connecting to a file is refused as to a socket that nobody listens on; only the latter is ours to remove.
    if !metadata.file_type().is_socket() {
        let message = "it exists and is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

async fn hand_over(accepted: io::Result<Accepted>, dispatcher: &Dispatcher) {
    match accepted {
        Ok(connection) => dispatcher.dispatch(connection),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}
