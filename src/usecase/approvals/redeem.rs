//! Spends a grant on the very request that was approved, under the policies of now.
//!
//! INVARIANT (spent-or-not-allowed): the one answer that allows for the sake of an approval is given after the store said `Done` to the
//! redemption. Whatever else happens, errors and lost answers among it, does not allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::approval::quorum::Seats;
use crate::approval::{
    Approval, ApprovalId, Cause, Digest, Event, FrozenRequirement, RedeemAttempt, Refusal,
    SafeText, Standing, Status, request_digest, seats_of,
};
use crate::model::{Decided, DenyReason, EntityRef, Mode, Outcome, Request};
use crate::policy::{Snapshot, canonical_extension};
use crate::usecase::ActiveSnapshot;
use crate::usecase::AuthorizeError;
use crate::usecase::approval_store::{Applied, ApplyCommand};
use crate::usecase::ids::new_id;
use crate::usecase::verdict::{ApprovalFault, ApprovalPart};

use super::standing::{Judged, Question, apart, judge};
use super::{Approvals, ApprovalsError};

/// How often a redemption is prepared anew because others changed the approval meanwhile.
const ATTEMPTS: usize = 5;

/// What redeeming comes to: what the policies say now, if they were asked, and what the approval adds to it.
pub(in crate::usecase) struct Redeemed {
    pub(in crate::usecase) decided: Decided,
    pub(in crate::usecase) part: ApprovalPart,
}

/// For each counted voter, by the name the vote was counted under: one name for the person, and what they may do now.
type Standings = BTreeMap<EntityRef, (EntityRef, Standing)>;

/// A request that comes back, as it is now.
struct Returned {
    active: Arc<ActiveSnapshot>,
    request: Request,
    digest: Digest,
}

impl Approvals {
    /// Redeems the approval called `id` for `request`.
    pub(in crate::usecase) async fn redeem(
        &self,
        active: &Arc<ActiveSnapshot>,
        id: &ApprovalId,
        request: Request,
    ) -> Result<Redeemed, AuthorizeError> {
        if request.mode == Mode::Check {
            return Err(ApprovalsError::CheckOnly.into());
        }
        let prepared = active.snapshot.prepare(request)?;
        let action = prepared.action_name().to_owned();
        let request = prepared.into_request();
        let returned = Returned {
            active: Arc::clone(active),
            digest: request_digest(&request, &action, canonical_extension),
            request,
        };
        for _ in 0..ATTEMPTS {
            let approval = self.existing(id).await?;
            if let Some(redeemed) = self.try_redeem(&returned, approval).await? {
                return Ok(redeemed);
            }
        }
        Err(ApprovalsError::Contended.into())
    }

