//! Spans, caught in memory.

use opentelemetry::Value;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use uuid::Uuid;

use crate::model::Decision;
use crate::usecase::observing::DecisionSource;

use super::*;

const APPROVAL: &str = "0198c1f2-0000-7000-8000-000000000001";

#[derive(Debug)]
struct AtNoon;

impl Clock for AtNoon {
    fn now(&self) -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }
}

fn context(last: u8, is_sampled: bool) -> TraceContext {
    TraceContext {
        trace_id: [last; 16],
        span_id: [last; 8],
        is_sampled,
    }
}

/// A decision of a sampled caller.
fn decision() -> DecisionSeen<'static> {
    DecisionSeen {
        decision: Decision::Allow,
        deny_reason: None,
        source: DecisionSource::Cache,
        decision_id: Uuid::from_bytes([7; 16]),
        policy_version: "abc",
        evaluation_us: 0,
        approval_id: None,
        opened_by: None,
        took: Duration::from_millis(3),
        trace: Some(context(1, true)),
        is_item: false,
    }
}

/// A call of a sampled caller.
fn call() -> CallSeen<'static> {
    CallSeen {
        method: "countersign.v1.ApprovalService/Vote",
        status: OK,
        error: None,
        took: Duration::from_millis(3),
        trace: Some(context(1, true)),
        has_decision_span: false,
    }
}

/// The spans that come of `act` when calls without a caller's span are traced in this share.
fn spans_at(ratio: f64, act: impl FnOnce(&mut Spans)) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let mut spans = Spans {
        tracer: provider.tracer("test"),
        sampler: Sampler {
            follows_caller: true,
            ratio,
        },
        reads_trace_context: true,
        clock: Arc::new(AtNoon),
    };
    act(&mut spans);
    exporter.get_finished_spans().unwrap()
}

fn one(act: impl FnOnce(&mut Spans)) -> SpanData {
    let mut spans = spans_at(0.0, act);
    assert_eq!(spans.len(), 1);
    spans.remove(0)
}

fn shown(span: &SpanData) -> Vec<String> {
    let attributes = span.attributes.iter();
    attributes
        .map(|pair| format!("{}={}", pair.key, pair.value))
        .collect()
}

#[test]
fn a_decision_is_a_span_of_the_call() {
    let span = one(|spans| spans.decided(&decision()));
    assert_eq!(span.name, AUTHORIZE);
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(span.status, Status::Unset);
    assert_eq!(
        shown(&span),
        [
            "rpc.system.name=grpc",
            "rpc.method=countersign.v1.AuthorizationService/Authorize",
            "rpc.response.status_code=OK",
            "countersign.decision.id=07070707-0707-0707-0707-070707070707",
            "countersign.decision.outcome=allow",
            "countersign.decision.source=cache",
            "countersign.policy.version=abc",
            "countersign.evaluation.duration_us=0",
        ]
    );
}

#[test]
fn a_span_belongs_to_the_callers_trace_and_span() {
    let span = one(|spans| spans.called(&call()));
    assert_eq!(span.span_context.trace_id(), TraceId::from_bytes([1; 16]));
    assert_eq!(span.parent_span_id, SpanId::from_bytes([1; 8]));
    assert!(span.parent_span_is_remote && span.span_context.is_sampled());
    assert_ne!(span.span_context.span_id(), span.parent_span_id);
}

#[test]
fn a_span_ends_now_and_began_when_the_call_arrived() {
    let span = one(|spans| spans.called(&call()));
    assert_eq!(Timestamp::try_from(span.end_time).unwrap(), AtNoon.now());
    let took = span.end_time.duration_since(span.start_time).unwrap();
    assert_eq!(took, Duration::from_millis(3));
}

