//! Where connections come in: who is at the other end, and whether there is room.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::audit::refusal_record::RefusalFacts;
use crate::config::LimitsConfig;
use crate::grpc::{Api, Connection};
use crate::identity::Tls;
use crate::usecase::Refusals;
use crate::usecase::observing::{ConnectionRefusal, Observer};
use crate::usecase::ports::{Clock, Peer};

use super::connection::{Serving, serve};
use super::cores::Accepted;
use super::introduced::{Introduced, PREFACE};
use super::open_connections::OpenConnections;

/// How long a peer may take to introduce itself.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many addresses it takes to have all handshakes, and what one of them may have at least.
const ADDRESSES_AT_ONCE: usize = 16;
const SMALLEST_SHARE: usize = 8;
/// How often to look for the rest of it.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// Where connections come in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    pub(super) api: Api,
    tls: Option<Arc<Tls>>,
    handshakes: Arc<Semaphore>,
    /// Handshakes by address: one host cannot keep all others out.
    shaking: Arc<CallerConnections>,
    hasher: RandomState,
    by_caller: Arc<CallerConnections>,
    pub(super) open: Arc<OpenConnections>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
}

/// Who is told of what is turned away.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeping {
    pub(super) refusals: Arc<Refusals>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A peer that showed a certificate, or none, and was believed.
struct Welcome {
    peer: Peer,
    chain: Vec<CertificateDer<'static>>,
    until: Option<Timestamp>,
}

impl Entrance {
    /// Lets connections in to `api`, by TLS if there is any.
    pub(super) fn new(
        api: Api,
        tls: Option<Arc<Tls>>,
        limits: &LimitsConfig,
        keeping: Doorkeeping,
    ) -> Self {
        Self {
            api,
            tls,
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            shaking: Arc::new(CallerConnections {
                limit: limits
                    .handshakes
                    .div_ceil(ADDRESSES_AT_ONCE)
                    .max(SMALLEST_SHARE),
                open: Mutex::default(),
            }),
            hasher: RandomState::new(),
            by_caller: Arc::new(CallerConnections {
                limit: limits.connections_per_caller,
                open: Mutex::default(),
            }),
            open: Arc::default(),
            refusals: keeping.refusals,
            observer: keeping.observer,
            clock: keeping.clock,
        }
    }

    /// Serves one connection until it ends.
    pub(super) async fn serve(self, accepted: Accepted, serving: Serving) {
        match accepted {
            Accepted::Tcp(stream, address) => {
                // A stream that cannot be prepared is closed; its peer sees that.
                let Ok(stream) = TcpStream::from_std(stream) else {
                    return;
                };
                match self.tls.clone() {
                    Some(tls) => self.serve_tls(&tls, (stream, address), serving).await,
                    None => self.serve_plain((stream, address), serving).await,
                }
            }
            Accepted::Unix(stream) => {
                let Ok(stream) = UnixStream::from_std(stream) else {
                    return;
                };
                let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
                let _open = self.open.unix();
                if self.is_in_time(speaks(&stream), &serving.stop).await {
                    let peer = Peer::Local { user };
                    self.serve_peer(stream, peer, serving, std::future::pending())
                        .await;
                }
            }
        }
    }

    async fn serve_plain(&self, (stream, address): (TcpStream, SocketAddr), serving: Serving) {
        let _open = self.open.tcp();
        if self.is_in_time(is_introduced(&stream), &serving.stop).await {
            let peer = Peer::Network {
                address: address.to_string(),
            };
            self.serve_peer(stream, peer, serving, std::future::pending())
                .await;
        }
    }

    async fn serve_tls(
        &self,
        tls: &Arc<Tls>,
        (stream, address): (TcpStream, SocketAddr),
        serving: Serving,
    ) {
        let _open = self.open.tls();
        let share = self.shaking.enter(self.hasher.hash_one(address.ip()));
        let turn = Arc::clone(&self.handshakes).try_acquire_owned();
        let (Some(share), Ok(turn)) = (share, turn) else {
            self.observer
                .connection_refused(ConnectionRefusal::Handshake);
            return;
        };
        // Heard from before the certificates are taken, so that no reload goes by unseen.
        let reloads = tls.generations();
        let generation = tls.current();
        let acceptor = TlsAcceptor::from(Arc::clone(&generation.server));
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => shaken,
            () = serving.stop.cancelled() => return,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handshake_failed(address, &error.to_string()),
            Err(_) => return self.handshake_failed(address, "it took too long"),
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let chain: Vec<_> = certificates
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let welcome = match generation.peer(certificates) {
            Ok(None) => Welcome {
                peer: Peer::Network {
                    address: address.to_string(),
                },
                chain,
                until: None,
            },
            Ok(Some(svid)) => Welcome {
                peer: Peer::Certified {
                    address: address.to_string(),
                    spiffe_id: svid.id.to_string(),
                },
                chain,
                until: Some(svid.not_after),
            },
            Err(fault) => return self.handshake_failed(address, &fault.to_string()),
        };
        drop((turn, share));
        let Some(stream) = self.introduced(stream, &serving.stop).await else {
            return;
        };
        let expires = self.left(welcome.until);
        let distrusted = async {
            let judged = until_distrusted(
                (Arc::clone(tls), Arc::clone(&self.clock)),
                reloads,
                welcome.chain,
            );
            tokio::select! {
                () = judged => {}
                () = expires => {}
            }
        };
        self.serve_peer(stream, welcome.peer, serving, distrusted)
            .await;
    }

