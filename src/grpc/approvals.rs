//! `ApprovalService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use crate::approval::{ApprovalId, Choice, Digest, ReportedOutcome};
use crate::model::RequestLimits;
use crate::usecase::approval_store::ApprovalFilter;
use crate::usecase::approvals::{
    ApprovalDetails, Approvals, ApprovalsError, CastVote, ReportedBy, WaitFor, Withdraw, Withdrawer,
};

use super::access::Access;
use super::approval;
use super::deadline::Deadline;
use super::page;
use super::proto::approval_service_server::ApprovalService;
use super::proto::{
    ApprovalStatus, CancelApprovalRequest, CancelApprovalResponse, ErrorReason, GetApprovalRequest,
    GetApprovalResponse, ListApprovalsRequest, ListApprovalsResponse, ListReviewersRequest,
    ListReviewersResponse, ReportOutcomeRequest, ReportOutcomeResponse, RevokeApprovalRequest,
    RevokeApprovalResponse, VoteChoice, VoteRequest, VoteResponse, WaitApprovalRequest,
    WaitApprovalResponse, WatchApprovalRequest, WatchApprovalResponse,
};
use super::status::ClientError;

/// How long a wait lasts unless the caller says otherwise, and at most.
const WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The largest comment, in bytes.
const COMMENT_BYTES: usize = 2_048;

/// A stream of an approval's versions.
type Versions = Pin<Box<dyn Stream<Item = Result<WatchApprovalResponse, Status>> + Send>>;

/// Serves approvals; without them every call is UNIMPLEMENTED.
#[derive(Clone, Debug)]
pub struct ApprovalApi {
    approvals: Option<Arc<Approvals>>,
}

impl ApprovalApi {
    /// Serves `approvals`.
    pub fn new(approvals: Option<Arc<Approvals>>) -> Self {
        Self { approvals }
    }

    fn approvals(&self) -> Result<&Arc<Approvals>, ClientError> {
        Ok(self.approvals.as_ref().ok_or(ApprovalsError::NotKept)?)
    }

    async fn cast(&self, request: Request<VoteRequest>) -> Result<VoteResponse, ClientError> {
        let person = Access::of(&request)?.required_person()?;
        let asked = request.into_inner();
        let choice = match asked.choice() {
            VoteChoice::Approve => Choice::Approve,
            VoteChoice::Deny => Choice::Deny,
            VoteChoice::Unspecified => {
                return Err(ClientError::invalid(
                    "choice",
                    "is required: VOTE_CHOICE_APPROVE or VOTE_CHOICE_DENY",
                ));
            }
        };
        let cast = CastVote {
            id: id(asked.id)?,
            person,
            channel: "api",
            choice,
            request_digest: digest("request_digest", &asked.request_digest)?,
            view_digest: digest("view_digest", &asked.view_digest)?,
            comment: comment("comment", asked.comment)?,
            request_id: request_id(asked.request_id)?,
        };
        let voted = self.approvals()?.vote(cast).await?;
        let now = self.approvals()?.now();
        Ok(VoteResponse {
            approval: Some(approval::at(&voted.approval, now)),
            counted: voted.is_counted,
        })
    }

    async fn page(
        &self,
        asked: ListApprovalsRequest,
    ) -> Result<ListApprovalsResponse, ClientError> {
        let statuses = asked.statuses.iter().map(|status| {
            let status = ApprovalStatus::try_from(*status).ok();
            let status = status.and_then(approval::status_from);
            status.ok_or_else(|| {
                ClientError::invalid("statuses", "holds a status that no approval has")
            })
        });
        let statuses = statuses.collect::<Result<_, _>>()?;
        let filter = ApprovalFilter {
            statuses,
            rules: asked.rules.iter().cloned().collect(),
            requester: Some(asked.requester.clone()).filter(|requester| !requester.is_empty()),
        };
        let (after, size) = page::read(&asked)?;
        let (found, now) = self.approvals()?.list(filter, after, size).await?;
        Ok(ListApprovalsResponse {
            approvals: found
                .approvals
                .iter()
                .map(|each| approval::at(each, now))
                .collect(),
            next_page_token: found
                .next
                .map(|cursor| page::token(&cursor, &asked))
                .unwrap_or_default(),
        })
    }

