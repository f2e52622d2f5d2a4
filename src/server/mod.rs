//! Plugs the parts together and runs them.
//!
//! Place: floor 5, the only place that names concrete parts.
//! Never: a decision, a wire format, an exit code.

mod audit;
mod background;
mod clock;
mod coarse_timer;
mod connection;
mod cores;
mod entrance;
mod health;
mod identities;
mod introduced;
mod listen;
mod open_connections;
mod operators;
mod parts;
mod sample;
mod sips;
mod stores;
mod systemd;
mod vitals;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};

use crate::channel::{DestinationError, Destinations};
use crate::config::{Config, to_std};
use crate::grpc::{Api, ApprovalApi, AuditApi, Gatekeeper};
use crate::http;
use crate::model::PolicyProblem;
use crate::usecase::Refusals;
use crate::usecase::observing::Vitals;
use crate::usecase::ports::{Authentication, Channels, Clock};

pub use clock::SystemClock;
pub use parts::{Parts, Surroundings, compile_options};
pub use sample::SampleSet;
pub use watch::Signals;

use audit::AuditTasks;
use background::ApprovalTasks;
use cores::Cores;
use entrance::{Doorkeeping, Entrance};
use health::Health;
use identities::Identities;
use listen::Listeners;
use operators::Operators;
use vitals::{CountedApprovals, ServerVitals};
use watch::Reloads;

/// The services whose health is told.
const SERVICES: [&str; 5] = [
    "",
    "countersign.v1.ApprovalService",
    "countersign.v1.AuditService",
    "countersign.v1.AuthorizationService",
    "countersign.v1.PolicyService",
];

