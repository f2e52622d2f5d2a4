//! Decides requests: look up, or evaluate and keep; then, where humans must be asked, ask.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::approval::ApprovalId;
use crate::audit::decision_record::{self, Evaluation};
use crate::model::{Decided, Explanation, Mode, Outcome, PolicyVersion, Request, RequestProblem};
use crate::policy::{Engine, Plan, Prepared, explain};

use super::active::{ActiveSnapshot, Lookup};
use super::approvals::{Approvals, ApprovalsError};
use super::authorized::{Authorized, authorized, spent_by};
use super::beside::Beside;
use super::cache::CachedDecision;
use super::decision_log::LogUnavailable;
use super::evaluation::evaluate_apart;
use super::ids::new_id;
use super::ports::Clock;
use super::recording::{Circumstances, Recorder};
use super::reload::ActivationHistory;
use super::verdict::ApprovalPart;

/// How many policies are evaluated on the serving thread, about 0.5 ms' worth; more go to a thread of their own.
pub(super) const INLINE_EVALUATIONS: usize = 400;

/// How decisions are made.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizerSettings {
    /// One in how many evaluations is checked against Cedar's own; 0 for none.
    pub shadow_one_in: u64,
}

impl Default for AuthorizerSettings {
    fn default() -> Self {
        Self {
            shadow_one_in: 4_096,
        }
    }
}

