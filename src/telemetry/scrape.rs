//! Metrics as Prometheus reads them.

use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Registry, TextEncoder};

use super::TelemetryError;

/// The content type of [`super::Telemetry::scrape`].
pub const SCRAPE_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A registry with what the system says of this process, and an exporter that adds this server's metrics to it.
pub(super) fn registry() -> Result<(Registry, PrometheusExporter), TelemetryError> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry
        .register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))
        .map_err(TelemetryError::Scrape)?;
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .map_err(TelemetryError::Registry)?;
    Ok((registry, exporter))
}

/// The text of all metrics in `registry`.
pub(super) fn text(registry: &Registry) -> Result<String, TelemetryError> {
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .map_err(TelemetryError::Scrape)
}
