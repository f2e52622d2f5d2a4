//! Telemetry of a running server.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{Sampler as SdkSampler, SdkTracerProvider};
use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::usecase::observing::{Metrics, NoObserver, Observer, Scrape, Vitals};
use crate::usecase::ports::Clock;

use super::observer::MeasuringObserver;
use super::settings::Plan;
use super::signs::Signs;
use super::spans::Spans;
use super::{OtelEnvironment, TelemetryError, TelemetrySettings};
use super::{collector, resource, scrape, vitals};

/// Who measures.
const SCOPE: &str = "countersign";
/// How long the end of the process waits for a collector.
const STOP_WITHIN: Duration = Duration::from_millis(1900);

/// Telemetry of a running server. Stops when it is dropped, if not before.
#[derive(Debug)]
pub struct Telemetry {
    observer: Arc<dyn Observer>,
    signs: Arc<Signs>,
    registry: Option<Registry>,
    meters: Option<SdkMeterProvider>,
    tracers: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts what `settings` and `environment` ask for; `runtime` carries the connection to the collector.
    ///
    /// A collector that cannot be reached is no error; it is tried again with everything that is sent.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn start(
        settings: &TelemetrySettings,
        environment: &OtelEnvironment,
        clock: Arc<dyn Clock>,
        runtime: &Handle,
    ) -> Result<Self, TelemetryError> {
        let plan = Plan::of(settings, environment)?;
        let resource = resource::resource(settings, environment);
        let _runtime = runtime.enter();
        let mut meters = SdkMeterProvider::builder().with_resource(resource.clone());
        let mut registry = None;
        if plan.prometheus {
            let (offered, exporter) = scrape::registry()?;
            meters = meters.with_reader(exporter);
            registry = Some(offered);
        }
        if plan.otlp_metrics {
            let exporter = collector::metrics(&environment.metrics_collector)?;
            meters = meters.with_reader(PeriodicReader::builder(exporter).build());
        }
        let mut tracers = None;
        if plan.otlp_traces {
            let provider = SdkTracerProvider::builder()
                .with_resource(resource)
                // Who is traced is decided before a span is made.
                .with_sampler(SdkSampler::AlwaysOn)
                .with_batch_exporter(collector::spans(&environment.traces_collector)?);
            tracers = Some(provider.build());
        }
        let spans = tracers.as_ref().map(|tracers| Spans {
            tracer: tracers.tracer(SCOPE),
            sampler: plan.sampler,
            reads_trace_context: environment.reads_trace_context,
            clock,
        });
        let is_measured = plan.prometheus || plan.otlp_metrics;
        let meters = is_measured.then(|| meters.build());
        Ok(Self::assemble(registry, meters, tracers, spans))
    }

    fn assemble(
        registry: Option<Registry>,
        meters: Option<SdkMeterProvider>,
        tracers: Option<SdkTracerProvider>,
        spans: Option<Spans>,
    ) -> Self {
        let signs = Arc::new(Signs::default());
        let meter = match &meters {
            Some(meters) => meters.meter(SCOPE),
            // Without a reader, instruments measure nothing.
            None => SdkMeterProvider::default().meter(SCOPE),
        };
        vitals::register(&meter, &signs);
        let observer: Arc<dyn Observer> = if meters.is_none() && spans.is_none() {
            Arc::new(NoObserver)
        } else {
            Arc::new(MeasuringObserver::new(&meter, spans))
        };
        Self {
            observer,
            signs,
            registry,
            meters,
            tracers,
        }
    }

    /// Who is to be told what happens.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.observer)
    }

    /// Shows `vitals` from now on, in place of others if there were any.
    pub fn watch(&self, vitals: Arc<dyn Vitals>) {
        self.signs.watch(vitals);
    }

    /// Whether metrics are offered to Prometheus, so that [`Telemetry::scrape`] has something to say.
    pub fn is_scraped(&self) -> bool {
        self.registry.is_some()
    }

    /// All metrics, in the text format of Prometheus; its content type is [`super::SCRAPE_CONTENT_TYPE`].
    ///
    /// Reads a few files of `/proc`, so it blocks for about a millisecond.
    ///
    /// # Errors
    /// When metrics are not offered to Prometheus, or cannot be written.
    pub fn scrape(&self) -> Result<String, TelemetryError> {
        let registry = self.registry.as_ref().ok_or(TelemetryError::NotOffered)?;
        self.signs.forget();
        scrape::text(registry)
    }

    /// Sends what is left and stops, within two seconds whatever the collector does. Does nothing the second time.
    ///
    /// Blocks. The runtime that telemetry was started with must go on meanwhile: call this from a thread that is not its only one.
    pub fn stop(&self) {
        let deadline = Instant::now() + STOP_WITHIN;
        let (ended, ends) = mpsc::channel();
        // Each in a thread of its own: the SDK waits for a collector as long as an export may take, which is ten seconds.
        let meters = self.meters.clone().map(|meters| {
            let shut_down = move || meters.shutdown();
            in_thread("telemetry-stop-metrics", ended.clone(), shut_down)
        });
        let tracers = self.tracers.clone().map(|tracers| {
            let shut_down = move || tracers.shutdown_with_timeout(STOP_WITHIN);
            in_thread("telemetry-stop-traces", ended, shut_down)
        });
        for _ in meters
            .into_iter()
            .chain(tracers)
            .filter(|is_under_way| *is_under_way)
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if ends.recv_timeout(left).is_err() {
                tracing::warn!("the last metrics or spans did not reach the collector in time");
                return;
            }
        }
    }
}

impl Metrics for Telemetry {
    fn scrape(&self) -> Result<Scrape, String> {
        let text = Self::scrape(self).map_err(|error| error.to_string())?;
        Ok(Scrape {
            content_type: scrape::SCRAPE_CONTENT_TYPE,
            text,
        })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs `act` in a thread, which ends with it; whether there is one.
fn in_thread<T>(
    name: &str,
    ended: mpsc::Sender<()>,
    act: impl FnOnce() -> T + Send + 'static,
) -> bool {
    let run = move || {
        act();
        // Nobody listens any more if it took too long.
        ended.send(()).ok();
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .is_ok()
}

#[cfg(test)]
#[path = "started_tests.rs"]
mod tests;
