//! What a client sees of an error: the one place that decides it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::approval::flood::FloodLimit;
use crate::approval::{Approval, Refusal, SafeText};
use crate::model::{PolicyProblem, RequestFault, RequestProblem};
use crate::usecase::AuthorizeError;
use crate::usecase::approvals::ApprovalsError;
use crate::usecase::audit_reading::{NotNoted, ReadError};

use super::limits::TurnedAway;
use super::proto::{BatchAuthorizeError, ErrorReason};

/// The domain of this API's error reasons.
const DOMAIN: &str = "countersign.v1";
/// When to try again after UNAVAILABLE.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error as the client sees it.
#[derive(Debug, Clone)]
pub(super) struct ClientError {
    pub(super) code: Code,
    pub(super) reason: ErrorReason,
    pub(super) message: String,
    /// The field at fault; empty if it is not about a field.
    pub(super) field: String,
    /// What programs want to know beside the reason.
    pub(super) metadata: HashMap<String, String>,
    /// When to try again, where that may help.
    pub(super) retry_after: Option<Duration>,
}

impl ClientError {
    pub(super) fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            field: String::new(),
            metadata: HashMap::new(),
            retry_after: matches!(code, Code::Unavailable | Code::ResourceExhausted)
                .then_some(RETRY_AFTER),
        }
    }

    /// A field has no acceptable value.
    pub(super) fn invalid(field: &str, message: impl fmt::Display) -> Self {
        Self {
            field: field.to_owned(),
            ..Self::new(
                Code::InvalidArgument,
                ErrorReason::InvalidRequest,
                format!("`{field}`: {message}"),
            )
        }
    }

    /// The call is a person's, and there is no credential that names one.
    pub(super) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, ErrorReason::Unauthenticated, message)
    }

    /// The caller's deadline passed before there was a decision.
    pub(super) fn deadline_exceeded() -> Self {
        let message = "the deadline passed before there was a decision";
        Self::new(
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
            message,
        )
    }

    /// The policy directory could not be loaded.
    pub(super) fn load_failed(problems: &[PolicyProblem]) -> Self {
        let first: Vec<String> = problems
            .iter()
            .filter(|problem| problem.is_error())
            .take(5)
            .map(ToString::to_string)
            .collect();
        let message = format!(
            "the policies cannot be loaded, so what is in force does not change: {}",
            first.join("; ")
        );
        Self::new(
            Code::FailedPrecondition,
            ErrorReason::PolicyLoadFailed,
            message,
        )
    }

    /// The same error in a batch, whose fields start with the request's place.
    pub(super) fn into_batch_error(self, index: usize) -> BatchAuthorizeError {
        let field = if self.field.is_empty() {
            String::new()
        } else {
            format!("requests[{index}].{}", self.field)
        };
        BatchAuthorizeError {
            code: i32::from(self.code),
            reason: i32::from(self.reason),
            message: self.message,
            field,
        }
    }
}

impl From<AuthorizeError> for ClientError {
    fn from(error: AuthorizeError) -> Self {
        let message = error.to_string();
        match error {
            AuthorizeError::NoPolicies => {
                Self::new(Code::Unavailable, ErrorReason::NoPolicies, message)
            }
            AuthorizeError::VersionNotReached(_) => Self {
                field: "min_policy_version".to_owned(),
                ..Self::new(
                    Code::FailedPrecondition,
                    ErrorReason::PolicyVersionNotReached,
                    message,
                )
            },
            AuthorizeError::Request(problem) => problem.into(),
            AuthorizeError::Approval(error) => error.into(),
            AuthorizeError::NotRecorded(_) => {
                Self::new(Code::Unavailable, ErrorReason::AuditUnavailable, message)
            }
            AuthorizeError::EvaluationLost => {
                Self::new(Code::Internal, ErrorReason::Internal, message)
            }
        }
    }
}

impl From<TurnedAway> for ClientError {
    fn from(away: TurnedAway) -> Self {
        match away {
            TurnedAway::DeadlinePassed => Self::deadline_exceeded(),
            TurnedAway::WaitedTooLong | TurnedAway::TooManyWaiting => Self::new(
                Code::ResourceExhausted,
                ErrorReason::Overloaded,
                "the server has more to do than it can; nothing was done for this call",
            ),
        }
    }
}

impl From<ReadError> for ClientError {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::NoSuchLog(_) | ReadError::NoSuchRecord { .. } => {
                Self::new(Code::NotFound, ErrorReason::NotInTheLog, message)
            }
            ReadError::NotYet(_) => {
                Self::new(Code::FailedPrecondition, ErrorReason::NotInTheLog, message)
            }
            ReadError::BadFilter { field, .. } => Self::invalid(field, message),
            ReadError::Damaged { .. } => {
                Self::new(Code::DataLoss, ErrorReason::AuditUnavailable, message)
            }
            // What the system says names files of this machine.
            ReadError::Unreadable { log, .. } => Self::new(
                Code::Unavailable,
                ErrorReason::AuditUnavailable,
                format!("log `{log}` cannot be read now"),
            ),
            ReadError::Write(_) => {
                Self::new(Code::Unavailable, ErrorReason::AuditUnavailable, message)
            }
        }
    }
}

impl From<NotNoted> for ClientError {
    fn from(error: NotNoted) -> Self {
        Self::new(
            Code::Unavailable,
            ErrorReason::AuditUnavailable,
            error.to_string(),
        )
    }
}