    async fn wait(&self, asked: WaitApprovalRequest) -> Result<WaitApprovalResponse, ClientError> {
        let approvals = self.approvals()?;
        let id = id(asked.id)?;
        let timeout = match asked.timeout {
            None => WAIT,
            Some(timeout) => Duration::try_from(timeout)
                .map_err(|_| ClientError::invalid("timeout", "is negative or too long"))?,
        };
        let wish = match asked.since_version {
            0 => WaitFor::Resolution,
            version => WaitFor::After(version),
        };
        let waited =
            tokio::time::timeout(timeout.min(LONGEST_WAIT), approvals.wait(&id, wish)).await;
        let (details, timed_out) = match waited {
            Ok(details) => (details?.ok_or_else(stopping)?, false),
            Err(_) => (approvals.get(&id).await?, true),
        };
        Ok(WaitApprovalResponse {
            approval: Some(approval::details(&details)),
            timed_out,
        })
    }

    async fn report(
        &self,
        caller: String,
        asked: ReportOutcomeRequest,
    ) -> Result<ReportOutcomeResponse, ClientError> {
        let outcome: ReportedOutcome =
            approval::outcome_from(asked.outcome()).ok_or_else(|| {
                ClientError::invalid("outcome", "is required: what became of the request")
            })?;
        let approvals = self.approvals()?;
        let report = ReportedBy {
            id: id(asked.id)?,
            caller,
            outcome,
            detail: comment("detail", asked.detail)?,
            request_id: request_id(asked.request_id)?,
        };
        let reported = approvals.report(report).await?;
        Ok(ReportOutcomeResponse {
            approval: Some(approval::at(&reported, approvals.now())),
        })
    }

