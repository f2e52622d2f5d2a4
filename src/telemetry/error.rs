//! Why telemetry cannot start, or cannot be read.

use std::path::PathBuf;

/// Why telemetry cannot start, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("`log.filter`: `{filter}` is not a filter")]
    BadFilter {
        /// What was given.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else writes them already.
    #[error("logs were set up twice")]
    SetUpTwice,
    /// A variable of the environment has a value that cannot be used.
    #[error("`{variable}`: `{value}` is not {expected}")]
    BadVariable {
        /// Its name.
        variable: &'static str,
        /// What was given.
        value: String,
        /// What is taken.
        expected: &'static str,
    },
    /// The collector's address has a user or a password in it. It is not repeated here.
    #[error(
        "`{variable}`: credentials do not belong into the address; put them into `OTEL_EXPORTER_OTLP_HEADERS`"
    )]
    CredentialsInAddress {
        /// Its name.
        variable: &'static str,
    },
    /// A file for the connection to the collector cannot be read.
    #[error("`{variable}`: cannot read `{}`", path.display())]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate is of no use without its key, nor a key without its certificate.
    #[error("`{variable}` is set and `{missing}` is not; set both or none")]
    Half {
        /// The one that is set.
        variable: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// The share of calls to trace is no share.
    #[error("`telemetry.sample_ratio`: `{0}` is not between 0 and 1")]
    BadRatio(f64),
    /// The exporter to the collector cannot be made.
    #[error("cannot export {signal} to the collector; check `OTEL_EXPORTER_OTLP_*`")]
    Exporter {
        /// `traces` or `metrics`.
        signal: &'static str,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Metrics cannot be offered to Prometheus.
    #[error("cannot offer metrics to Prometheus")]
    Registry(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// Metrics cannot be written as text.
    #[error("cannot write metrics for Prometheus")]
    Scrape(#[source] prometheus::Error),
    /// Metrics are not offered to Prometheus.
    #[error(
        "metrics are not offered to Prometheus; see `telemetry.prometheus`, `OTEL_METRICS_EXPORTER` and `OTEL_SDK_DISABLED`"
    )]
    NotOffered,
}