/// How often callers that have not called for long are forgotten.
const TIDY: Duration = Duration::from_secs(5);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address or path.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A thread or runtime cannot be started.
    #[error("cannot start the {what}")]
    Thread {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The services cannot be described to clients.
    #[error("the API's descriptors cannot be read: {0}")]
    Descriptors(String),
    /// Callers cannot be told, or nobody may call.
    #[error("nobody could be let in")]
    Identity(#[source] anyhow::Error),
    /// The store of approvals cannot be used.
    #[error("the approvals cannot be kept")]
    Store(#[source] anyhow::Error),
    /// The audit log cannot be used.
    #[error("the audit log cannot be kept")]
    Audit(#[source] anyhow::Error),
    /// A place where people are told is configured wrongly.
    #[error("the configuration is not right")]
    Destination(#[from] DestinationError),
    /// An evaluation on a serving thread does not come out as it must.
    #[error("the start-up self-test failed: {0}")]
    SelfTest(String),
}

/// Where a running server listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// TCP addresses, with the ports that were chosen.
    pub tcp: Vec<SocketAddr>,
    /// The unix socket.
    pub unix: Option<PathBuf>,
}

/// A server that runs until it is stopped.
#[derive(Debug)]
pub struct Server {
    vitals: Arc<ServerVitals>,
    addresses: Addresses,
    background: Arc<Runtime>,
    approval_tasks: Option<ApprovalTasks>,
    audit_tasks: Option<AuditTasks>,
    operators: Option<Operators>,
    cores: Cores,
    listeners: Listeners,
    health: Health,
    drain_timeout: Duration,
    identities: Identities,
    refusals: Arc<Refusals>,
    /// Ends what runs beside the calls.
    stop: CancellationToken,
    _watch: watch::WatchThread,
    parts: Parts,
}

impl Server {
    /// Starts to serve. Policies that cannot be loaded do not keep the server from starting: it tells so, answers UNAVAILABLE and is
    /// `NOT_SERVING` until they can.
    ///
    /// # Errors
    /// When it cannot listen or start its threads.
    pub fn start(config: &Config, parts: Parts) -> Result<Self, StartError> {
        parts::self_test().map_err(StartError::SelfTest)?;
        let background = match &parts.background {
            Some(runtime) => Arc::clone(runtime),
            None => background::start_runtime()?,
        };
        let audit = parts.audit.clone();
        let started = Self::start_on(Arc::clone(&background), config, parts);
        if let (Err(_), Some(audit)) = (&started, audit) {
            // The log was begun already, and nobody shall take this replica for one that was lost.
            audit.stop(&background);
        }
        started
    }

    fn start_on(
        background: Arc<Runtime>,
        config: &Config,
        parts: Parts,
    ) -> Result<Self, StartError> {
        let identities = Identities::open(config, &parts.clock)?;
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health::new(reporter);
        let is_loaded = parts.reloader.active().load().is_some();
        background.block_on(health.set(is_loaded));
        let entrance = open_entrance(
            config,
            &parts,
            &identities,
            (health_service, background.handle().clone()),
        )?;
        let cores = Cores::start(config, &entrance)?;
        let stop = CancellationToken::new();
        identities.start(background.handle(), &stop);
        background.spawn(
            stop.clone()
                .run_until_cancelled_owned(tidy(entrance.clone())),
        );
        // Before anybody can ask for a reload: the first good one must not go by unseen.
        let watch = watch::start(
            &parts,
            to_std(config.policy.rescan_interval),
            health.clone(),
            background.handle(),
        )?;
        let channels: Arc<dyn Channels> = Arc::new(Destinations::new(&config.channels.webhook)?);
        let approval_tasks = ApprovalTasks::start(&parts, &channels, background.handle());
        let audit_tasks = parts.audit.as_ref().map(|audit| {
            let told = (health.clone(), Arc::clone(&parts.reloader));
            AuditTasks::start(audit, told, background.handle())
        });
        let vitals = vitals(
            &parts,
            &cores,
            (&entrance, &identities, &health),
            (background.handle(), &stop),
        );
        let operators = match config.server.operators {
            Some(address) => {
                let router = operators_router(&parts, vitals.clone())?;
                Some(Operators::start(address, router, &background)?)
            }
            None => None,
        };
        let listeners = Listeners::start(&config.server, &background, &cores)?;
        Ok(Self {
            vitals,
            addresses: listeners.addresses().clone(),
            background,
            approval_tasks,
            audit_tasks,
            operators,
            cores,
            listeners,
            health,
            drain_timeout: to_std(config.server.drain_timeout),
            identities,
            refusals: Arc::clone(&entrance.refusals),
            stop,
            _watch: watch,
            parts,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where it listens for those who run it.
    pub fn operators_address(&self) -> Option<SocketAddr> {
        self.operators.as_ref().map(|operators| operators.address)
    }

    /// Tells how it stands.
    pub fn vitals(&self) -> Arc<dyn Vitals> {
        self.vitals.clone()
    }

    /// What it is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Begins to receive signals, so that from here on none of them ends the process by itself.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn signals(&self) -> std::io::Result<Signals> {
        let _entered = self.background.enter();
        Signals::receive()
    }

    /// Reads policies, certificates and keys again, as SIGHUP does. What cannot be used is not, and what is in force stays.
    pub fn reload(&self) {
        self.background.block_on(self.reloads().run());
    }

    fn reloads(&self) -> Reloads {
        Reloads {
            reloader: Arc::clone(&self.parts.reloader),
            identities: self.identities.clone(),
        }
    }

    /// Serves until SIGTERM or SIGINT, reloading at each SIGHUP, and then stops; a second SIGTERM or SIGINT cuts off what is under way.
    ///
    /// Answers how many connections were cut off.
    pub fn run(self, mut signals: Signals) -> usize {
        let reloads = self.reloads();
        systemd::ready();
        self.background
            .spawn(systemd::keep_alive(self.stop.clone()));
        self.background
            .block_on(signals.until_stopped(Some(&reloads)));
        systemd::stopping();
        tracing::info!("stopping: calls under way may end");
        let hurry = self.cores.hurry();
        self.background.spawn(async move {
            signals.until_stopped(None).await;
            hurry.cancel();
        });
        self.stop()
    }

    /// Stops: tells health checks, takes no new connections, lets calls under way end, at most for the drain timeout.
    ///
    /// Answers how many connections were cut off.
    pub fn stop(self) -> usize {
        self.background.block_on(self.health.stop());
        self.listeners.stop();
        if let Some(tasks) = &self.approval_tasks {
            tasks.stop_watching();
        }
        let cut_off = self.cores.drain(self.drain_timeout);
        self.stop.cancel();
        drop((self.approval_tasks, self.audit_tasks, self.operators));
        self.refusals.flush();
        // Behind the last call, so that its decision is in the log.
        if let Some(audit) = &self.parts.audit {
            audit.stop(&self.background);
        }
        drop(self.parts);
        if let Some(runtime) = Arc::into_inner(self.background) {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        cut_off
    }
}

fn audit_api(config: &Config, parts: &Parts, files: Handle) -> Result<AuditApi, StartError> {
    let logs = match &parts.audit {
        Some(audit) => {
            let library = audit.library().map_err(StartError::Audit)?;
            Some((library, audit.read_log()))
        }
        None => None,
    };
    Ok(AuditApi::new(logs, &config.audit.readers, files))
}

/// The way in: everything that is served, for whom, by what transport.
fn open_entrance<H: HealthService>(
    config: &Config,
    parts: &Parts,
    identities: &Identities,
    (health, files): (HealthServer<H>, Handle),
) -> Result<Entrance, StartError> {
    let keeping = doorkeeping(parts);
    let authentication: Arc<dyn Authentication> = identities.authenticator.clone();
    let gatekeeper = Gatekeeper::new(
        authentication,
        Arc::clone(&keeping.refusals),
        Arc::clone(&keeping.observer),
    );
    let approvals = ApprovalApi::new(parts.approvals.clone());
    let api = Api::new(
        (&parts.authorizer, &parts.reloader),
        (approvals, audit_api(config, parts, files)?),
        health,
        Arc::new(gatekeeper),
    );
    let api = api.map_err(|error| StartError::Descriptors(error.to_string()))?;
    let tls = identities.tls.clone();
    Ok(Entrance::new(api, tls, &config.limits, keeping))
}

/// What those who run the server can ask over HTTP.
fn operators_router(parts: &Parts, vitals: Arc<dyn Vitals>) -> Result<Router, StartError> {
    let library = parts.audit.as_ref().map(|audit| audit.library());
    let library = library.transpose().map_err(StartError::Audit)?;
    let logs = library.map(http::router).unwrap_or_default();
    Ok(logs.merge(http::operators(vitals, parts.metrics.clone())))
}

/// Who is told of what is turned away.
fn doorkeeping(parts: &Parts) -> Doorkeeping {
    let log = parts.audit.as_ref().map(|audit| audit.decision_log());
    let (observer, clock) = (Arc::clone(&parts.observer), Arc::clone(&parts.clock));
    let refusals = Refusals::new(log, Arc::clone(&observer), Arc::clone(&clock));
    Doorkeeping {
        refusals: Arc::new(refusals),
        observer,
        clock,
    }
}

/// Reads the certificates that `config` names, and checks everything that callers are known by, without serving.
///
/// # Errors
/// What a server would not start with.
pub fn check_identities(config: &Config) -> Result<(), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Identities::open(config, &clock).map(drop)
}

/// Starts the runtime that everything but decisions works on.
///
/// # Errors
/// When threads cannot be started.
pub fn start_background() -> Result<Arc<Runtime>, StartError> {
    background::start_runtime()
}

/// What tells how the server stands; counts approvals until `stop`.
fn vitals(
    parts: &Parts,
    cores: &Cores,
    (entrance, identities, health): (&Entrance, &Identities, &Health),
    (background, stop): (&Handle, &CancellationToken),
) -> Arc<ServerVitals> {
    let counted = Arc::<CountedApprovals>::default();
    if let Some(approvals) = &parts.approvals {
        let counting = Arc::clone(&counted).keep_counting(Arc::clone(approvals));
        background.spawn(stop.clone().run_until_cancelled_owned(counting));
    }
    Arc::new(ServerVitals {
        reloader: Arc::clone(&parts.reloader),
        approvals: counted,
        audit: parts.audit.as_ref().map(|audit| audit.watched()),
        open: Arc::clone(&entrance.open),
        gates: cores.gates(),
        identities: identities.clone(),
        health: health.clone(),
    })
}

/// Forgets callers that have not called for long.
async fn tidy(entrance: Entrance) {
    let mut interval = background::every(TIDY);
    loop {
        interval.tick().await;
        entrance.api.gatekeeper().tidy();
        entrance.refusals.flush();
    }
}

/// The problems of the last load, for whoever started the server.
pub fn load_problems(parts: &Parts) -> Vec<PolicyProblem> {
    parts
        .reloader
        .last_attempt()
        .map(|attempt| attempt.problems)
        .unwrap_or_default()
}