#[test]
fn a_deny_has_its_reason_and_is_no_error() {
    let denied = DecisionSeen {
        decision: Decision::Deny,
        deny_reason: Some("FORBIDDEN"),
        source: DecisionSource::Evaluation,
        evaluation_us: 120,
        ..decision()
    };
    let span = one(|spans| spans.decided(&denied));
    assert_eq!(span.status, Status::Unset);
    let shown = shown(&span);
    for expected in [
        "countersign.decision.outcome=deny",
        "countersign.decision.deny_reason=FORBIDDEN",
        "countersign.decision.source=evaluation",
        "countersign.evaluation.duration_us=120",
    ] {
        assert!(shown.iter().any(|pair| pair == expected), "{shown:?}");
    }
    assert!(!shown.iter().any(|pair| pair.starts_with("error.type")));
}

#[test]
fn a_redeemed_approval_links_to_the_call_that_opened_it() {
    let redeemed = DecisionSeen {
        source: DecisionSource::Approval,
        approval_id: Some(APPROVAL),
        opened_by: Some(context(9, true)),
        ..decision()
    };
    let span = one(|spans| spans.decided(&redeemed));
    let link = span.links.first().unwrap();
    assert_eq!(span.links.len(), 1);
    assert_eq!(link.span_context.trace_id(), TraceId::from_bytes([9; 16]));
    assert_eq!(link.span_context.span_id(), SpanId::from_bytes([9; 8]));
    let which = &link.attributes[0];
    assert_eq!(which.key.as_str(), "countersign.link");
    assert_eq!(which.value, Value::from("approval.opened_by"));
    let id = format!("countersign.approval.id={APPROVAL}");
    assert!(shown(&span).contains(&id));
}

#[test]
fn only_the_servers_faults_are_errors_but_each_failure_has_its_type() {
    for (status, is_fault) in [
        ("INVALID_ARGUMENT", false),
        ("PERMISSION_DENIED", false),
        ("UNAVAILABLE", true),
        ("INTERNAL", true),
    ] {
        let failed = CallSeen {
            status,
            error: Some("NO_POLICIES"),
            ..call()
        };
        let span = one(|spans| spans.called(&failed));
        assert_eq!(matches!(span.status, Status::Error { .. }), is_fault);
        assert_eq!(
            shown(&span),
            [
                "rpc.system.name=grpc".to_owned(),
                "rpc.method=countersign.v1.ApprovalService/Vote".to_owned(),
                format!("rpc.response.status_code={status}"),
                format!("error.type={status}"),
                "countersign.error.reason=NO_POLICIES".to_owned(),
            ]
        );
    }
}

#[test]
fn one_decision_makes_one_span() {
    let spans = spans_at(0.0, |spans| {
        spans.decided(&decision());
        spans.called(&CallSeen {
            has_decision_span: true,
            ..call()
        });
    });
    assert_eq!(spans.len(), 1);
}

#[test]
fn a_batch_is_one_span() {
    let item = DecisionSeen {
        is_item: true,
        ..decision()
    };
    let spans = spans_at(1.0, |spans| {
        spans.decided(&item);
        spans.decided(&item);
        spans.called(&call());
    });
    assert_eq!(spans.len(), 1);
}

#[test]
fn a_caller_that_does_not_record_is_not_recorded() {
    let unsampled = DecisionSeen {
        trace: Some(context(1, false)),
        ..decision()
    };
    assert!(spans_at(1.0, |spans| spans.decided(&unsampled)).is_empty());
}

#[test]
fn a_call_without_a_callers_span_begins_a_trace_by_chance() {
    let alone = CallSeen {
        trace: None,
        ..call()
    };
    assert!(spans_at(0.0, |spans| spans.called(&alone)).is_empty());
    let spans = spans_at(1.0, |spans| spans.called(&alone));
    assert!(spans[0].span_context.is_valid());
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
}

#[test]
fn without_a_propagator_the_callers_span_is_not_heeded() {
    let spans = spans_at(1.0, |spans| {
        spans.reads_trace_context = false;
        spans.called(&CallSeen {
            trace: Some(context(1, false)),
            ..call()
        });
    });
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert_ne!(
        spans[0].span_context.trace_id(),
        TraceId::from_bytes([1; 16])
    );
}
