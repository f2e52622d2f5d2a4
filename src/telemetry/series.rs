//! The names of what is measured over time, and how finely.

use opentelemetry::metrics::{Counter, Histogram, Meter};

/// Seconds, from a kept decision to a call that waited for its turn.
const CALL_SECONDS: [f64; 15] = [
    5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1.0, 10.0,
];
/// Seconds, from somebody who waits at the screen to a week.
const HUMAN_SECONDS: [f64; 12] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0, 86_400.0, 259_200.0, 604_800.0,
];

/// Instruments that are told of each event.
///
/// Prometheus sees a name with `_` for `.`, then the unit, then `_total` for a counter; units in braces are not written.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) decisions: Histogram<f64>,
    pub(super) calls: Histogram<f64>,
    pub(super) calls_refused: Counter<u64>,
    pub(super) connections_refused: Counter<u64>,
    pub(super) resolutions: Histogram<f64>,
    pub(super) deliveries: Counter<u64>,
}

impl Series {
    pub(super) fn of(meter: &Meter) -> Self {
        let seconds = |name: &'static str, help: &'static str, boundaries: &[f64]| {
            meter
                .f64_histogram(name)
                .with_description(help)
                .with_unit("s")
                .with_boundaries(boundaries.to_vec())
                .build()
        };
        let count = |name: &'static str, unit: &'static str, help: &'static str| {
            let counter = meter.u64_counter(name).with_description(help);
            counter.with_unit(unit).build()
        };
        Self {
            decisions: seconds(
                "countersign.decision.duration",
                "Time from the arrival of a request to its decision.",
                &CALL_SECONDS,
            ),
            calls: seconds(
                "rpc.server.call.duration",
                "Time from the arrival of a call to its answer; for a stream, to its first.",
                &CALL_SECONDS,
            ),
            calls_refused: count(
                "countersign.calls.refused",
                "{call}",
                "Calls turned away before anything was done for them.",
            ),
            connections_refused: count(
                "countersign.connections.refused",
                "{connection}",
                "Connections turned away.",
            ),
            resolutions: seconds(
                "countersign.approval.resolution",
                "Time from the opening of an approval to its result.",
                &HUMAN_SECONDS,
            ),
            deliveries: count(
                "countersign.deliveries",
                "{message}",
                "Attempts to tell somebody of an approval.",
            ),
        }
    }
}
