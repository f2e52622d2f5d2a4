//! What a client sees of an error: the one place that decides it.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::model::{PolicyProblem, RequestFault, RequestProblem};
use crate::usecase::AuthorizeError;
use crate::usecase::ports::ApprovalError;

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
}

impl ClientError {
    pub(super) fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            field: String::new(),
        }
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
            AuthorizeError::Approval(ApprovalError::NotAvailable) => Self {
                field: "approval_id".to_owned(),
                ..Self::new(
                    Code::Unimplemented,
                    ErrorReason::ApprovalsNotAvailable,
                    message,
                )
            },
            AuthorizeError::Approval(ApprovalError::Unreachable(_)) => Self::new(
                Code::Unavailable,
                ErrorReason::ApprovalsNotAvailable,
                message,
            ),
            AuthorizeError::EvaluationLost => {
                Self::new(Code::Internal, ErrorReason::Internal, message)
            }
        }
    }
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
        details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
        if !error.field.is_empty() && error.code == Code::InvalidArgument {
            details.set_bad_request(vec![FieldViolation::new(
                error.field,
                error.message.clone(),
            )]);
        }
        if matches!(error.code, Code::Unavailable | Code::ResourceExhausted) {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Self::with_error_details(error.code, error.message, details)
    }
}