impl From<ApprovalsError> for ClientError {
    fn from(error: ApprovalsError) -> Self {
        let message = error.to_string();
        match error {
            ApprovalsError::NoPolicies => {
                Self::new(Code::Unavailable, ErrorReason::NoPolicies, message)
            }
            ApprovalsError::NotKept => Self::new(
                Code::Unimplemented,
                ErrorReason::ApprovalsNotAvailable,
                message,
            ),
            ApprovalsError::NotFound(_) => {
                Self::new(Code::NotFound, ErrorReason::ApprovalNotFound, message)
            }
            ApprovalsError::Refused(approval, refusal) => Self {
                metadata: standing_metadata(&approval, &refusal),
                ..refused(&refusal)
            },
            ApprovalsError::KeyReused => Self {
                reason: ErrorReason::RequestIdReused,
                ..Self::invalid("request_id", message)
            },
            ApprovalsError::FieldRequired { field, .. } => Self::invalid(field, message),
            ApprovalsError::CheckOnly => Self::invalid("approval_id", message),
            ApprovalsError::TooMany {
                limit, retry_after, ..
            } => Self {
                metadata: limit_metadata(limit),
                retry_after: Some(retry_after),
                ..Self::new(
                    Code::ResourceExhausted,
                    ErrorReason::TooManyApprovals,
                    message,
                )
            },
            ApprovalsError::Contended | ApprovalsError::Store(_) => Self::new(
                Code::Unavailable,
                ErrorReason::ApprovalsNotAvailable,
                message,
            ),
            ApprovalsError::EvaluationLost => {
                Self::new(Code::Internal, ErrorReason::Internal, message)
            }
        }
    }
}

/// How the approval stands; where it has ended, since when and by whom.
fn standing_metadata(approval: &Approval, refusal: &Refusal) -> HashMap<String, String> {
    let mut metadata = HashMap::from([
        ("approval_id".to_owned(), approval.id.to_string()),
        ("status".to_owned(), approval.status().to_string()),
    ]);
    if let Refusal::AlreadyResolved { at, by, .. } = refusal {
        metadata.insert("since".to_owned(), at.to_string());
        metadata.insert(
            "by".to_owned(),
            SafeText::of(&by.to_string()).as_str().to_owned(),
        );
    }
    metadata
}

fn limit_metadata(limit: FloodLimit) -> HashMap<String, String> {
    let (name, count) = match limit {
        FloodLimit::PendingPerRequester(count) => ("pending_per_requester", count),
        FloodLimit::OpenedPerMinute(count) => ("opened_per_minute", count),
    };
    [
        ("limit".to_owned(), name.to_owned()),
        ("value".to_owned(), count.to_string()),
    ]
    .into()
}

/// What the state machine refuses: the state is wrong, or the person is.
fn refused(refusal: &Refusal) -> ClientError {
    let (code, reason) = match refusal {
        Refusal::AlreadyResolved { .. }
        | Refusal::AlreadyRedeemed { .. }
        | Refusal::Superseded(_) => (Code::FailedPrecondition, ErrorReason::AlreadyResolved),
        Refusal::StillPending => (Code::FailedPrecondition, ErrorReason::StillPending),
        Refusal::AlreadyVoted => (Code::FailedPrecondition, ErrorReason::AlreadyVoted),
        Refusal::OwnRequest { .. } => (Code::PermissionDenied, ErrorReason::OwnRequest),
        Refusal::NotEligible { .. } => (Code::PermissionDenied, ErrorReason::NotEligible),
        Refusal::OtherRequest | Refusal::OtherView | Refusal::RequestMismatch => {
            (Code::FailedPrecondition, ErrorReason::DigestMismatch)
        }
        Refusal::NotTheRequester | Refusal::OtherCaller => {
            (Code::PermissionDenied, ErrorReason::NotTheRequester)
        }
        Refusal::NotRedeemed | Refusal::AlreadyReported(_) => {
            (Code::FailedPrecondition, ErrorReason::OutcomeNotAccepted)
        }
    };
    ClientError::new(code, reason, refusal.to_string())
}

impl From<RequestProblem> for ClientError {
    fn from(problem: RequestProblem) -> Self {
        let reason = match problem.fault {
            RequestFault::Invalid => ErrorReason::InvalidRequest,
            RequestFault::UnknownAction => ErrorReason::UnknownAction,
            RequestFault::UnknownEntityType => ErrorReason::UnknownEntityType,
            RequestFault::ActionDoesNotApply => ErrorReason::ActionDoesNotApply,
            RequestFault::SchemaMismatch => ErrorReason::SchemaMismatch,
            RequestFault::EntityRedefined => ErrorReason::EntityRedefined,
            RequestFault::DuplicateEntity => ErrorReason::DuplicateEntity,
            RequestFault::LimitExceeded => ErrorReason::LimitExceeded,
        };
        Self {
            message: problem.to_string(),
            field: problem.field,
            ..Self::new(Code::InvalidArgument, reason, "")
        }
    }
}

impl From<ClientError> for Status {
    fn from(error: ClientError) -> Self {
        let reason = error
            .reason
            .as_str_name()
            .trim_start_matches("ERROR_REASON_");
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, error.metadata);
        if !error.field.is_empty() && error.code == Code::InvalidArgument {
            details.set_bad_request(vec![FieldViolation::new(
                error.field,
                error.message.clone(),
            )]);
        }
        if let Some(after) = error.retry_after {
            details.set_retry_info(Some(after));
        }
        Self::with_error_details(error.code, error.message, details)
    }
}
