//! Decides requests: look up, or evaluate and keep; then, where humans must be asked, ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use crate::approval::{ApprovalId, State};
use crate::model::{
    Decided, Decision, DenyReason, EntityRef, Explanation, Mode, Outcome, PolicyVersion, Request,
    RequestProblem,
};
use crate::policy::{Engine, Plan, Prepared, explain};

use super::active::{ActiveSnapshot, Lookup};
use super::approvals::{Approvals, ApprovalsError};
use super::cache::CachedDecision;
use super::ids::new_id;
use super::ports::Clock;
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
    /// The thread that evaluated a long request ended without an answer.
    #[error("the evaluation did not end")]
    EvaluationLost,
}

/// A decision, with what the answer to the caller needs.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// Identifies the decision.
    pub decision_id: Uuid,
    /// The snapshot that decided.
    pub active: Arc<ActiveSnapshot>,
    /// What was decided.
    pub decision: Arc<CachedDecision>,
    /// What an approval adds to it.
    pub approval: ApprovalPart,
}

impl Authorized {
    /// What the policies say.
    pub fn decided(&self) -> &Decided {
        &self.decision.decided
    }

    /// The decision: what the policies say, with what an approval adds to it.
    pub fn decision(&self) -> Decision {
        self.approval.decision(self.decided())
    }