    /// One attempt; none if the approval was changed by somebody else meanwhile.
    async fn try_redeem(
        &self,
        returned: &Returned,
        approval: Approval,
    ) -> Result<Option<Redeemed>, AuthorizeError> {
        let now = self.clock.now();
        let is_theirs = approval.asked.digest == returned.digest
            && approval.asked.request.caller == returned.request.caller;
        let is_open = !approval.status_at(now).is_terminal();
        if !is_theirs || !is_open {
            // Nothing to judge: the state machine answers, and records the attempt.
            let attempt = self.attempt(returned, Seats::new(), BTreeMap::new());
            return self.settle(&approval, None, attempt).await;
        }
        let decided = self.judge(returned).await?;
        match &decided.outcome {
            Outcome::Deny(DenyReason::Forbidden | DenyReason::NoPermit) => {
                let version = returned.active.snapshot.version().clone();
                let event = Event::Supersede(Cause::PolicyNowDenies, version);
                let part = self.note(&approval, event).await?;
                Ok(part.map(|part| Redeemed { decided, part }))
            }
            // What cannot be judged is denied, and the grant is kept: it can be tried again.
            Outcome::Deny(DenyReason::PolicyError | DenyReason::EntityMissing(_))
            | Outcome::Allow => {
                let part = ApprovalPart::Untouched(Box::new(approval));
                Ok(Some(Redeemed { decided, part }))
            }
            Outcome::RequireApproval(_) if approval.status() == Status::Pending => {
                let part = ApprovalPart::Waits(Box::new(approval));
                Ok(Some(Redeemed { decided, part }))
            }
            Outcome::RequireApproval(requirements) => {
                let frozen: Vec<_> = requirements.iter().map(FrozenRequirement::from).collect();
                let seats = seats_of(&frozen);
                let standings = match self.standings(returned, &approval, &seats).await? {
                    Ok(standings) => standings,
                    Err(doubt) => {
                        tracing::warn!(approval.id = %approval.id, %doubt, "whether the votes still count cannot be told, so the request is denied and the grant is kept");
                        let part = ApprovalPart::Untouched(Box::new(approval));
                        let decided = in_doubt(decided);
                        return Ok(Some(Redeemed { decided, part }));
                    }
                };
                // Judged by policies that have been replaced meanwhile is not judged: the caller may come again.
                if !Arc::ptr_eq(&self.in_force()?, &returned.active) {
                    return Err(ApprovalsError::Contended.into());
                }
                let attempt = self.attempt(returned, seats, standings);
                self.settle(&approval, Some(decided), attempt).await
            }
        }
    }

    /// What the policies say now; never what they said before.
    async fn judge(&self, returned: &Returned) -> Result<Decided, AuthorizeError> {
        let request = returned.request.clone();
        let now = self.clock.now();
        let engine = returned.active.engine();
        let snapshot = Arc::clone(&returned.active.snapshot);
        let decide = move || {
            let prepared = snapshot.prepare(request)?;
            Ok::<_, AuthorizeError>(snapshot.plan(&prepared, now)?.decide(engine))
        };
        AbortOnDropHandle::new(tokio::task::spawn_blocking(decide))
            .await
            .map_err(|_| AuthorizeError::EvaluationLost)?
    }

    /// What each voter may do now, or what cannot be told of one of them.
    async fn standings(
        &self,
        returned: &Returned,
        approval: &Approval,
        seats: &Seats,
    ) -> Result<Result<Standings, String>, AuthorizeError> {
        let question = Question {
            asked: returned.request.clone(),
            seats: seats.keys().cloned().collect(),
            is_escalated: approval.is_escalated(),
            now: self.clock.now(),
            engine: returned.active.engine(),
        };
        let voters: Vec<(EntityRef, EntityRef)> = approval
            .approving_votes()
            .filter(|vote| self.directory.believes(&vote.voter.person))
            .map(|vote| (vote.voter.canonical.clone(), vote.voter.account.clone()))
            .collect();
        let ask = move |snapshot: &Snapshot| {
            let standing = |(canonical, account): (EntityRef, EntityRef)| {
                let Judged { standing, doubt } = judge(snapshot, &question, &account);
                match doubt {
                    Some(doubt) => Err(doubt),
                    None => Ok((canonical, (snapshot.person_of(&account), standing))),
                }
            };
            voters.into_iter().map(standing).collect()
        };
        apart(&returned.active.snapshot, ask)
            .await
            .map_err(AuthorizeError::from)
    }

    fn attempt(&self, returned: &Returned, seats: Seats, standings: Standings) -> RedeemAttempt {
        RedeemAttempt {
            caller: returned.request.caller.clone(),
            key: returned.request.request_id.clone(),
            digest: returned.digest,
            decision_id: new_id(self.clock.now()).to_string(),
            policy_version: returned.active.snapshot.version().clone(),
            seats,
            standings,
        }
    }