/// Why there is no decision. None of these is an answer to the request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AuthorizeError {
    /// Nothing has been loaded yet.
    #[error("no policies have been loaded yet")]
    NoPolicies,
    /// The caller has seen a policy version that this server has not.
    #[error("policy version `{0}` has not come into force on this server")]
    VersionNotReached(String),
    /// The caller made a mistake.
    #[error(transparent)]
    Request(#[from] RequestProblem),
    /// An approval could not be opened or redeemed.
    #[error(transparent)]
    Approval(#[from] ApprovalsError),
    /// The decision cannot be recorded.
    #[error(transparent)]
    NotRecorded(#[from] LogUnavailable),
    /// The thread that evaluated a long request ended without an answer.
    #[error("the evaluation did not end")]
    EvaluationLost,
}

/// How far a request has come.
#[derive(Debug)]
pub enum Step {
    /// It is decided.
    Done(Authorized),
    /// Something must be waited for: [`Authorizer::finish`] does it.
    Waits(Box<Waiting>),
}

impl Step {
    fn waits(active: &Arc<ActiveSnapshot>, wait: Wait) -> Self {
        Self::Waits(Box::new(Waiting {
            active: Arc::clone(active),
            wait,
        }))
    }
}

/// A request whose decision needs more than the serving thread can give at once.
#[derive(Debug)]
pub struct Waiting {
    active: Arc<ActiveSnapshot>,
    wait: Wait,
}

/// A request taken apart: its mode, what no policy reads, and what is decided.
type Asked = (Beside, Prepared);

#[derive(Debug)]
enum Wait {
    /// An approval is to be redeemed.
    Redeem(String, Request),
    /// Many policies must be evaluated, or the evaluation is to be checked.
    Evaluate {
        plan: Box<Plan>,
        is_sampled: bool,
        asked: Box<Asked>,
        since: Timestamp,
    },
    /// Humans must be asked about an action, by its full name.
    Ask {
        decision: Arc<CachedDecision>,
        request: Request,
        action: String,
        evaluation: Evaluation,
    },
    /// The log of decisions has no room for the record.
    Record(Box<Authorized>, Vec<u8>),
}

/// Decides requests with the snapshot in force.
#[derive(Debug)]
pub struct Authorizer {
    active: Arc<ArcSwapOption<ActiveSnapshot>>,
    history: Arc<ActivationHistory>,
    approvals: Option<Arc<Approvals>>,
    recorder: Option<Recorder>,
    clock: Arc<dyn Clock>,
    settings: AuthorizerSettings,
    explaining: Semaphore,
}

impl Authorizer {
    /// Decides with whatever `active` holds at the time of a call. Without `approvals` nothing is opened and nothing can be redeemed:
    /// what requires approval is answered so, with nothing to wait for.
    pub fn new(
        active: Arc<ArcSwapOption<ActiveSnapshot>>,
        history: Arc<ActivationHistory>,
        approvals: Option<Arc<Approvals>>,
        clock: Arc<dyn Clock>,
        settings: AuthorizerSettings,
    ) -> Self {
        Self {
            active,
            history,
            approvals,
            recorder: None,
            clock,
            settings,
            explaining: Semaphore::new(1),
        }
    }

    /// The same, with every decision recorded by `recorder` before it is answered.
    #[must_use]
    pub fn recorded_by(self, recorder: Option<Recorder>) -> Self {
        Self { recorder, ..self }
    }

    /// The snapshot in force.
    ///
    /// # Errors
    /// [`AuthorizeError::NoPolicies`] until the first good load.
    pub fn active(&self) -> Result<Arc<ActiveSnapshot>, AuthorizeError> {
        self.active.load_full().ok_or(AuthorizeError::NoPolicies)
    }

    /// Decides `request`.
    ///
    /// # Errors
    /// Why there is no decision; the caller must not act.
    pub async fn authorize(&self, request: Request) -> Result<Authorized, AuthorizeError> {
        let active = self.active()?;
        self.authorize_with(&active, request).await
    }

    /// Decides `request` with `active`; the requests of a batch share one.
    ///
    /// # Errors
    /// Why there is no decision; the caller must not act.
    pub async fn authorize_with(
        &self,
        active: &Arc<ActiveSnapshot>,
        request: Request,
    ) -> Result<Authorized, AuthorizeError> {
        match self.begin(active, request)? {
            Step::Done(authorized) => Ok(authorized),
            Step::Waits(waiting) => self.finish(waiting).await,
        }
    }

    /// Decides `request` as far as that goes without waiting, which for a kept decision is all the way.
    ///
    /// # Errors
    /// Why there is no decision; the caller must not act.
    pub fn begin(
        &self,
        active: &Arc<ActiveSnapshot>,
        mut request: Request,
    ) -> Result<Step, AuthorizeError> {
        if let Some(wanted) = request.min_policy_version.take() {
            self.check_version(active, wanted)?;
        }
        if let Some(approval_id) = request.approval_id.take() {
            let wait = Wait::Redeem(approval_id, request);
            return Ok(Step::waits(active, wait));
        }
        let beside = Beside::take(&mut request);
        let Lookup { prepared, found } = active.look_up(request)?;
        if let Some(decision) = found {
            let evaluation = Evaluation {
                is_cached: true,
                ..Evaluation::default()
            };
            return Ok(self.conclude(active, decision, (beside, prepared), evaluation));
        }
        let since = self.clock.now();
        let plan = active.plan(&prepared, since)?;
        let engine = active.engine();
        let is_sampled = engine == Engine::Index && active.is_sampled(self.settings.shadow_one_in);
        if is_sampled || plan.evaluations(engine) > INLINE_EVALUATIONS {
            let wait = Wait::Evaluate {
                plan: Box::new(plan),
                is_sampled,
                asked: Box::new((beside, prepared)),
                since,
            };
            return Ok(Step::waits(active, wait));
        }
        let decided = plan.decide(engine);
        let evaluation = self.evaluated(&decided, since);
        let decision = active.keep(&prepared, decided);
        Ok(self.conclude(active, decision, (beside, prepared), evaluation))
    }

    /// Does what [`Authorizer::begin`] left to wait for.
    ///
    /// # Errors
    /// Why there is no decision; the caller must not act.
    pub async fn finish(&self, waiting: Box<Waiting>) -> Result<Authorized, AuthorizeError> {
        let Waiting { active, wait } = *waiting;
        match wait {
            Wait::Redeem(approval_id, request) => {
                self.check_recorder()?;
                Box::pin(self.redeem(active, approval_id, request)).await
            }
            Wait::Evaluate {
                plan,
                is_sampled,
                asked,
                since,
            } => {
                let decided = evaluate_apart(&active, *plan, is_sampled).await?;
                let evaluation = self.evaluated(&decided, since);
                let decision = active.keep(&asked.1, decided);
                match self.conclude(&active, decision, *asked, evaluation) {
                    Step::Done(authorized) => Ok(authorized),
                    Step::Waits(waiting) => Box::pin(self.finish(waiting)).await,
                }
            }
            Wait::Ask {
                decision,
                request,
                action,
                evaluation,
            } => {
                self.check_recorder()?;
                let asked = request.clone();
                let part = Box::pin(self.ask(&active, &decision, asked, action)).await?;
                let authorized =
                    authorized(&active, decision, part, (evaluation, self.clock.now()));
                self.record_durably(authorized, &request, evaluation).await
            }
            Wait::Record(authorized, record) => match &self.recorder {
                Some(recorder) => Ok(recorder.keep(*authorized, record, false).await?),
                None => Ok(*authorized),
            },
        }
    }

    /// A grant is not spent, and nobody is asked, for a decision that cannot be recorded.
    fn check_recorder(&self) -> Result<(), AuthorizeError> {
        match &self.recorder {
            Some(recorder) => Ok(recorder.ready()?),
            None => Ok(()),
        }
    }

    /// How a decision was made whose evaluation began at `since` and has just ended.
    fn evaluated(&self, decided: &Decided, since: Timestamp) -> Evaluation {
        let took = self.clock.now().duration_since(since).as_micros();
        Evaluation {
            is_cached: false,
            took_us: u32::try_from(took.max(1)).unwrap_or(u32::MAX),
            clock_us: if decided.read_clock {
                since.as_microsecond()
            } else {
                0
            },
        }
    }

    /// Asks humans, if the policies want them to be asked and approvals are kept.
    async fn ask(
        &self,
        active: &Arc<ActiveSnapshot>,
        decision: &CachedDecision,
        request: Request,
        action: String,
    ) -> Result<ApprovalPart, AuthorizeError> {
        let decided = &decision.decided;
        match (&decided.outcome, &self.approvals) {
            (Outcome::RequireApproval(requirements), Some(approvals)) => {
                let asked = (request, action);
                Ok(approvals.ask(active, decided, requirements, asked).await?)
            }
            (Outcome::RequireApproval(_), None) | (Outcome::Allow | Outcome::Deny(_), _) => {
                Ok(ApprovalPart::None)
            }
        }
    }

    /// What a decision means for the request: the answer, recorded, or that humans must be asked first.
    fn conclude(
        &self,
        active: &Arc<ActiveSnapshot>,
        decision: Arc<CachedDecision>,
        (beside, prepared): Asked,
        evaluation: Evaluation,
    ) -> Step {
        match (&decision.decided.outcome, beside.mode()) {
            (Outcome::RequireApproval(_), Mode::Enforce) => {
                // The request as asked now, not as it was when the decision was first made.
                let action = prepared.action_name().to_owned();
                let wait = Wait::Ask {
                    decision,
                    request: beside.give_back(prepared),
                    action,
                    evaluation,
                };
                return Step::waits(active, wait);
            }
            (Outcome::RequireApproval(_) | Outcome::Allow | Outcome::Deny(_), _) => {}
        }
        let now = self.clock.now();
        let authorized = authorized(active, decision, ApprovalPart::None, (evaluation, now));
        let Some(recorder) = &self.recorder else {
            return Step::Done(authorized);
        };
        let circumstances = Circumstances {
            at: now,
            request: prepared.request(),
            beside: beside.recorded(),
            evaluation,
        };
        if recorder.record(&authorized, &circumstances).is_ok() {
            return Step::Done(authorized);
        }
        let record = recorder.encode(&authorized, &circumstances);
        Step::waits(active, Wait::Record(Box::new(authorized), record))
    }

    /// Records a decision in which an approval took part, and waits until the record is on the disk.
    async fn record_durably(
        &self,
        authorized: Authorized,
        request: &Request,
        evaluation: Evaluation,
    ) -> Result<Authorized, AuthorizeError> {
        let Some(recorder) = &self.recorder else {
            return Ok(authorized);
        };
        let circumstances = Circumstances {
            at: self.clock.now(),
            request,
            beside: decision_record::Beside::of(request),
            evaluation,
        };
        let record = recorder.encode(&authorized, &circumstances);
        Ok(recorder.keep(authorized, record, true).await?)
    }

    async fn redeem(
        &self,
        active: Arc<ActiveSnapshot>,
        approval_id: String,
        request: Request,
    ) -> Result<Authorized, AuthorizeError> {
        let approvals = self.approvals.as_ref().ok_or(ApprovalsError::NotKept)?;
        let id = ApprovalId::new(approval_id);
        let since = self.clock.now();
        let redeemed = approvals.redeem(&active, &id, request.clone()).await?;
        let evaluation = self.evaluated(&redeemed.decided, since);
        let decision = Arc::new(CachedDecision::unkept(redeemed.decided, request.clone()));
        let authorized = authorized(
            &active,
            decision,
            redeemed.part,
            (evaluation, self.clock.now()),
        );
        let decision_id = spent_by(&authorized.approval).unwrap_or(authorized.decision_id);
        let authorized = Authorized {
            decision_id,
            ..authorized
        };
        self.record_durably(authorized, &request, evaluation).await
    }

    /// Explains how `request` is decided now, without side effects.
    ///
    /// # Errors
    /// Why there is no decision.
    pub async fn explain(
        &self,
        mut request: Request,
    ) -> Result<(Authorized, Explanation), AuthorizeError> {
        let active = self.active()?;
        request.mode = Mode::Check;
        if let Some(wanted) = request.min_policy_version.take() {
            self.check_version(&active, wanted)?;
        }
        if request.approval_id.is_some() {
            return Err(ApprovalsError::CheckOnly.into());
        }
        let now = self.clock.now();
        let snapshot = Arc::clone(&active.snapshot);
        let asked = request.clone();
        // Explaining looks at every permit, which is no work for a serving thread. One at a time: others wait for the same threads to
        // vote and to redeem.
        let _turn = self
            .explaining
            .acquire()
            .await
            .map_err(|_| AuthorizeError::EvaluationLost)?;
        let explaining = tokio::task::spawn_blocking(move || explain(&snapshot, asked, now));
        let explanation = AbortOnDropHandle::new(explaining)
            .await
            .map_err(|_| AuthorizeError::EvaluationLost)??;
        let decision = Arc::new(CachedDecision::unkept(explanation.decided.clone(), request));
        let authorized = Authorized {
            decision_id: new_id(now),
            active,
            decision,
            approval: ApprovalPart::None,
            evaluation: Evaluation::default(),
            is_unlogged: false,
        };
        Ok((authorized, explanation))
    }

    fn check_version(&self, active: &ActiveSnapshot, wanted: String) -> Result<(), AuthorizeError> {
        let wanted = PolicyVersion::new(wanted);
        if self.history.has_reached(&wanted, active) {
            return Ok(());
        }
        Err(AuthorizeError::VersionNotReached(
            wanted.as_str().to_owned(),
        ))
    }
}
