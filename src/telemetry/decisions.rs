//! How long decisions take, by what they are and what they rest on.

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundHistogram, Histogram};

use crate::model::Decision;
use crate::usecase::observing::{DecisionSeen, DecisionSource};

/// One bound histogram for each pair of outcome and source, made when the pair is first seen: looking up attributes for each
/// decision would cost more than the rest of the measurement.
#[derive(Debug)]
pub(super) struct DecisionTimes {
    durations: Histogram<f64>,
    allow: BySource,
    deny: BySource,
    require_approval: BySource,
}

#[derive(Debug, Default)]
struct BySource {
    cache: OnceLock<BoundHistogram<f64>>,
    evaluation: OnceLock<BoundHistogram<f64>>,
    approval: OnceLock<BoundHistogram<f64>>,
}

impl DecisionTimes {
    pub(super) fn new(durations: Histogram<f64>) -> Self {
        Self {
            durations,
            allow: BySource::default(),
            deny: BySource::default(),
            require_approval: BySource::default(),
        }
    }

    pub(super) fn record(&self, seen: &DecisionSeen<'_>) {
        let by_source = match seen.decision {
            Decision::Allow => &self.allow,
            Decision::Deny => &self.deny,
            Decision::RequireApproval => &self.require_approval,
        };
        let durations = match seen.source {
            DecisionSource::Cache => &by_source.cache,
            DecisionSource::Evaluation => &by_source.evaluation,
            DecisionSource::Approval => &by_source.approval,
        };
        durations
            .get_or_init(|| self.bind(seen.decision, seen.source))
            .record(seen.took.as_secs_f64());
    }

    fn bind(&self, decision: Decision, source: DecisionSource) -> BoundHistogram<f64> {
        self.durations.bind(&[
            KeyValue::new("outcome", outcome_name(decision)),
            KeyValue::new("source", source_name(source)),
        ])
    }
}

/// The name of `decision` in metrics and spans.
pub(super) fn outcome_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::RequireApproval => "require_approval",
    }
}

/// The name of `source` in metrics and spans.
pub(super) fn source_name(source: DecisionSource) -> &'static str {
    match source {
        DecisionSource::Cache => "cache",
        DecisionSource::Evaluation => "evaluation",
        DecisionSource::Approval => "approval",
    }
}
