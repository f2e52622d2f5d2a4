//! What those who run the server see of it: logs, metrics and traces.
//!
//! Place: floor 4; implements the port [`crate::usecase::observing::Observer`] and reads [`crate::usecase::observing::Vitals`].
//! Never: a principal, a token, a context or an attribute's value in a log line, a label or a span; a call that waits for an exporter.
//!
//! Metrics and spans are made with the OpenTelemetry SDK. Prometheus reads the metrics from [`Telemetry::scrape`]; a collector is
//! sent metrics and spans over OTLP. `OTEL_*` variables win over the configuration ([`OtelEnvironment`]).

mod calls;
mod collector;
mod collector_settings;
mod decisions;
mod environment;
mod error;
mod logs;
mod observer;
mod resource;
mod sampling;
mod scrape;
mod series;
mod settings;
mod signs;
mod spans;
mod started;
mod variables;
mod vitals;

pub use environment::OtelEnvironment;
pub use error::TelemetryError;
pub use logs::{LogFormat, start};
pub use sampling::Sampler;
pub use scrape::SCRAPE_CONTENT_TYPE;
pub use settings::{ExporterChoice, TelemetrySettings};
pub use started::Telemetry;
