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
mod listen;
mod operators;
mod parts;
mod sample;
mod stores;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::channel::{DestinationError, Destinations};
use crate::config::{Config, to_std};
use crate::grpc::{Api, ApprovalApi, AuditApi};
use crate::http;
use crate::identity::{DevelopmentLogins, NoLogins};
use crate::model::PolicyProblem;
use crate::usecase::ports::{Channels, Credentials};

pub use clock::SystemClock;
pub use parts::{Parts, compile_options};
pub use sample::SampleSet;
pub use watch::Signals;

use audit::AuditTasks;
use background::ApprovalTasks;
use cores::Cores;
use listen::Listeners;
use operators::Operators;

/// The services whose health is told.
const SERVICES: [&str; 5] = [
    "",
    "countersign.v1.ApprovalService",
    "countersign.v1.AuditService",
    "countersign.v1.AuthorizationService",
    "countersign.v1.PolicyService",
];

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
    addresses: Addresses,
    background: Arc<Runtime>,
    approval_tasks: Option<ApprovalTasks>,
    audit_tasks: Option<AuditTasks>,
    operators: Option<Operators>,
    cores: Cores,
    listeners: Listeners,
    health: HealthReporter,
    drain_timeout: Duration,
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
        let (health, health_service) = tonic_health::server::health_reporter();
        let is_loaded = parts.reloader.active().load().is_some();
        background.block_on(set_health(&health, is_loaded));
        let approvals = ApprovalApi::new(parts.approvals.clone(), credentials(config));
        let api = Api::new(
            &parts.authorizer,
            &parts.reloader,
            (approvals, audit_api(config, &parts)?),
            health_service,
        )
        .map_err(|error| StartError::Descriptors(error.to_string()))?;
        let cores = Cores::start(&config.server, &api)?;
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
        let operators = match config.server.operators {
            Some(address) => {
                let library = parts.audit.as_ref().map(|audit| audit.library());
                let library = library.transpose().map_err(StartError::Audit)?;
                let router = library.map(http::router).unwrap_or_default();
                Some(Operators::start(address, router, &background)?)
            }
            None => None,
        };
        let listeners = Listeners::start(&config.server, &background, &cores)?;
        Ok(Self {
            addresses: listeners.addresses().clone(),
            background,
            approval_tasks,
            audit_tasks,
            operators,
            cores,
            listeners,
            health,
            drain_timeout: to_std(config.server.drain_timeout),
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

    /// Serves until SIGTERM or SIGINT, reloading at each SIGHUP, and then stops; a second SIGTERM or SIGINT cuts off what is under way.
    ///
    /// Answers how many connections were cut off.
    pub fn run(self, mut signals: Signals) -> usize {
        let reloader = Arc::clone(&self.parts.reloader);
        self.background.block_on(signals.until_stopped(&reloader));
        tracing::info!("stopping: calls under way may end");
        let hurry = self.cores.hurry();
        self.background.spawn(async move {
            signals.until_stopped(&reloader).await;
            hurry.cancel();
        });
        self.stop()
    }

    /// Stops: tells health checks, takes no new connections, lets calls under way end, at most for the drain timeout.
    ///
    /// Answers how many connections were cut off.
    pub fn stop(self) -> usize {
        self.background.block_on(set_health(&self.health, false));
        self.listeners.stop();
        if let Some(tasks) = &self.approval_tasks {
            tasks.stop_watching();
        }
        let cut_off = self.cores.drain(self.drain_timeout);
        drop((self.approval_tasks, self.audit_tasks, self.operators));
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

fn audit_api(config: &Config, parts: &Parts) -> Result<AuditApi, StartError> {
    let logs = match &parts.audit {
        Some(audit) => {
            let library = audit.library().map_err(StartError::Audit)?;
            Some((library, audit.read_log()))
        }
        None => None,
    };
    Ok(AuditApi::new(
        logs,
        credentials(config),
        &config.audit.readers,
    ))
}

fn credentials(config: &Config) -> Arc<dyn Credentials> {
    if config.identity.development_logins {
        Arc::new(DevelopmentLogins)
    } else {
        Arc::new(NoLogins)
    }
}

async fn set_health(health: &HealthReporter, is_serving: bool) {
    let status = if is_serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in SERVICES {
        health.set_service_status(service, status).await;
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
