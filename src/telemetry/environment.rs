//! What `OTEL_*` variables say, as far as the SDK does not read them itself.
//!
//! Headers, timeouts, compression, batch sizes and intervals are read by the exporters (`OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*`,
//! `OTEL_METRIC_EXPORT_INTERVAL`). An empty variable is one that is not set.

use std::collections::BTreeMap;

use super::collector_settings::CollectorSettings;
use super::resource::{attributes, service_name};
use super::variables::Variables;
use super::{ExporterChoice, Sampler, TelemetryError};

/// What `OTEL_*` variables say. Holds no secret: headers are not kept, addresses with credentials are refused.
#[derive(Clone, Debug, PartialEq)]
pub struct OtelEnvironment {
    pub(super) is_disabled: bool,
    pub(super) traces: Option<ExporterChoice>,
    pub(super) metrics: Option<MetricsExporters>,
    sampler: Option<NamedSampler>,
    ratio: Option<f64>,
    pub(super) reads_trace_context: bool,
    pub(super) service_name: Option<String>,
    pub(super) resource: Vec<(String, String)>,
    pub(super) traces_collector: CollectorSettings,
    pub(super) metrics_collector: CollectorSettings,
}

/// What metrics are exported with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MetricsExporters {
    pub(super) prometheus: bool,
    pub(super) otlp: bool,
}

/// A sampler that may still lack its ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NamedSampler {
    follows_caller: bool,
    others: Others,
}

/// What becomes of the calls that a sampler does not leave to their callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    All,
    None,
    Ratio,
}

impl OtelEnvironment {
    /// What `variables` say.
    ///
    /// # Errors
    /// The first variable with a value that cannot be used.
    pub fn of(variables: &BTreeMap<String, String>) -> Result<Self, TelemetryError> {
        let all = Variables(variables);
        let is_disabled = all.parse("OTEL_SDK_DISABLED", boolean, "`true` or `false`")?;
        // Where nothing is told to anybody, nothing else matters.
        let none = BTreeMap::new();
        let variables = if is_disabled == Some(true) {
            Variables(&none)
        } else {
            all
        };
        let propagates = variables.text("OTEL_PROPAGATORS").map(propagators);
        let resource = variables.parse(
            "OTEL_RESOURCE_ATTRIBUTES",
            attributes,
            "a list `key=value,key=value` with percent-encoded values",
        )?;
        let resource = resource.unwrap_or_default();
        Ok(Self {
            is_disabled: is_disabled.unwrap_or(false),
            traces: variables.parse("OTEL_TRACES_EXPORTER", traces, "`otlp` or `none`")?,
            metrics: variables.parse(
                "OTEL_METRICS_EXPORTER",
                metrics,
                "`otlp`, `prometheus`, both with a comma, or `none`",
            )?,
            sampler: variables.parse(
                "OTEL_TRACES_SAMPLER",
                sampler,
                "`always_on`, `always_off` or `traceidratio`, alone or behind `parentbased_`",
            )?,
            ratio: variables.parse("OTEL_TRACES_SAMPLER_ARG", ratio, "between 0 and 1")?,
            reads_trace_context: propagates.unwrap_or(true),
            service_name: variables
                .text("OTEL_SERVICE_NAME")
                .map(str::to_owned)
                .or_else(|| service_name(&resource)),
            resource,
            traces_collector: CollectorSettings::of_traces(variables)?,
            metrics_collector: CollectorSettings::of_metrics(variables)?,
        })
    }

    /// The sampler, with `ratio` where the environment has none.
    ///
    /// `OTEL_TRACES_SAMPLER_ARG` alone changes the ratio of the usual sampler, which is `parentbased_traceidratio`.
    pub(super) fn sampler(&self, ratio: f64) -> Sampler {
        let named = self.sampler.unwrap_or(NamedSampler {
            follows_caller: true,
            others: Others::Ratio,
        });
        Sampler {
            follows_caller: named.follows_caller,
            ratio: match named.others {
                Others::All => 1.0,
                Others::None => 0.0,
                Others::Ratio => self.ratio.unwrap_or(ratio),
            },
        }
    }
}

/// `true` or `false`, in any case, as the specification has it.
fn boolean(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

fn traces(text: &str) -> Option<ExporterChoice> {
    match text {
        "otlp" => Some(ExporterChoice::Otlp),
        "none" => Some(ExporterChoice::None),
        _ => None,
    }
}

fn metrics(text: &str) -> Option<MetricsExporters> {
    let mut exporters = MetricsExporters::default();
    if text == "none" {
        return Some(exporters);
    }
    for name in text.split(',') {
        match name.trim() {
            "otlp" => exporters.otlp = true,
            "prometheus" => exporters.prometheus = true,
            _ => return None,
        }
    }
    Some(exporters)
}

fn sampler(text: &str) -> Option<NamedSampler> {
    let (follows_caller, name) = match text.strip_prefix("parentbased_") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let others = match name {
        "always_on" => Others::All,
        "always_off" => Others::None,
        "traceidratio" => Others::Ratio,
        _ => return None,
    };
    Some(NamedSampler {
        follows_caller,
        others,
    })
}

fn ratio(text: &str) -> Option<f64> {
    let ratio = text.parse().ok()?;
    (0.0..=1.0).contains(&ratio).then_some(ratio)
}

/// Whether the caller's span is read. Nothing is called from here, so baggage would have nowhere to go.
fn propagators(text: &str) -> bool {
    text.split(',').any(|name| name.trim() == "tracecontext")
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
