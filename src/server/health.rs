//! Whether the server serves, as health checks and those who run it are told: one answer for both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::SERVICES;

/// Tells whether the server serves. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Health {
    reporter: HealthReporter,
    is_serving: Arc<AtomicBool>,
    is_stopping: Arc<AtomicBool>,
}

impl Health {
    /// Tells by `reporter`; it does not serve yet.
    pub(super) fn new(reporter: HealthReporter) -> Self {
        Self {
            reporter,
            is_serving: Arc::default(),
            is_stopping: Arc::default(),
        }
    }

    /// It serves from now on, or does not. A server that stops never serves again.
    pub(super) async fn set(&self, is_serving: bool) {
        let is_serving = is_serving && !self.is_stopping.load(Ordering::SeqCst);
        self.is_serving.store(is_serving, Ordering::SeqCst);
        let status = if is_serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
        // Told to stop meanwhile: the last word is that it does not serve.
        if is_serving && self.is_stopping.load(Ordering::SeqCst) {
            Box::pin(self.set(false)).await;
        }
    }

    /// It has been told to stop.
    pub(super) async fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.set(false).await;
    }

    pub(super) fn is_serving(&self) -> bool {
        self.is_serving.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }
}
