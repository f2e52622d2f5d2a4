//! The serving threads: on each a runtime of its own, so that a call never leaves the core it came to.
//!
//! Measured beside tokio's multi-thread runtime: one thread that keeps its calls gathers many answers into one write.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{ServerConfig, to_std};
use crate::grpc::Api;

use super::StartError;
use super::coarse_timer::CoarseTimer;
use super::connection::{ConnectionLimits, serve};
use super::parts::serving_threads;

/// The stack of every thread that evaluates policies. Cedar needs 100 KiB to be left, and deep policies use several.
pub(super) const STACK_BYTES: usize = 8 * 1024 * 1024;
/// How long a peer may take to introduce itself.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(10);
/// What every client of HTTP/2 says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often to look for the rest of it.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
/// How many long evaluations one core's runtime runs at a time, beside serving.
const LONG_EVALUATIONS: usize = 2;

/// A connection on its way to a core.
#[derive(Debug)]
pub(super) enum Connection {
    /// From the network.
    Tcp(TcpStream),
    /// From a process on this machine.
    Unix(UnixStream),
}

/// One serving thread.
#[derive(Debug)]
struct Core {
    connections: mpsc::UnboundedSender<Connection>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

/// Hands connections to the core that has fewest.
#[derive(Clone, Debug)]
pub(super) struct Dispatcher {
    cores: Vec<(mpsc::UnboundedSender<Connection>, Arc<AtomicUsize>)>,
    max_connections: usize,
}

impl Dispatcher {
    /// Hands over `connection`; answers false if there are too many.
    pub(super) fn dispatch(&self, connection: Connection) -> bool {
        let open: usize = self
            .cores
            .iter()
            .map(|(_, open)| open.load(Ordering::Relaxed))
            .sum();
        if open >= self.max_connections {
            return false;
        }
        let least = self
            .cores
            .iter()
            .min_by_key(|(_, open)| open.load(Ordering::Relaxed));
        let Some((core, open)) = least else {
            return false;
        };
        open.fetch_add(1, Ordering::Relaxed);
        core.send(connection).is_ok()
    }
}

/// All serving threads.
#[derive(Debug)]
pub(super) struct Cores {
    threads: Vec<Core>,
    stop: CancellationToken,
    /// Ends the draining before its time.
    hurry: CancellationToken,
    drain_timeout: Arc<std::sync::OnceLock<Duration>>,
    max_connections: usize,
}

impl Cores {
    /// Starts the configured number of threads.
    pub(super) fn start(config: &ServerConfig, api: &Api) -> Result<Self, StartError> {
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let drain_timeout = Arc::new(std::sync::OnceLock::new());
        let limits = ConnectionLimits {
            max_concurrent_streams: config.max_concurrent_streams,
            max_age: to_std(config.max_connection_age),
        };
        let mut cores = Vec::new();
        for number in 0..serving_threads(config.threads) {
            let (connections, inbox) = mpsc::unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let worker = Worker {
                inbox,
                open: Arc::clone(&open),
                api: api.clone(),
                clock: CoarseTimer::default(),
                limits,
                stop: stop.clone(),
                hurry: hurry.clone(),
                drain_timeout: Arc::clone(&drain_timeout),
            };
            let thread = worker.start(number)?;
            cores.push(Core {
                connections,
                open,
                thread,
            });
        }
        Ok(Self {
            threads: cores,
            stop,
            hurry,
            drain_timeout,
            max_connections: config.max_connections,
        })
    }

    /// What hands connections to these cores.
    pub(super) fn dispatcher(&self) -> Dispatcher {
        Dispatcher {
            cores: self
                .threads
                .iter()
                .map(|core| (core.connections.clone(), Arc::clone(&core.open)))
                .collect(),
            max_connections: self.max_connections,
        }
    }

    /// What ends the draining at once, for whoever is in a hurry.
    pub(super) fn hurry(&self) -> CancellationToken {
        self.hurry.clone()
    }

