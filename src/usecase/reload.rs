//! Loads policies and puts them in force: one atomic swap, or nothing.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::model::{LoadAttempt, PolicyProblem, PolicySetInfo, PolicyVersion};
use crate::policy::{CompileOptions, compile};

use super::active::{ActiveSnapshot, CacheSettings};
use super::loading::on_large_stack;
use super::ports::{Clock, PolicySource};

/// How many versions a server remembers for `min_policy_version`.
const HISTORY: usize = 256;

/// The versions that have been in force on this server, each with its place in their sequence.
#[derive(Debug, Default)]
pub struct ActivationHistory(Mutex<Vec<(PolicyVersion, u64)>>);

impl ActivationHistory {
    /// Whether `active` is `version`, or came into force after it.
    pub(super) fn has_reached(&self, version: &PolicyVersion, active: &ActiveSnapshot) -> bool {
        if active.snapshot.version() == version {
            return true;
        }
        let versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        versions
            .iter()
            .any(|(known, sequence)| known == version && *sequence < active.sequence)
    }

    fn add(&self, version: PolicyVersion, sequence: u64) {
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        versions.retain(|(known, _)| *known != version);
        if versions.len() >= HISTORY {
            versions.remove(0);
        }
        versions.push((version, sequence));
    }
}

/// How a reload ended.
#[derive(Clone, Debug)]
pub enum ReloadOutcome {
    /// The directory holds what is in force.
    Unchanged,
    /// Something new is in force.
    Activated,
    /// What is in force did not change, because of these problems.
    Rejected(Vec<PolicyProblem>),
}

/// What an auditor wants to know of the policies.
#[derive(Clone, Debug)]
pub enum PolicyEvent {
    /// A set came into force.
    Activated(PolicySetInfo),
    /// A set could not be loaded.
    Rejected {
        /// Which, if the files could be read.
        version: Option<PolicyVersion>,
        /// Why.
        problems: Vec<PolicyProblem>,
    },
}

/// How loads have gone since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Other policies came into force.
    pub activated: u64,
    /// What was in force already was found again.
    pub unchanged: u64,
    /// What was found cannot be used.
    pub rejected: u64,
    /// When what was found was last what is in force.
    pub last_good: Option<Timestamp>,
}

/// Loads policies and keeps track of how that went.
#[derive(Debug)]
pub struct Reloader {
    source: Arc<dyn PolicySource>,
    options: CompileOptions,
    cache: CacheSettings,
    clock: Arc<dyn Clock>,
    active: Arc<ArcSwapOption<ActiveSnapshot>>,
    history: Arc<ActivationHistory>,
    last: Mutex<Option<LoadAttempt>>,
    /// Snapshots that left and may still be used by calls under way.
    retired: Mutex<Vec<Arc<ActiveSnapshot>>>,
    /// One reload at a time.
    turn: Mutex<()>,
    activations: watch::Sender<u64>,
    counts: Mutex<LoadCounts>,
    events: Option<UnboundedSender<PolicyEvent>>,
}