    /// Whether the caller may keep the answer until the policy version changes.
    pub fn is_cacheable(&self) -> bool {
        self.approval == ApprovalPart::None
            && self.decided().is_cacheable()
            && self.decided().outcome.decision() != Decision::RequireApproval
    }
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
type Asked = (Mode, Beside, Prepared);

#[derive(Debug)]
enum Wait {
    /// An approval is to be redeemed.
    Redeem(String, Request),
    /// Many policies must be evaluated, or the evaluation is to be checked.
    Evaluate {
        plan: Box<Plan>,
        is_sampled: bool,
        asked: Box<Asked>,
    },
    /// Humans must be asked about an action, by its full name.
    Ask(Arc<CachedDecision>, Request, String),
}

/// Decides requests with the snapshot in force.
#[derive(Debug)]
pub struct Authorizer {
    active: Arc<ArcSwapOption<ActiveSnapshot>>,
    history: Arc<ActivationHistory>,
    approvals: Option<Arc<Approvals>>,
    clock: Arc<dyn Clock>,
    settings: AuthorizerSettings,
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
            clock,
            settings,
        }
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
        let mode = request.mode;
        let beside = Beside::take(&mut request);
        let Lookup { prepared, found } = active.look_up(request)?;
        if let Some(decision) = found {
            return Ok(self.conclude(active, decision, (mode, beside, prepared)));
        }
        let plan = active.plan(&prepared, self.clock.now())?;
        let engine = active.engine();
        let is_sampled = engine == Engine::Index && active.is_sampled(self.settings.shadow_one_in);
        if is_sampled || plan.evaluations(engine) > INLINE_EVALUATIONS {
            let wait = Wait::Evaluate {
                plan: Box::new(plan),
                is_sampled,
                asked: Box::new((mode, beside, prepared)),
            };
            return Ok(Step::waits(active, wait));
        }
        let decision = active.keep(&prepared, plan.decide(engine));
        Ok(self.conclude(active, decision, (mode, beside, prepared)))
    }

    /// Does what [`Authorizer::begin`] left to wait for.
    ///
    /// # Errors
    /// Why there is no decision; the caller must not act.
    pub async fn finish(&self, waiting: Box<Waiting>) -> Result<Authorized, AuthorizeError> {
        let Waiting { active, wait } = *waiting;
        match wait {
            Wait::Redeem(approval_id, request) => self.redeem(active, approval_id, request).await,
            Wait::Evaluate {
                plan,
                is_sampled,
                asked,
            } => {
                let decided = evaluate_apart(&active, *plan, is_sampled).await?;
                let decision = active.keep(&asked.2, decided);
                match self.conclude(&active, decision, *asked) {
                    Step::Done(authorized) => Ok(authorized),
                    Step::Waits(waiting) => Box::pin(self.finish(waiting)).await,
                }
            }
            Wait::Ask(decision, request, action) => {
                let decided = &decision.decided;
                let part = match (&decided.outcome, &self.approvals) {
                    (Outcome::RequireApproval(requirements), Some(approvals)) => {
                        let asked = (request, action);
                        approvals.ask(&active, decided, requirements, asked).await?
                    }
                    (Outcome::RequireApproval(_), None)
                    | (Outcome::Allow | Outcome::Deny(_), _) => ApprovalPart::None,
                };
                Ok(self.authorized(&active, decision, part))
            }
        }
    }

    /// What a decision means for the request: the answer, or that humans must be asked first.
    fn conclude(
        &self,
        active: &Arc<ActiveSnapshot>,
        decision: Arc<CachedDecision>,
        asked: Asked,
    ) -> Step {
        let (mode, beside, prepared) = asked;
        match (&decision.decided.outcome, mode) {
            (Outcome::RequireApproval(_), Mode::Enforce) => {
                // The request as asked now, not as it was when the decision was first made.
                let action = prepared.action_name().to_owned();
                let request = beside.give_back(prepared);
                Step::waits(active, Wait::Ask(decision, request, action))
            }
            (Outcome::RequireApproval(_) | Outcome::Allow | Outcome::Deny(_), _) => {
                Step::Done(self.authorized(active, decision, ApprovalPart::None))
            }
        }
    }

    fn authorized(
        &self,
        active: &Arc<ActiveSnapshot>,
        decision: Arc<CachedDecision>,
        approval: ApprovalPart,
    ) -> Authorized {
        Authorized {
            decision_id: new_id(self.clock.now()),
            active: Arc::clone(active),
            decision,
            approval,
        }
    }

    async fn redeem(
        &self,
        active: Arc<ActiveSnapshot>,
        approval_id: String,
        request: Request,
    ) -> Result<Authorized, AuthorizeError> {
        let approvals = self.approvals.as_ref().ok_or(ApprovalsError::NotKept)?;
        let id = ApprovalId::new(approval_id);
        let redeemed = approvals.redeem(&active, &id, request.clone()).await?;
        let decision = Arc::new(CachedDecision::unkept(redeemed.decided, request));
        let authorized = self.authorized(&active, decision, redeemed.part);
        let decision_id = spent_by(&authorized.approval).unwrap_or(authorized.decision_id);
        Ok(Authorized {
            decision_id,
            ..authorized
        })
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
        // Explaining looks at every permit, which is no work for a serving thread.
        let explanation = tokio::task::spawn_blocking(move || explain(&snapshot, asked, now))
            .await
            .map_err(|_| AuthorizeError::EvaluationLost)??;
        let decision = Arc::new(CachedDecision::unkept(explanation.decided.clone(), request));
        let authorized = Authorized {
            decision_id: new_id(now),
            active,
            decision,
            approval: ApprovalPart::None,
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

/// The decision that spent the grant: the same one whenever the same call comes again.
fn spent_by(part: &ApprovalPart) -> Option<Uuid> {
    let ApprovalPart::Granted(approval) = part else {
        return None;
    };
    match &approval.state {
        State::Redeemed { redemption, .. } => redemption.decision_id.parse().ok(),
        State::Pending | State::Approved(_) | State::Closed(..) => None,
    }
}

/// Evaluates on a thread of its own, where it stalls no other call.
async fn evaluate_apart(
    active: &Arc<ActiveSnapshot>,
    plan: Plan,
    is_sampled: bool,
) -> Result<Decided, AuthorizeError> {
    let active = Arc::clone(active);
    let decide = move || {
        let decided = plan.decide(active.engine());
        if is_sampled {
            compare(&active, &plan, decided)
        } else {
            decided
        }
    };
    tokio::task::spawn_blocking(decide)
        .await
        .map_err(|_| AuthorizeError::EvaluationLost)
}

/// Evaluates again without the index. If the two disagree the request is denied and the index is not trusted any more.
fn compare(active: &ActiveSnapshot, plan: &Plan, decided: Decided) -> Decided {
    let reference = plan.decide(Engine::Full);
    if reference == decided {
        return decided;
    }
    active.distrust_index();
    tracing::error!(
        policy.version = %active.snapshot.version(),
        "the scope index disagrees with the full evaluation: the request is denied and the index is off"
    );
    Decided {
        outcome: Outcome::Deny(DenyReason::PolicyError),
        determining: Vec::new(),
        errors: reference.errors,
        // Not to be kept, whatever else is known of it.
        read_clock: true,
    }
}

/// The parts of a request that no policy reads. They stay out of the cache; an approval needs them.
#[derive(Debug)]
struct Beside {
    caller: String,
    on_behalf_of: Vec<EntityRef>,
    request_id: Option<String>,
    justification: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Beside {
    fn take(request: &mut Request) -> Self {
        Self {
            caller: std::mem::take(&mut request.caller),
            on_behalf_of: std::mem::take(&mut request.on_behalf_of),
            request_id: request.request_id.take(),
            justification: request.justification.take(),
            labels: std::mem::take(&mut request.labels),
        }
    }

    fn give_back(self, prepared: Prepared) -> Request {
        Request {
            caller: self.caller,
            on_behalf_of: self.on_behalf_of,
            request_id: self.request_id,
            justification: self.justification,
            labels: self.labels,
            ..prepared.into_request()
        }
    }
}
