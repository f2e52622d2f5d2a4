//! Spans of calls, made when a call is over.
//!
//! Most calls are not traced, so nothing is made before it is clear that a call is; then its start is its end less what it took.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use crate::model::TraceContext;
use crate::usecase::observing::{CallSeen, DecisionSeen};
use crate::usecase::ports::Clock;

use super::Sampler;
use super::calls::{OK, attributes};
use super::decisions::{outcome_name, source_name};

/// The method of a single decision.
const AUTHORIZE: &str = "countersign.v1.AuthorizationService/Authorize";

/// Makes spans of calls that are over.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) tracer: SdkTracer,
    pub(super) sampler: Sampler,
    /// Whether callers' spans are heeded.
    pub(super) reads_trace_context: bool,
    pub(super) clock: Arc<dyn Clock>,
}

/// A call that is over.
struct Call {
    method: &'static str,
    status: &'static str,
    caller: Option<TraceContext>,
    took: Duration,
}

impl Spans {
    /// The span of a single decision; one of a batch has none, its batch has.
    pub(super) fn decided(&self, seen: &DecisionSeen<'_>) {
        let caller = self.caller(seen.trace);
        if seen.is_item || !self.sampler.takes(caller) {
            return;
        }
        let call = Call {
            method: AUTHORIZE,
            status: OK,
            caller,
            took: seen.took,
        };
        let links = seen.opened_by.map(opened_by).into_iter().collect();
        self.make(&call, decision_attributes(seen), links);
    }

    /// The span of a call, unless [`Spans::decided`] made it.
    pub(super) fn called(&self, seen: &CallSeen<'_>) {
        let caller = self.caller(seen.trace);
        if seen.has_decision_span || !self.sampler.takes(caller) {
            return;
        }
        let call = Call {
            method: seen.method,
            status: seen.status,
            caller,
            took: seen.took,
        };
        let reason = seen
            .error
            .map(|error| KeyValue::new("countersign.error.reason", error.to_owned()));
        self.make(&call, reason.into_iter().collect(), Vec::new());
    }

    fn caller(&self, trace: Option<TraceContext>) -> Option<TraceContext> {
        trace.filter(|_| self.reads_trace_context)
    }

    fn make(&self, call: &Call, own: Vec<KeyValue>, links: Vec<Link>) {
        let end = self.clock.now();
        let start = end.checked_sub(call.took).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut attributes = attributes((call.method, call.status));
        attributes.extend(own);
        let builder = SpanBuilder::from_name(call.method)
            .with_kind(SpanKind::Server)
            .with_start_time(start)
            .with_attributes(attributes)
            .with_links(links);
        let context = match call.caller {
            Some(caller) => Context::new().with_remote_span_context(span_context(caller)),
            None => Context::new(),
        };
        let mut span = self.tracer.build_with_context(builder, &context);
        if is_fault(call.status) {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(end.into());
    }
}

fn decision_attributes(seen: &DecisionSeen<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("countersign.decision.id", seen.decision_id.to_string()),
        KeyValue::new("countersign.decision.outcome", outcome_name(seen.decision)),
        KeyValue::new("countersign.decision.source", source_name(seen.source)),
        KeyValue::new("countersign.policy.version", seen.policy_version.to_owned()),
        KeyValue::new(
            "countersign.evaluation.duration_us",
            i64::from(seen.evaluation_us),
        ),
    ];
    let reason = seen.deny_reason;
    attributes
        .extend(reason.map(|reason| KeyValue::new("countersign.decision.deny_reason", reason)));
    let approval = seen.approval_id;
    attributes.extend(approval.map(|id| KeyValue::new("countersign.approval.id", id.to_owned())));
    attributes
}

/// People may take days to answer, so the call that asked them is another trace, and linked.
fn opened_by(opener: TraceContext) -> Link {
    let which = KeyValue::new("countersign.link", "approval.opened_by");
    Link::new(span_context(opener), vec![which], 0)
}

fn span_context(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace_id),
        SpanId::from_bytes(context.span_id),
        TraceFlags::default().with_sampled(context.is_sampled),
        true,
        TraceState::default(),
    )
}

/// Whether `status` is the server's fault, after the conventions for gRPC: a caller's mistake is no error of this span.
fn is_fault(status: &str) -> bool {
    matches!(
        status,
        "UNKNOWN"
            | "DEADLINE_EXCEEDED"
            | "UNIMPLEMENTED"
            | "INTERNAL"
            | "UNAVAILABLE"
            | "DATA_LOSS"
    )
}

#[cfg(test)]
#[path = "spans_tests.rs"]
mod tests;
