//! What those who run the server ask over HTTP: metrics, and whether it is well.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::usecase::observing::{Metrics, Vitals};

/// `/metrics`, `/healthz/live` and `/healthz/ready`.
///
/// Live is 200 as long as the process answers. Ready is 200 as long as gRPC health says SERVING, and otherwise 503 with the reason as
/// text.
pub fn operators(vitals: Arc<dyn Vitals>, metrics: Option<Arc<dyn Metrics>>) -> Router {
    let health = Router::new()
        .route("/healthz/live", get(|| async { "alive\n" }))
        .route("/healthz/ready", get(ready))
        .with_state(vitals);
    match metrics {
        Some(metrics) => health.merge(
            Router::new()
                .route("/metrics", get(scrape))
                .with_state(metrics),
        ),
        None => health,
    }
}

async fn ready(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    let signs = vitals.read();
    if signs.is_serving {
        return "ready\n".into_response();
    }
    let is_sealed = signs.audit.as_ref().is_some_and(|audit| audit.is_sealed);
    let reason = if signs.is_stopping {
        "stopping\n"
    } else if signs.policies.is_none() {
        "no policies are in force\n"
    } else if is_sealed {
        "sealed: the audit log was changed from outside\n"
    } else {
        "decisions cannot be recorded\n"
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn scrape(State(metrics): State<Arc<dyn Metrics>>) -> Response {
    // Files are read for it, and this runtime has one thread that others need.
    let scraped = tokio::task::spawn_blocking(move || metrics.scrape()).await;
    match scraped.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(scrape) => ([(header::CONTENT_TYPE, scrape.content_type)], scrape.text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
