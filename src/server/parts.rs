//! The use cases with their adapters.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;

use crate::audit::redaction::RedactionKey;
use crate::config::{Config, PolicyConfig};
use crate::identity::DevelopmentLogins;
use crate::model::{EntityRef, Outcome, Record, Request};
use crate::policy::{Bundle, BundleFile, BundleLimits, CompileOptions, Engine, compile};
use crate::storage::policy_dir::PolicyDir;
use crate::usecase::approval_store::ApprovalStore;
use crate::usecase::approvals::{Approvals, Directory};
use crate::usecase::observing::{Metrics, NoObserver, Observer};
use crate::usecase::ports::{Clock, PolicySource};
use crate::usecase::{
    Authorizer, AuthorizerSettings, CacheSettings, PolicyRecords, Recorder, Reloader,
    on_large_stack,
};

use super::StartError;
use super::audit::{Audit, claim};
use super::background::start_runtime;
use super::clock::SystemClock;
use super::stores::{open_control_store, open_stores};

/// The parts of a server, or of a command that decides without one.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Loads policies.
    pub reloader: Arc<Reloader>,
    /// Decides.
    pub authorizer: Arc<Authorizer>,
    /// The directory to watch, if the policies come from one.
    pub policy_dir: Option<PolicyDir>,
    /// Keeps approvals, if this is a server that does.
    pub approvals: Option<Arc<Approvals>>,
    /// Tells the time.
    pub(super) clock: Arc<dyn Clock>,
    /// Sees what happens.
    pub(super) observer: Arc<dyn Observer>,
    /// Writes metrics, if anybody may ask for them.
    pub(super) metrics: Option<Arc<dyn Metrics>>,
    /// Records what is decided, if this is a server that does.
    pub(super) audit: Option<Arc<Audit>>,
    /// The runtime that the store of approvals works on.
    pub(super) background: Option<Arc<Runtime>>,
}

/// What a server finds when it starts.
#[derive(Debug)]
pub struct Surroundings {
    /// The runtime that everything but decisions works on.
    pub background: Arc<Runtime>,
    /// Sees what happens.
    pub observer: Arc<dyn Observer>,
    /// Writes metrics, if anybody may ask for them.
    pub metrics: Option<Arc<dyn Metrics>>,
}

impl Surroundings {
    /// Where nobody looks.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn unobserved() -> Result<Self, StartError> {
        Ok(Self {
            background: start_runtime()?,
            observer: Arc::new(NoObserver),
            metrics: None,
        })
    }
}

impl Parts {
    /// Plugs the parts together; policies come from the configured directory, or from `source` where one is given.
    ///
    /// Without a store of approvals nothing can be opened or redeemed, and nothing is recorded.
    pub fn assemble(config: &Config, source: Option<Arc<dyn PolicySource>>) -> Self {
        Base::lay(config, source, Arc::new(NoObserver)).build(config, None)
    }

    /// Plugs the parts of a server together: opens the configured store of approvals and the audit log.
    ///
    /// # Errors
    /// When one of them cannot be used as it is configured.
    pub fn for_server(
        config: &Config,
        source: Option<Arc<dyn PolicySource>>,
    ) -> Result<Self, StartError> {
        Self::within(Surroundings::unobserved()?, config, source)
    }

    /// The same for a server within `surroundings`.
    ///
    /// # Errors
    /// As [`Parts::for_server`].
    pub fn within(
        surroundings: Surroundings,
        config: &Config,
        source: Option<Arc<dyn PolicySource>>,
    ) -> Result<Self, StartError> {
        let Surroundings {
            background,
            observer,
            metrics,
        } = surroundings;
        let parts = Self::open(config, source, (&background, observer))?;
        Ok(Self {
            background: Some(background),
            metrics,
            ..parts
        })
    }

    fn open(
        config: &Config,
        source: Option<Arc<dyn PolicySource>>,
        (background, observer): (&Arc<Runtime>, Arc<dyn Observer>),
    ) -> Result<Self, StartError> {
        let mut base = Base::lay(config, source, observer);
        if !config.audit.enabled {
            // Records of approvals are kept all the same, and may be published later: under a key that nobody has.
            let key = RedactionKey(std::array::from_fn(|_| fastrand::u8(..)));
            let records = PolicyRecords::new(base.reloader.active(), key);
            let stores = open_stores(&config.approvals, Arc::new(records), background)?;
            return Ok(base.build(config, stores.map(|stores| stores.approvals)));
        }
        let (events, told) = unbounded_channel();
        base.reloader = Arc::new(base.bare_reloader(config).told_to(events));
        let claimed = claim(&config.audit).map_err(StartError::Audit)?;
        let records = PolicyRecords::new(base.reloader.active(), claimed.keys.redaction);
        let kept = open_stores(&config.approvals, Arc::new(records), background)?;
        let stores = match &kept {
            Some(stores) => stores.clone(),
            None => open_control_store(&config.audit.path.join("control.sqlite"))
                .map_err(StartError::Audit)?,
        };
        let clock = Arc::clone(&base.clock);
        let audit = Audit::open(config, claimed, &stores, (clock, told), background)
            .map_err(StartError::Audit)?;
        let audit = Arc::new(audit);
        base.recorder = Some(audit.recorder());
        Ok(Self {
            audit: Some(audit),
            ..base.build(config, kept.map(|stores| stores.approvals))
        })
    }
}

