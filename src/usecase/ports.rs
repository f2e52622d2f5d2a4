//! What the use cases need from the world.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;

use crate::approval::{Approval, Person};
use crate::model::PolicyProblem;
use crate::policy::Bundle;

use super::approval_store::Delivery;

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// Where policies come from.
pub trait PolicySource: fmt::Debug + Send + Sync {
    /// Reads everything there is now. Blocks.
    ///
    /// # Errors
    /// Why it could not be read whole; nothing half-read is returned.
    fn read(&self) -> Result<Bundle, PolicyProblem>;
}

/// A future that a port returns.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells persons by their credentials.
pub trait Credentials: fmt::Debug + Send + Sync {
    /// The person that `token` names.
    ///
    /// # Errors
    /// Why it names nobody. Never anything of the token itself.
    fn person(&self, token: &str) -> Result<Person, UnknownCredential>;
}

/// Why a credential names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownCredential(pub String);

/// Tells people how approvals stand.
pub trait Channels: fmt::Debug + Send + Sync {
    /// Tells the delivery's destination how `approval` stands; may do so twice, so the destination must be able to tell repeats.
    ///
    /// Answers what the destination calls the message.
    fn tell<'a>(
        &'a self,
        delivery: &'a Delivery,
        approval: &'a Approval,
        now: Timestamp,
    ) -> PortFuture<'a, Result<Option<String>, TellError>>;
}

/// Why a destination was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TellError {
    /// What went wrong, without secrets.
    pub error: String,
    /// When it makes sense to try again; none if never.
    pub retry_after: Option<Duration>,
}