    fn versions(
        &self,
        asked: WatchApprovalRequest,
        access: &Access,
    ) -> Result<Versions, ClientError> {
        let approvals = Arc::clone(self.approvals()?);
        let left = access
            .identity
            .valid_until
            .map(|until| until.duration_since(approvals.now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        let watch = Watch {
            approvals,
            id: id(asked.id)?,
            since: asked.since_version,
            until: left.and_then(|left| Instant::now().checked_add(left)),
            is_over: false,
        };
        Ok(Box::pin(try_unfold(watch, next_version)))
    }
}

/// A stream under way.
struct Watch {
    approvals: Arc<Approvals>,
    id: ApprovalId,
    since: u64,
    /// When the credential ends that it was begun with.
    until: Option<Instant>,
    is_over: bool,
}

async fn next_version(watch: Watch) -> Result<Option<(WatchApprovalResponse, Watch)>, Status> {
    if watch.is_over {
        return Ok(None);
    }
    let wait = watch.approvals.wait(&watch.id, WaitFor::After(watch.since));
    let ends = async {
        match watch.until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    let waited = tokio::select! {
        waited = wait => waited,
        () = ends => return Err(ended().into()),
    };
    let details: ApprovalDetails = waited.map_err(ClientError::from)?.ok_or_else(stopping)?;
    let is_over = details.approval.next_timer().is_none();
    if is_over && details.approval.version <= watch.since {
        return Ok(None);
    }
    let response = WatchApprovalResponse {
        approval: Some(approval::details(&details)),
    };
    Ok(Some((
        response,
        Watch {
            since: details.approval.version,
            is_over,
            ..watch
        },
    )))
}

fn ended() -> ClientError {
    ClientError::unauthenticated("the credential has ended; go on with a fresh one")
}

fn stopping() -> ClientError {
    let message = "this server is stopping; wait on another one";
    ClientError::new(
        Code::Unavailable,
        ErrorReason::ApprovalsNotAvailable,
        message,
    )
}

fn id(text: String) -> Result<ApprovalId, ClientError> {
    if text.is_empty() {
        return Err(ClientError::invalid("id", "is required: the approval's id"));
    }
    Ok(ApprovalId::new(text))
}

fn digest(field: &str, text: &str) -> Result<Digest, ClientError> {
    text.parse().map_err(|_| {
        let message =
            "is required: the approval's own, 64 hexadecimal digits, as the voter was shown it";
        ClientError::invalid(field, message)
    })
}

fn comment(field: &str, text: String) -> Result<Option<String>, ClientError> {
    if text.len() > COMMENT_BYTES {
        return Err(ClientError::invalid(
            field,
            format!("has {} bytes, more than {COMMENT_BYTES}", text.len()),
        ));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn request_id(text: String) -> Result<Option<String>, ClientError> {
    let limit = RequestLimits::DEFAULT.request_id_bytes;
    if text.len() > limit {
        return Err(ClientError::invalid(
            "request_id",
            format!("has {} bytes, more than {limit}", text.len()),
        ));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[tonic::async_trait]
impl ApprovalService for ApprovalApi {
    type WatchApprovalStream = Versions;

    async fn get_approval(
        &self,
        request: Request<GetApprovalRequest>,
    ) -> Result<Response<GetApprovalResponse>, Status> {
        let deadline = Deadline::of(&request);
        let id = id(request.into_inner().id)?;
        let approvals = self.approvals()?;
        let details = deadline
            .keep(approvals.get(&id))
            .await?
            .map_err(ClientError::from)?;
        Ok(Response::new(GetApprovalResponse {
            approval: Some(approval::details(&details)),
        }))
    }

    async fn list_approvals(
        &self,
        request: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        let deadline = Deadline::of(&request);
        Ok(Response::new(
            deadline.keep(self.page(request.into_inner())).await??,
        ))
    }

    async fn watch_approval(
        &self,
        request: Request<WatchApprovalRequest>,
    ) -> Result<Response<Versions>, Status> {
        let access = Access::of(&request)?;
        Ok(Response::new(self.versions(request.into_inner(), &access)?))
    }

    async fn wait_approval(
        &self,
        request: Request<WaitApprovalRequest>,
    ) -> Result<Response<WaitApprovalResponse>, Status> {
        let deadline = Deadline::of(&request);
        Ok(Response::new(
            deadline.keep(self.wait(request.into_inner())).await??,
        ))
    }

    async fn list_reviewers(
        &self,
        request: Request<ListReviewersRequest>,
    ) -> Result<Response<ListReviewersResponse>, Status> {
        let deadline = Deadline::of(&request);
        let id = id(request.into_inner().id)?;
        let approvals = self.approvals()?;
        let reviewers = deadline
            .keep(approvals.reviewers(&id))
            .await?
            .map_err(ClientError::from)?;
        Ok(Response::new(approval::reviewers(&reviewers)))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let deadline = Deadline::of(&request);
        Ok(Response::new(deadline.keep(self.cast(request)).await??))
    }

    async fn cancel_approval(
        &self,
        request: Request<CancelApprovalRequest>,
    ) -> Result<Response<CancelApprovalResponse>, Status> {
        let by = withdrawer(&request)?;
        let deadline = Deadline::of(&request);
        let asked = request.into_inner();
        let withdraw = withdraw(by, (asked.id, asked.comment, asked.request_id))?;
        let approvals = self.approvals()?;
        let cancelled = deadline
            .keep(approvals.cancel(withdraw))
            .await?
            .map_err(ClientError::from)?;
        Ok(Response::new(CancelApprovalResponse {
            approval: Some(approval::at(&cancelled, approvals.now())),
        }))
    }

    async fn revoke_approval(
        &self,
        request: Request<RevokeApprovalRequest>,
    ) -> Result<Response<RevokeApprovalResponse>, Status> {
        let by = withdrawer(&request)?;
        let deadline = Deadline::of(&request);
        let asked = request.into_inner();
        let withdraw = withdraw(by, (asked.id, asked.comment, asked.request_id))?;
        let approvals = self.approvals()?;
        let revoked = deadline
            .keep(approvals.revoke(withdraw))
            .await?
            .map_err(ClientError::from)?;
        Ok(Response::new(RevokeApprovalResponse {
            approval: Some(approval::at(&revoked, approvals.now())),
        }))
    }

    async fn report_outcome(
        &self,
        request: Request<ReportOutcomeRequest>,
    ) -> Result<Response<ReportOutcomeResponse>, Status> {
        let deadline = Deadline::of(&request);
        let caller = Access::of(&request)?.identity.caller.clone();
        let reported = self.report(caller, request.into_inner());
        Ok(Response::new(deadline.keep(reported).await??))
    }
}

/// Whoever withdraws: a person, or else the service that calls.
fn withdrawer<T>(request: &Request<T>) -> Result<Withdrawer, ClientError> {
    let access = Access::of(request)?;
    let caller = || Withdrawer::Caller(access.identity.caller.clone());
    Ok(access.person().map_or_else(caller, Withdrawer::Person))
}

fn withdraw(
    by: Withdrawer,
    (text, said, key): (String, String, String),
) -> Result<Withdraw, ClientError> {
    Ok(Withdraw {
        id: id(text)?,
        by,
        comment: comment("comment", said)?,
        request_id: request_id(key)?,
    })
}
