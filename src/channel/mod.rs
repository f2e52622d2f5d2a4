//! Adapters to where people are told, by webhooks, and to witnesses of the audit log.
//!
//! Place: floor 3. Only this folder speaks HTTP to others; each channel is a file with its own fences.
//! Never: a vote, or a judgement about who may cast one; a secret or a URL in a log line or an error.

mod backoff;
mod destinations;
mod hidden;
mod payload;
mod webhook;
mod webhook_address;
mod webhook_config;
mod webhook_failure;
mod webhook_signature;
mod witness;

pub use backoff::retry_delay;
pub use destinations::{DestinationError, Destinations};
pub use hidden::Hidden;
pub use webhook::{WebhookEndpoint, WebhookMessage};
pub use webhook_config::{WebhookConfig, WebhookConfigError};
pub use webhook_failure::WebhookFailure;
pub use webhook_signature::{BadSecret, WebhookSecret};
pub use witness::{Answer, Witness, WitnessError, WitnessUrl, WitnessUrlError};