    async fn settle(
        &self,
        approval: &Approval,
        decided: Option<Decided>,
        attempt: RedeemAttempt,
    ) -> Result<Option<Redeemed>, AuthorizeError> {
        let event = Event::Redeem(Box::new(attempt));
        let command = ApplyCommand {
            id: approval.id.clone(),
            event,
            version: Some(approval.version),
            key: None,
        };
        let applied = self.apply(command).await.map_err(ApprovalsError::from)?;
        let part = match applied {
            Applied::Done(approval) | Applied::Repeated(approval) => {
                ApprovalPart::Granted(approval)
            }
            Applied::Refused(approval, refusal) => refused(approval, &refusal)?,
            Applied::Moved(_) => return Ok(None),
            Applied::KeyReused => return Err(ApprovalsError::KeyReused.into()),
            Applied::Unknown => return Err(ApprovalsError::NotFound(approval.id.clone()).into()),
        };
        let decided = decided.unwrap_or_else(as_asked);
        Ok(Some(Redeemed { decided, part }))
    }

    /// Lets the policies' denial end the approval; none if it was changed meanwhile.
    async fn note(
        &self,
        approval: &Approval,
        event: Event,
    ) -> Result<Option<ApprovalPart>, ApprovalsError> {
        let command = ApplyCommand {
            id: approval.id.clone(),
            event,
            version: Some(approval.version),
            key: None,
        };
        Ok(match self.apply(command).await? {
            Applied::Done(approval)
            | Applied::Repeated(approval)
            | Applied::Refused(approval, _) => Some(ApprovalPart::Untouched(approval)),
            Applied::Moved(_) | Applied::KeyReused | Applied::Unknown => None,
        })
    }
}

/// That approval is required, as it was at the opening, where nothing had to be decided now.
fn as_asked() -> Decided {
    Decided {
        outcome: Outcome::RequireApproval(Vec::new()),
        determining: Vec::new(),
        errors: Vec::new(),
        // Not to be kept, whatever else is known of it.
        read_clock: true,
    }
}

/// What cannot be judged is denied; the gates that ask for approval are no answer to it.
fn in_doubt(decided: Decided) -> Decided {
    Decided {
        outcome: Outcome::Deny(DenyReason::PolicyError),
        determining: Vec::new(),
        // Not to be kept, whatever else is known of it.
        read_clock: true,
        ..decided
    }
}

fn refused(approval: Box<Approval>, refusal: &Refusal) -> Result<ApprovalPart, ApprovalsError> {
    let message = refusal.to_string();
    Ok(match refusal {
        Refusal::StillPending => ApprovalPart::Waits(approval),
        Refusal::AlreadyRedeemed { .. } => {
            ApprovalPart::refused(ApprovalFault::Redeemed, message, Some(approval))
        }
        Refusal::AlreadyResolved { .. } | Refusal::Superseded(_) => ApprovalPart::refused(
            ApprovalFault::Closed,
            explain_closing(&approval, message),
            Some(approval),
        ),
        // Whoever asks for another's approval learns nothing of it.
        Refusal::RequestMismatch | Refusal::OtherCaller => {
            ApprovalPart::refused(ApprovalFault::Mismatch, message, None)
        }
        Refusal::AlreadyVoted
        | Refusal::OwnRequest { .. }
        | Refusal::NotEligible { .. }
        | Refusal::OtherRequest
        | Refusal::OtherView
        | Refusal::NotTheRequester
        | Refusal::NotRedeemed
        | Refusal::AlreadyReported(_) => {
            return Err(ApprovalsError::Refused(approval, refusal.clone()));
        }
    })
}

/// What a reviewer said belongs to the answer: an agent can read it and do something else.
pub(super) fn explain_closing(approval: &Approval, message: String) -> String {
    let closing = match &approval.state {
        crate::approval::State::Closed(_, closed) => closed.comment.as_ref(),
        crate::approval::State::Pending
        | crate::approval::State::Approved(_)
        | crate::approval::State::Redeemed { .. } => None,
    };
    match closing {
        Some(comment) => format!("{message}: {}", SafeText::lines_of(comment).as_str()),
        None => message,
    }
}
