//! The serving threads: on each a runtime of its own, so that a call never leaves the core it came to.
//!
//! Measured beside tokio's multi-thread runtime: one thread that keeps its calls gathers many answers into one write.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, to_std};
use crate::grpc::FairGate;
use crate::usecase::observing::{ConnectionRefusal, Observer};

use super::StartError;
use super::coarse_timer::CoarseTimer;
use super::connection::{ConnectionLimits, Serving};
use super::entrance::Entrance;
use super::parts::serving_threads;

/// The stack of every thread that evaluates policies. Cedar needs 100 KiB to be left, and deep policies use several.
pub(super) const STACK_BYTES: usize = 8 * 1024 * 1024;
/// How many long evaluations one core's runtime runs at a time, beside serving.
const LONG_EVALUATIONS: usize = 2;

/// A connection on its way to a core.
#[derive(Debug)]
pub(super) enum Accepted {
    /// From the network.
    Tcp(TcpStream, SocketAddr),
    /// From a process on this machine.
    Unix(UnixStream),
}

/// One serving thread.
#[derive(Debug)]
struct Core {
    connections: mpsc::UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

/// Hands connections to the core that has fewest.
#[derive(Clone, Debug)]
pub(super) struct Dispatcher {
    observer: Arc<dyn Observer>,
    cores: Vec<(mpsc::UnboundedSender<Accepted>, Arc<AtomicUsize>)>,
    max_connections: usize,
}

impl Dispatcher {
    /// Hands over `connection`, or closes it if there are too many.
    pub(super) fn dispatch(&self, connection: Accepted) {
        if !self.hand_over(connection) {
            self.observer.connection_refused(ConnectionRefusal::TooMany);
        }
    }

    fn hand_over(&self, connection: Accepted) -> bool {
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
    observer: Arc<dyn Observer>,
    gates: Vec<FairGate>,
}

impl Cores {
    /// Starts the configured number of threads.
    pub(super) fn start(config: &Config, entrance: &Entrance) -> Result<Self, StartError> {
        let fair = config.limits.fair_settings();
        let config = &config.server;
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let drain_timeout = Arc::new(std::sync::OnceLock::new());
        let limits = ConnectionLimits {
            max_concurrent_streams: config.max_concurrent_streams,
            max_age: to_std(config.max_connection_age),
        };
        let (mut cores, mut gates) = (Vec::new(), Vec::new());
        for number in 0..serving_threads(config.threads) {
            let (connections, inbox) = mpsc::unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let gate = FairGate::new(fair);
            gates.push(gate.clone());
            let worker = Worker {
                inbox,
                open: Arc::clone(&open),
                entrance: entrance.clone(),
                gate,
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
            observer: Arc::clone(&entrance.observer),
            gates,
        })
    }

    /// What hands connections to these cores.
    pub(super) fn dispatcher(&self) -> Dispatcher {
        Dispatcher {
            observer: Arc::clone(&self.observer),
            cores: self
                .threads
                .iter()
                .map(|core| (core.connections.clone(), Arc::clone(&core.open)))
                .collect(),
            max_connections: self.max_connections,
        }
    }

    /// Where calls wait for their turns, one for each thread.
    pub(super) fn gates(&self) -> Vec<FairGate> {
        self.gates.clone()
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
    inbox: mpsc::UnboundedReceiver<Accepted>,
    open: Arc<AtomicUsize>,
    entrance: Entrance,
    gate: FairGate,
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
        self.entrance.api = self.entrance.api.taking_turns_at(self.gate.clone());
        let turns = self.gate.clone().run();
        tasks.spawn(self.stop.clone().run_until_cancelled_owned(turns));
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

    fn serve(&self, accepted: Accepted) -> impl Future<Output = ()> + Send + 'static {
        let limits = ConnectionLimits {
            max_age: jittered(self.limits.max_age),
            ..self.limits
        };
        let serving = Serving {
            limits,
            clock: self.clock.clone(),
            stop: self.stop.clone(),
        };
        let entrance = self.entrance.clone();
        let open = OpenConnection(Arc::clone(&self.open));
        async move {
            let _open = open;
            entrance.serve(accepted, serving).await;
        }
    }
}

struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A tenth more or less, so that connections that began together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}
