//! Every place that can be told, by the names that rules use: `webhook:soc`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::approval::Approval;
use crate::usecase::approval_store::Delivery;
use crate::usecase::ports::{Channels, PortFuture, TellError};

use super::backoff::retry_delay;
use super::payload;
use super::webhook::{WebhookEndpoint, WebhookMessage};
use super::webhook_config::{WebhookConfig, WebhookConfigError};
use super::webhook_failure::WebhookFailure;

const WEBHOOK: &str = "webhook:";

/// The configured places.
#[derive(Debug, Default)]
pub struct Destinations {
    webhooks: BTreeMap<String, WebhookEndpoint>,
}

/// A place that is configured wrongly.
#[derive(Debug, thiserror::Error)]
#[error("`channels.webhook.{name}`")]
pub struct DestinationError {
    /// Its name.
    name: String,
    /// What is wrong.
    #[source]
    source: WebhookConfigError,
}

impl Destinations {
    /// The places that `webhooks` configures, by name.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn new(webhooks: &BTreeMap<String, WebhookConfig>) -> Result<Self, DestinationError> {
        let build = |(name, config): (&String, &WebhookConfig)| {
            let endpoint =
                WebhookEndpoint::new(name.clone(), config).map_err(|source| DestinationError {
                    name: name.clone(),
                    source,
                })?;
            Ok((name.clone(), endpoint))
        };
        Ok(Self {
            webhooks: webhooks.iter().map(build).collect::<Result<_, _>>()?,
        })
    }

    /// Whether `destination` can be told.
    pub fn knows(&self, destination: &str) -> bool {
        destination
            .strip_prefix(WEBHOOK)
            .is_some_and(|name| self.webhooks.contains_key(name))
    }

    async fn post(
        &self,
        delivery: &Delivery,
        approval: &Approval,
        now: Timestamp,
    ) -> Result<Option<String>, TellError> {
        let destination = &delivery.destination;
        let endpoint = destination
            .strip_prefix(WEBHOOK)
            .and_then(|name| self.webhooks.get(name));
        let Some(endpoint) = endpoint else {
            let error = format!("`{destination}` is not configured on this server");
            return Err(TellError {
                error,
                retry_after: None,
            });
        };
        // The same id for every attempt to tell the same version: the receiver's key against repeats.
        let id = format!("{}_{}", approval.id, approval.version);
        let body = payload::of(approval, delivery, now);
        let message = WebhookMessage {
            id: &id,
            body: &body,
            trace: approval.asked.request.trace,
        };
        endpoint
            .send(&message, now)
            .await
            .map_err(|failure| tell_error(&failure, delivery.attempt))?;
        Ok(Some(id))
    }
}

fn tell_error(failure: &WebhookFailure, attempt: u32) -> TellError {
    let delay = retry_delay(attempt, fastrand::f64());
    let asked = failure.retry_after().unwrap_or(Duration::ZERO);
    let retry_after = delay
        .filter(|_| !failure.is_permanent())
        .map(|delay| delay.max(asked));
    TellError {
        error: sources(failure),
        retry_after,
    }
}

/// What went wrong, with its causes.
fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

impl Channels for Destinations {
    fn tell<'a>(
        &'a self,
        delivery: &'a Delivery,
        approval: &'a Approval,
        now: Timestamp,
    ) -> PortFuture<'a, Result<Option<String>, TellError>> {
        Box::pin(self.post(delivery, approval, now))
    }
}