    /// Waits until a certificate that is good `until` then is so no more.
    fn left(&self, until: Option<Timestamp>) -> impl Future<Output = ()> + Send + 'static {
        let left = until.map(|until| until.duration_since(self.clock.now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or(Duration::ZERO));
        async move {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The connection, once its peer has introduced itself.
    async fn introduced<IO: tokio::io::AsyncRead + Unpin>(
        &self,
        io: IO,
        stop: &CancellationToken,
    ) -> Option<Introduced<IO>> {
        let waiting = tokio::time::timeout(INTRODUCTION_TIMEOUT, Introduced::wait(io));
        let introduced = tokio::select! {
            introduced = waiting => introduced,
            () = stop.cancelled() => return None,
        };
        if let Ok(Ok(stream)) = introduced {
            return Some(stream);
        }
        self.observer
            .connection_refused(ConnectionRefusal::Introduction);
        None
    }

    async fn serve_peer<IO>(
        &self,
        stream: IO,
        peer: Peer,
        serving: Serving,
        distrusted: impl Future<Output = ()>,
    ) where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let connection: Arc<Connection> = self.api.gatekeeper().connected(peer);
        let Some(_counted) = self.by_caller.enter(connection.caller_key()) else {
            self.observer
                .connection_refused(ConnectionRefusal::TooManyOfCaller);
            return;
        };
        let distrusted = async {
            distrusted.await;
            // From here on no call is let in, whatever the peer makes of being asked to leave.
            connection.distrust();
        };
        let served = (self.api.clone(), Arc::clone(&connection));
        serve(stream, served, serving, distrusted).await;
    }

    fn handshake_failed(&self, address: SocketAddr, why: &str) {
        self.observer
            .connection_refused(ConnectionRefusal::Handshake);
        self.refusals.record(&RefusalFacts {
            reason: ConnectionRefusal::Handshake.name(),
            detail: why,
            peer: &address.to_string(),
            ..RefusalFacts::default()
        });
    }

    /// Waits for a peer to introduce itself; one that is not done is not waited for when the server stops.
    async fn is_in_time(
        &self,
        introduction: impl Future<Output = io::Result<bool>>,
        stop: &CancellationToken,
    ) -> bool {
        let is_introduced = tokio::select! {
            done = tokio::time::timeout(INTRODUCTION_TIMEOUT, introduction) => matches!(done, Ok(Ok(true))),
            () = stop.cancelled() => return false,
        };
        if !is_introduced {
            self.observer
                .connection_refused(ConnectionRefusal::Introduction);
        }
        is_introduced
    }
}

/// Waits until the certificates in force do not vouch any more for a peer with `chain`. A peer without a certificate is not concerned.
async fn until_distrusted(
    (tls, clock): (Arc<Tls>, Arc<dyn Clock>),
    mut reloads: watch::Receiver<u64>,
    chain: Vec<CertificateDer<'static>>,
) {
    while reloads.changed().await.is_ok() {
        let is_trusted = tls.current().still_vouches(Some(&chain), clock.now());
        if !chain.is_empty() && !is_trusted {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Waits for the words that begin a connection, and leaves them to be read: what reads them waits for ever.
async fn is_introduced(stream: &TcpStream) -> io::Result<bool> {
    let mut words = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut words).await?;
        let is_begun = length > 0 && words.get(..length) == PREFACE.get(..length);
        if !is_begun || length == words.len() {
            return Ok(is_begun);
        }
        // What has been seen and not read wakes nobody up, and neither does what comes behind it.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

/// Waits for a first byte. Processes of this machine that may use the socket are trusted with the rest.
async fn speaks(stream: &UnixStream) -> io::Result<bool> {
    stream.readable().await.map(|()| true)
}

/// How many connections each caller has.
#[derive(Debug)]
struct CallerConnections {
    limit: usize,
    open: Mutex<HashMap<u64, usize>>,
}

/// One connection of a caller.
struct Counted<'a>(&'a CallerConnections, u64);

impl CallerConnections {
    fn enter(&self, caller: u64) -> Option<Counted<'_>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(caller).or_default();
        if *count >= self.limit {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Counted(self, caller))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}