/// What everything else stands on.
struct Base {
    source: Arc<dyn PolicySource>,
    policy_dir: Option<PolicyDir>,
    clock: Arc<dyn Clock>,
    reloader: Arc<Reloader>,
    recorder: Option<Recorder>,
    observer: Arc<dyn Observer>,
}

impl Base {
    fn lay(
        config: &Config,
        source: Option<Arc<dyn PolicySource>>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let policy_dir = match &source {
            Some(_) => None,
            None => Some(PolicyDir::new(&config.policy.dir, BundleLimits::DEFAULT)),
        };
        let source = source.or_else(|| {
            policy_dir
                .clone()
                .map(|dir| Arc::new(dir) as Arc<dyn PolicySource>)
        });
        let source = source.unwrap_or_else(|| Arc::new(super::SampleSet));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let reloader = Arc::new(reloader(config, &source, &clock));
        Self {
            source,
            policy_dir,
            clock,
            reloader,
            recorder: None,
            observer,
        }
    }

    /// A reloader that nobody uses yet.
    fn bare_reloader(&self, config: &Config) -> Reloader {
        reloader(config, &self.source, &self.clock)
    }

    fn build(self, config: &Config, store: Option<Arc<dyn ApprovalStore>>) -> Parts {
        let reloader = self.reloader;
        let settings = AuthorizerSettings {
            shadow_one_in: config.policy.shadow_one_in,
        };
        let approvals = store.map(|store| {
            let reviewer_type = config.policy.reviewer_types.first().cloned();
            let directory = directory(config, reviewer_type.unwrap_or_default());
            let limits = config.approvals.limits();
            let clock = Arc::clone(&self.clock);
            let approvals = Approvals::new(store, reloader.active(), clock, directory, limits);
            Arc::new(approvals.observed_by(Arc::clone(&self.observer)))
        });
        let authorizer = Authorizer::new(
            reloader.active(),
            reloader.history(),
            approvals.clone(),
            Arc::clone(&self.clock),
            settings,
        );
        Parts {
            reloader,
            authorizer: Arc::new(authorizer.recorded_by(self.recorder)),
            policy_dir: self.policy_dir,
            approvals,
            clock: self.clock,
            observer: self.observer,
            metrics: None,
            audit: None,
            background: None,
        }
    }
}

/// Leads from persons to accounts. Votes that were cast by development logins do not outlive them.
fn directory(config: &Config, reviewer_type: String) -> Directory {
    let directory = Directory::new(reviewer_type);
    if config.identity.development_logins {
        directory
    } else {
        directory.disbelieving(DevelopmentLogins::ISSUER)
    }
}

fn reloader(config: &Config, source: &Arc<dyn PolicySource>, clock: &Arc<dyn Clock>) -> Reloader {
    let cache = CacheSettings {
        max_bytes: config.policy.cache_bytes,
        threads: serving_threads(config.server.threads),
        warm_up: config.policy.warm_up,
    };
    Reloader::new(
        Arc::clone(source),
        compile_options(&config.policy),
        cache,
        Arc::clone(clock),
    )
}

/// How many threads serve: the configured number, or one for each core.
pub(super) fn serving_threads(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// How the configured policies are compiled. The configuration was checked, so its words are known.
pub fn compile_options(config: &PolicyConfig) -> CompileOptions {
    CompileOptions {
        validation: config.validation.parse().unwrap_or_default(),
        posture: config.posture.parse().unwrap_or_default(),
        reviewer_types: config.reviewer_types.clone(),
        owner_attributes: config.owner_attributes.clone(),
        link_attributes: config.link_attributes.clone(),
        ..CompileOptions::default()
    }
}

/// Checks that a serving thread's stack is large enough for Cedar: with too little of it, Cedar's evaluator reports an error for a
/// deep forbid and would let a shallow permit through.
pub(super) fn self_test() -> Result<(), String> {
    let deep = format!(
        "context.x == 1 || ({}true{})",
        "(1 + 1 == 2) && (".repeat(62),
        ")".repeat(62)
    );
    let text = format!(
        "permit(principal, action, resource);\n@id(\"deep\") forbid(principal, action, resource) when {{ {deep} }};"
    );
    let bundle = Bundle::new([BundleFile {
        path: "self-test.cedar".to_owned(),
        bytes: text.into_bytes(),
    }]);
    let options = CompileOptions::default();
    let report =
        on_large_stack(|| compile(&bundle, &options)).map_err(|error| error.to_string())?;
    let snapshot = report
        .snapshot
        .ok_or_else(|| format!("{:?}", report.problems))?;
    let entity = || EntityRef::new("T", "t");
    let context: Record = std::iter::once(("x".to_owned(), crate::model::Value::Long(2))).collect();
    let decide = || {
        let request = Request::new(entity(), "a", entity(), context);
        let prepared = snapshot
            .prepare(request)
            .map_err(|problem| problem.to_string())?;
        let plan = snapshot
            .plan(&prepared, Timestamp::UNIX_EPOCH)
            .map_err(|problem| problem.to_string())?;
        Ok::<_, String>(plan.decide(Engine::Index))
    };
    let decided = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(super::cores::STACK_BYTES);
        let thread = thread
            .spawn_scoped(scope, decide)
            .map_err(|error| error.to_string())?;
        thread
            .join()
            .map_err(|_| "the thread panicked".to_owned())?
    })?;
    match decided.outcome {
        Outcome::Deny(crate::model::DenyReason::Forbidden) => Ok(()),
        outcome @ (Outcome::Allow | Outcome::RequireApproval(_) | Outcome::Deny(_)) => {
            Err(format!("a deep forbid came out as {outcome:?}"))
        }
    }
}