    /// Asks every peer to leave, waits at most `timeout`, and answers how many connections were cut off.
    pub(super) fn drain(self, timeout: Duration) -> usize {
        // Set before the order to stop, so whoever hears the order finds it.
        let _ = self.drain_timeout.set(timeout);
        self.stop.cancel();
        let joined = self.threads.into_iter().map(|core| core.thread.join());
        joined.map(|left| left.unwrap_or(0)).sum()
    }
}

struct Worker {
    inbox: mpsc::UnboundedReceiver<Connection>,
    open: Arc<AtomicUsize>,
    api: Api,
    clock: CoarseTimer,
    limits: ConnectionLimits,
    stop: CancellationToken,
    hurry: CancellationToken,
    drain_timeout: Arc<std::sync::OnceLock<Duration>>,
}

impl Worker {
    fn start(self, number: usize) -> Result<JoinHandle<usize>, StartError> {
        let failed = |source| StartError::Thread {
            what: "serving thread",
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(STACK_BYTES)
            .max_blocking_threads(LONG_EVALUATIONS)
            .thread_name(format!("evaluate-{number}"))
            .build()
            .map_err(failed)?;
        std::thread::Builder::new()
            .name(format!("serve-{number}"))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let cut_off = runtime.block_on(self.run());
                runtime.shutdown_background();
                cut_off
            })
            .map_err(failed)
    }

    /// Serves until told to stop; answers how many connections had to be cut off.
    async fn run(mut self) -> usize {
        let tasks = TaskTracker::new();
        let ticking = self.clock.clone();
        tasks.spawn(
            self.stop
                .clone()
                .run_until_cancelled_owned(async move { ticking.tick().await }),
        );
        loop {
            let connection = tokio::select! {
                connection = self.inbox.recv() => connection,
                () = self.stop.cancelled() => None,
            };
            let Some(connection) = connection else {
                break;
            };
            tasks.spawn(self.serve(connection));
        }
        tasks.close();
        let timeout = self.drain_timeout.get().copied().unwrap_or_default();
        tokio::select! {
            () = tasks.wait() => {}
            () = tokio::time::sleep(timeout) => {}
            () = self.hurry.cancelled() => {}
        }
        tasks.len()
    }

    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        let (api, stop, clock) = (self.api.clone(), self.stop.clone(), self.clock.clone());
        let limits = ConnectionLimits {
            max_age: jittered(self.limits.max_age),
            ..self.limits
        };
        let open = OpenConnection(Arc::clone(&self.open));
        async move {
            let _open = open;
            match connection {
                Connection::Tcp(stream) => {
                    // A stream that cannot be prepared is closed; its peer sees that.
                    if let Ok(stream) = tokio::net::TcpStream::from_std(stream)
                        && is_in_time(is_introduced(&stream), &stop).await
                    {
                        serve(stream, api, limits, clock, stop).await;
                    }
                }
                Connection::Unix(stream) => {
                    if let Ok(stream) = tokio::net::UnixStream::from_std(stream)
                        && is_in_time(speaks(&stream), &stop).await
                    {
                        serve(stream, api, limits, clock, stop).await;
                    }
                }
            }
        }
    }
}

struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for a peer to introduce itself; one that is not done is not waited for when the server stops.
async fn is_in_time(
    introduction: impl Future<Output = io::Result<bool>>,
    stop: &CancellationToken,
) -> bool {
    tokio::select! {
        done = tokio::time::timeout(INTRODUCTION_TIMEOUT, introduction) => matches!(done, Ok(Ok(true))),
        () = stop.cancelled() => false,
    }
}

/// Waits for the words that begin a connection, and leaves them to be read: what reads them waits for ever.
async fn is_introduced(stream: &tokio::net::TcpStream) -> io::Result<bool> {
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
async fn speaks(stream: &tokio::net::UnixStream) -> io::Result<bool> {
    stream.readable().await.map(|()| true)
}

/// A tenth more or less, so that connections that began together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}
