//! How the server stands, for whoever exports metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::grpc::FairGate;
use crate::storage::decision_log::BufferedLog;
use crate::usecase::Reloader;
use crate::usecase::approvals::Approvals;
use crate::usecase::decision_log::Seal;
use crate::usecase::observing::{ApprovalSigns, AuditSigns, PolicySigns, VitalSigns, Vitals};

use super::background::every;
use super::health::Health;
use super::identities::Identities;
use super::open_connections::OpenConnections;

/// How often approvals are counted.
const COUNT: Duration = Duration::from_secs(5);

/// How the server stands.
#[derive(Debug)]
pub(super) struct ServerVitals {
    pub(super) reloader: Arc<Reloader>,
    pub(super) approvals: Arc<CountedApprovals>,
    pub(super) audit: Option<(Arc<BufferedLog>, Arc<Seal>)>,
    pub(super) open: Arc<OpenConnections>,
    pub(super) gates: Vec<FairGate>,
    pub(super) identities: Identities,
    pub(super) health: Health,
}

/// The approvals as they were counted last; none while the store cannot be asked.
#[derive(Debug, Default)]
pub(super) struct CountedApprovals(Mutex<Option<ApprovalSigns>>);

impl CountedApprovals {
    /// Counts them now and then.
    pub(super) async fn keep_counting(self: Arc<Self>, approvals: Arc<Approvals>) {
        let mut interval = every(COUNT);
        loop {
            interval.tick().await;
            let signs = approvals.signs().await;
            if let Err(error) = &signs {
                tracing::debug!(%error, "the approvals could not be counted");
            }
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = signs.ok();
        }
    }

    fn last(&self) -> Option<ApprovalSigns> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ServerVitals {
    fn audit(&self) -> Option<AuditSigns> {
        let (log, seal) = self.audit.as_ref()?;
        let stats = log.stats();
        Some(AuditSigns {
            accepted: stats.accepted,
            logged: stats.logged,
            lost: stats.lost,
            time_to_durable: stats.time_to_durable,
            is_writable: stats.is_writable,
            is_sealed: seal.reason().is_some(),
        })
    }
}

impl Vitals for ServerVitals {
    fn read(&self) -> VitalSigns {
        let active = self.reloader.active().load_full();
        let counts = self.reloader.counts();
        let last = self.reloader.last_attempt();
        let (cache_entries, cache_bytes) =
            active.as_ref().map_or((0, 0), |active| active.cache_size());
        let policies = active.as_ref().map(|active| {
            let info = active.snapshot.info();
            PolicySigns {
                version: info.version.as_str().to_owned(),
                permits: number(info.permits),
                forbids: number(info.forbids),
                gates: number(info.gates),
                is_index_distrusted: active.is_index_distrusted(),
            }
        });
        let tokens = self.identities.tokens.as_ref();
        VitalSigns {
            policies,
            loads_activated: counts.activated,
            loads_unchanged: counts.unchanged,
            loads_rejected: counts.rejected,
            is_last_load_rejected: last.is_some_and(|attempt| !attempt.succeeded),
            last_good_load: counts.last_good,
            cache_bytes,
            cache_entries,
            approvals: self.approvals.last(),
            audit: self.audit(),
            is_serving: self.health.is_serving(),
            is_stopping: self.health.is_stopping(),
            connections: self.open.counts(),
            waiting_calls: self.gates.iter().map(FairGate::waiting).sum(),
            certificate_expires: self
                .identities
                .tls
                .as_ref()
                .map(|tls| tls.current().certificate_expires),
            signing_keys: tokens
                .map(|tokens| tokens.signs())
                .map_or_else(Vec::new, |signs| {
                    signs
                        .into_iter()
                        .map(|each| (each.name, each.fetched_at, each.failures))
                        .collect()
                }),
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