impl Reloader {
    /// Loads from `source`; nothing is in force yet.
    pub fn new(
        source: Arc<dyn PolicySource>,
        options: CompileOptions,
        cache: CacheSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            source,
            options,
            cache,
            clock,
            active: Arc::new(ArcSwapOption::empty()),
            history: Arc::default(),
            last: Mutex::new(None),
            retired: Mutex::new(Vec::new()),
            turn: Mutex::new(()),
            activations: watch::Sender::new(0),
            counts: Mutex::default(),
            events: None,
        }
    }

    /// The same; every activation and every rejection is told to `events`.
    #[must_use]
    pub fn told_to(self, events: UnboundedSender<PolicyEvent>) -> Self {
        Self {
            events: Some(events),
            ..self
        }
    }

    /// Hears each time policies come into force, from now on: how often they have.
    pub fn activations(&self) -> watch::Receiver<u64> {
        self.activations.subscribe()
    }

    /// The snapshot in force, for those who decide with it.
    pub fn active(&self) -> Arc<ArcSwapOption<ActiveSnapshot>> {
        Arc::clone(&self.active)
    }

    /// The versions that have been in force.
    pub fn history(&self) -> Arc<ActivationHistory> {
        Arc::clone(&self.history)
    }

    /// The last attempt that changed something or failed.
    pub fn last_attempt(&self) -> Option<LoadAttempt> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the directory; if it changed and is sound, puts it in force. Blocks for as long as that takes.
    pub fn reload(&self) -> ReloadOutcome {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // The stack is large not only for parsing: dropping a deep policy recurses too.
        let outcome = on_large_stack(|| {
            let outcome = self.load_and_swap();
            self.drop_retired();
            outcome
        });
        let outcome = outcome.unwrap_or_else(|error| {
            self.reject(None, vec![PolicyProblem::error("", error.to_string())])
        });
        self.count(&outcome);
        outcome
    }

    /// How loads have gone since the start.
    pub fn counts(&self) -> LoadCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: &ReloadOutcome) {
        let now = self.clock.now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match outcome {
            ReloadOutcome::Activated => &mut counts.activated,
            ReloadOutcome::Unchanged => &mut counts.unchanged,
            ReloadOutcome::Rejected(_) => &mut counts.rejected,
        };
        *count = count.saturating_add(1);
        if !matches!(outcome, ReloadOutcome::Rejected(_)) {
            counts.last_good = Some(now);
        }
    }

    fn load_and_swap(&self) -> ReloadOutcome {
        let bundle = match self.source.read() {
            Ok(bundle) => bundle,
            Err(problem) => return self.reject(None, vec![problem]),
        };
        let before = self.active.load_full();
        if before
            .as_ref()
            .is_some_and(|active| active.snapshot.version() == bundle.version())
        {
            self.note_unchanged(bundle.version());
            return ReloadOutcome::Unchanged;
        }
        let report = compile(&bundle, &self.options);
        let Some(snapshot) = report.snapshot else {
            return self.reject(Some(report.version), report.problems);
        };
        let now = self.clock.now();
        let sequence = before
            .as_ref()
            .map_or(0, |before| before.sequence.saturating_add(1));
        let next = Arc::new(ActiveSnapshot::after(sequence, snapshot, self.cache, now));
        if let Some(before) = &before {
            next.warm_up_from(before, self.cache.warm_up, now);
        }
        tracing::info!(
            policy.version = %report.version,
            policies = next.snapshot.info().permits + next.snapshot.info().forbids + next.snapshot.info().gates,
            entities = next.snapshot.info().entities,
            warnings = report.problems.len(),
            "policies are in force"
        );
        self.tell(PolicyEvent::Activated(next.snapshot.info().clone()));
        self.history.add(report.version.clone(), sequence);
        self.active.store(Some(next));
        self.retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(before);
        self.note(Some(report.version), report.problems, true);
        self.activations
            .send_modify(|count| *count = count.saturating_add(1));
        ReloadOutcome::Activated
    }

    /// A directory that went back to what is in force is not broken any more.
    fn note_unchanged(&self, version: &PolicyVersion) {
        let was_broken = self
            .last_attempt()
            .is_some_and(|attempt| !attempt.succeeded);
        if was_broken {
            tracing::info!(policy.version = %version, "the policy directory again holds what is in force");
            let warnings = self
                .active
                .load_full()
                .map(|active| active.snapshot.info().warnings.clone());
            self.note(Some(version.clone()), warnings.unwrap_or_default(), true);
        }
    }

    fn reject(
        &self,
        version: Option<PolicyVersion>,
        problems: Vec<PolicyProblem>,
    ) -> ReloadOutcome {
        let is_news = self.last_attempt().is_none_or(|last| {
            last.succeeded || last.version != version || last.problems != problems
        });
        if is_news {
            self.tell(PolicyEvent::Rejected {
                version: version.clone(),
                problems: problems.clone(),
            });
            for problem in problems
                .iter()
                .filter(|problem| problem.is_error())
                .take(20)
            {
                tracing::error!(place = %problem, help = %problem.help, "the policies cannot be loaded, so what is in force does not change");
            }
        }
        self.note(version, problems.clone(), false);
        ReloadOutcome::Rejected(problems)
    }

    fn tell(&self, event: PolicyEvent) {
        if let Some(events) = &self.events {
            // Whoever listened has gone only when the server ends.
            events.send(event).ok();
        }
    }

    fn note(&self, version: Option<PolicyVersion>, problems: Vec<PolicyProblem>, succeeded: bool) {
        let attempt = LoadAttempt {
            time: self.clock.now(),
            succeeded,
            version,
            problems,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
    }

    /// Drops old snapshots here, where it costs no call its time, once no call uses them any more.
    fn drop_retired(&self) {
        self.retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|active| Arc::strong_count(active) > 1);
    }
}
