//! Turns what is seen into metrics and spans.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, Counter, Histogram, Meter};

use crate::usecase::observing::{CallSeen, ConnectionRefusal, DecisionSeen, Observer, RefusalKind};

use super::calls::CallTimes;
use super::decisions::DecisionTimes;
use super::series::Series;
use super::spans::Spans;

/// Turns what is seen into metrics and spans.
#[derive(Debug)]
pub(super) struct MeasuringObserver {
    decisions: DecisionTimes,
    calls: CallTimes,
    // Bound from the start, so that a rate has a zero to begin with.
    refused: Vec<(RefusalKind, BoundCounter<u64>)>,
    connections_refused: Vec<(ConnectionRefusal, BoundCounter<u64>)>,
    resolutions: Histogram<f64>,
    deliveries: Counter<u64>,
    spans: Option<Spans>,
}

impl MeasuringObserver {
    pub(super) fn new(meter: &Meter, spans: Option<Spans>) -> Self {
        let series = Series::of(meter);
        let reason = |name: &'static str| [KeyValue::new("reason", name)];
        let refused =
            RefusalKind::ALL.map(|kind| (kind, series.calls_refused.bind(&reason(kind.name()))));
        let connections_refused = ConnectionRefusal::ALL.map(|kind| {
            let counter = series.connections_refused.bind(&reason(kind.name()));
            (kind, counter)
        });
        Self {
            decisions: DecisionTimes::new(series.decisions),
            calls: CallTimes::new(series.calls),
            refused: refused.into(),
            connections_refused: connections_refused.into(),
            resolutions: series.resolutions,
            deliveries: series.deliveries,
            spans,
        }
    }
}

impl Observer for MeasuringObserver {
    fn decided(&self, seen: &DecisionSeen<'_>) {
        self.decisions.record(seen);
        if let Some(spans) = &self.spans {
            spans.decided(seen);
        }
    }

    fn called(&self, seen: &CallSeen<'_>) {
        self.calls.record(seen);
        if let Some(spans) = &self.spans {
            spans.called(seen);
        }
    }

    fn refused(&self, reason: RefusalKind) {
        count(&self.refused, reason);
    }

    fn connection_refused(&self, reason: ConnectionRefusal) {
        count(&self.connections_refused, reason);
    }

    fn resolved(&self, result: &'static str, waited: Duration) {
        let result = KeyValue::new("result", result);
        self.resolutions.record(waited.as_secs_f64(), &[result]);
    }

    fn told(&self, channel: &str, was_told: bool) {
        let result = if was_told { "delivered" } else { "failed" };
        let attributes = [
            KeyValue::new("channel", channel.to_owned()),
            KeyValue::new("result", result),
        ];
        self.deliveries.add(1, &attributes);
    }
}

/// Adds one to the counter of `kind`.
fn count<K: PartialEq + Copy>(counters: &[(K, BoundCounter<u64>)], kind: K) {
    if let Some((_, counter)) = counters.iter().find(|(other, _)| *other == kind) {
        counter.add(1);
    }
}
