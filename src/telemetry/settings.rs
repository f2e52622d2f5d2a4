//! What the configuration says of metrics and traces.

use super::{OtelEnvironment, Sampler, TelemetryError};

/// What a signal is sent with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExporterChoice {
    /// OTLP, if the environment has a collector's address.
    #[default]
    IfAddressed,
    /// Nothing.
    None,
    /// OTLP, to `http://localhost:4317` if the environment has no address.
    Otlp,
}

/// What the configuration says of metrics and traces; the environment wins over it.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// Whether metrics are offered to Prometheus.
    pub prometheus: bool,
    /// What spans are sent with.
    pub traces: ExporterChoice,
    /// What metrics are sent with.
    pub metrics: ExporterChoice,
    /// The share of calls without a caller's span that are traced, from 0 to 1.
    pub sample_ratio: f64,
    /// Tells this replica from the others: `service.instance.id`.
    pub service_instance: String,
}

impl TelemetrySettings {
    /// Prometheus, a collector if the environment has an address, and one call in a hundred.
    pub fn new(service_instance: String) -> Self {
        Self {
            prometheus: true,
            traces: ExporterChoice::default(),
            metrics: ExporterChoice::default(),
            sample_ratio: 0.01,
            service_instance,
        }
    }
}

/// What is done, after settings and environment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) prometheus: bool,
    pub(super) otlp_traces: bool,
    pub(super) otlp_metrics: bool,
    pub(super) sampler: Sampler,
}

impl Plan {
    /// What `environment` makes of `settings`.
    pub(super) fn of(
        settings: &TelemetrySettings,
        environment: &OtelEnvironment,
    ) -> Result<Self, TelemetryError> {
        let ratio = settings.sample_ratio;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(TelemetryError::BadRatio(ratio));
        }
        let is_on = !environment.is_disabled;
        let metrics = environment.metrics;
        let prometheus = metrics.map_or(settings.prometheus, |named| named.prometheus);
        let otlp_metrics = metrics.map_or_else(
            || {
                is_sent(
                    settings.metrics,
                    environment.metrics_collector.address.is_some(),
                )
            },
            |named| named.otlp,
        );
        let traces = environment.traces.unwrap_or(settings.traces);
        Ok(Self {
            prometheus: is_on && prometheus,
            otlp_traces: is_on && is_sent(traces, environment.traces_collector.address.is_some()),
            otlp_metrics: is_on && otlp_metrics,
            sampler: environment.sampler(ratio),
        })
    }
}

fn is_sent(choice: ExporterChoice, has_address: bool) -> bool {
    match choice {
        ExporterChoice::IfAddressed => has_address,
        ExporterChoice::None => false,
        ExporterChoice::Otlp => true,
    }
}
