//! What is seen of calls and decisions.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::model::{Decision, TraceContext};
use crate::usecase::callers::{METHODS, Method};
use crate::usecase::observing::{CallSeen, DecisionSeen, DecisionSource};
use crate::usecase::{ApprovalPart, Authorized};

use super::access::{Access, Gatekeeper};
use super::{convert, trace};

/// The full names of [`METHODS`], in their order.
const FULL_NAMES: [&str; METHODS.len()] = [
    "countersign.v1.AuthorizationService/Authorize",
    "countersign.v1.AuthorizationService/BatchAuthorize",
    "countersign.v1.AuthorizationService/Explain",
    "countersign.v1.ApprovalService/GetApproval",
    "countersign.v1.ApprovalService/ListApprovals",
    "countersign.v1.ApprovalService/WatchApproval",
    "countersign.v1.ApprovalService/WaitApproval",
    "countersign.v1.ApprovalService/ListReviewers",
    "countersign.v1.ApprovalService/Vote",
    "countersign.v1.ApprovalService/CancelApproval",
    "countersign.v1.ApprovalService/RevokeApproval",
    "countersign.v1.ApprovalService/ReportOutcome",
    "countersign.v1.PolicyService/GetPolicyStatus",
    "countersign.v1.PolicyService/ReloadPolicies",
    "countersign.v1.AuditService/ListLogs",
    "countersign.v1.AuditService/QueryRecords",
    "countersign.v1.AuditService/GetCheckpoint",
    "countersign.v1.AuditService/GetInclusionProof",
    "countersign.v1.AuditService/GetConsistencyProof",
    "countersign.v1.AuditService/ExportRecords",
];
/// What everybody may call.
const OPEN: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// The name of what does not exist.
const OTHER: &str = "_OTHER";

/// The method at `path`, if it is one that not everybody may call.
pub(super) fn method_of(path: &str) -> Option<Method> {
    let name = path.strip_prefix('/')?;
    FULL_NAMES
        .iter()
        .zip(Method::all())
        .find_map(|(full, method)| (*full == name).then_some(method))
}

fn full_name(method: Method) -> &'static str {
    FULL_NAMES.get(method.index()).copied().unwrap_or(OTHER)
}

/// A call under way, to be told of when it is answered.
pub(super) struct Call {
    gatekeeper: Arc<Gatekeeper>,
    method: &'static str,
    since: Instant,
    trace: Option<TraceContext>,
}

impl Call {
    pub(super) fn of(
        method: Method,
        gatekeeper: &Arc<Gatekeeper>,
        since: Instant,
        headers: &HeaderMap,
    ) -> Self {
        Self {
            gatekeeper: Arc::clone(gatekeeper),
            method: full_name(method),
            since,
            trace: trace::of_headers(headers),
        }
    }

    /// A call that everybody may make.
    pub(super) fn open<B>(
        gatekeeper: &Arc<Gatekeeper>,
        since: Instant,
        request: &http::Request<B>,
    ) -> Self {
        let path = request.uri().path().strip_prefix('/');
        let known = OPEN.iter().find(|name| path == Some(**name));
        Self {
            gatekeeper: Arc::clone(gatekeeper),
            method: known.copied().unwrap_or(OTHER),
            since,
            trace: trace::of_headers(request.headers()),
        }
    }

    /// The call is answered, or its stream begins.
    pub(super) fn answered(&self, answer: &http::Response<Body>) {
        let reason = reason_of(answer);
        self.gatekeeper.observer.called(&CallSeen {
            method: self.method,
            status: status_of(answer),
            error: reason.as_deref(),
            took: self.since.elapsed(),
            trace: self.trace,
            has_decision_span: false,
        });
    }
}

/// A call that decides is answered; whoever decided has told of the decision.
pub(super) fn answered(access: &Access, answer: &http::Response<Body>) {
    let (status, reason) = (status_of(answer), reason_of(answer));
    access.gatekeeper.observer.called(&CallSeen {
        method: full_name(access.method),
        status,
        error: reason.as_deref(),
        took: access.since.elapsed(),
        trace: access.trace,
        has_decision_span: access.method == Method::AUTHORIZE && status == "OK",
    });
}

/// The gRPC status that an answer begins with. What ends a stream later is not seen here.
fn status_of(answer: &http::Response<Body>) -> &'static str {
    let code = answer
        .headers()
        .get("grpc-status")
        .map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// This API's reason why a call failed, where it failed with one.
fn reason_of(answer: &http::Response<Body>) -> Option<String> {
    answer.headers().get("grpc-status-details-bin")?;
    let status = Status::from_header_map(answer.headers())?;
    status.get_details_error_info().map(|info| info.reason)
}

/// A request was decided.
pub(super) fn decided(access: &Access, authorized: &Authorized) {
    let approval = authorized.approval.approval();
    let opened_by = approval.and_then(|approval| approval.asked.request.trace);
    let decision = authorized.decision();
    access.gatekeeper.observer.decided(&DecisionSeen {
        decision,
        deny_reason: (decision == Decision::Deny).then(|| convert::deny_reason_name(authorized)),
        source: source_of(authorized),
        decision_id: authorized.decision_id,
        policy_version: authorized.active.snapshot.version().as_str(),
        evaluation_us: authorized.evaluation.took_us,
        approval_id: approval.map(|approval| approval.id.as_str()),
        opened_by: opened_by.filter(|opened| Some(*opened) != access.trace),
        took: access.since.elapsed(),
        trace: access.trace,
        is_item: access.method != Method::AUTHORIZE,
    });
}

fn source_of(authorized: &Authorized) -> DecisionSource {
    match authorized.approval {
        ApprovalPart::Waits(_)
        | ApprovalPart::Granted(_)
        | ApprovalPart::Untouched(_)
        | ApprovalPart::Refused(_) => DecisionSource::Approval,
        ApprovalPart::None if authorized.evaluation.is_cached => DecisionSource::Cache,
        ApprovalPart::None => DecisionSource::Evaluation,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::grpc::proto::DESCRIPTORS;

    #[test]
    fn every_method_of_the_api_needs_a_binding() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let described: BTreeSet<String> = pool
            .services()
            .flat_map(|service| {
                let name = service.full_name().to_owned();
                let methods: Vec<String> = service
                    .methods()
                    .map(|method| format!("{name}/{}", method.name()))
                    .collect();
                methods
            })
            .collect();
        let known: BTreeSet<String> = FULL_NAMES.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(described, known);
    }

    #[test]
    fn every_method_is_found_by_its_path() {
        for (full, method) in FULL_NAMES.iter().zip(Method::all()) {
            assert_eq!(method_of(&format!("/{full}")), Some(method));
            assert_eq!(*full, format!("countersign.v1.{method}"));
        }
        assert_eq!(method_of("/grpc.health.v1.Health/Check"), None);
        assert_eq!(
            method_of("countersign.v1.AuthorizationService/Authorize"),
            None
        );
    }
}
