//! Sends metrics and spans to a collector over OTLP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::SpanData;

use super::TelemetryError;
use super::collector_settings::CollectorSettings;

/// An exporter that says once when its collector stops to take what it sends, and once when it takes it again.
#[derive(Debug)]
pub(super) struct Reported<E> {
    signal: &'static str,
    exporter: E,
    is_failing: AtomicBool,
}

/// Sends spans. Must be called within a runtime, which then carries the connection.
pub(super) fn spans(
    settings: &CollectorSettings,
) -> Result<Reported<SpanExporter>, TelemetryError> {
    let builder = SpanExporter::builder()
        .with_tonic()
        .with_tls_config(tls(settings)?);
    let builder = match &settings.address {
        Some(address) => builder.with_endpoint(address),
        None => builder,
    };
    Reported::of("traces", builder.build())
}

/// Sends metrics. Must be called within a runtime, which then carries the connection.
pub(super) fn metrics(
    settings: &CollectorSettings,
) -> Result<Reported<MetricExporter>, TelemetryError> {
    let builder = MetricExporter::builder()
        .with_tonic()
        .with_tls_config(tls(settings)?);
    let builder = match &settings.address {
        Some(address) => builder.with_endpoint(address),
        None => builder,
    };
    Reported::of("metrics", builder.build())
}

/// How a collector behind `https` is trusted, and what it is shown. Without effect on one behind `http`.
fn tls(settings: &CollectorSettings) -> Result<ClientTlsConfig, TelemetryError> {
    let tls = match &settings.authority {
        Some(authority) => {
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.read()?))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    Ok(match &settings.identity {
        Some((certificate, key)) => {
            tls.identity(Identity::from_pem(certificate.read()?, key.read()?))
        }
        None => tls,
    })
}

impl<E> Reported<E> {
    fn of(
        signal: &'static str,
        built: Result<E, opentelemetry_otlp::ExporterBuildError>,
    ) -> Result<Self, TelemetryError> {
        let exporter = built.map_err(|source| TelemetryError::Exporter { signal, source })?;
        Ok(Self {
            signal,
            exporter,
            is_failing: AtomicBool::new(false),
        })
    }

    fn report(&self, result: &OTelSdkResult) {
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !was_failing => {
                tracing::warn!(
                    signal = self.signal,
                    %error,
                    "the collector does not take telemetry; what it misses is lost"
                );
            }
            Ok(()) if was_failing => {
                tracing::info!(signal = self.signal, "the collector takes telemetry again");
            }
            Err(_) | Ok(()) => {}
        }
    }
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter
    for Reported<E>
{
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        self.report(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Reported<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.report(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
