//! What the use cases need from the world.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::approval::Approval;
use crate::model::PolicyProblem;
use crate::policy::Bundle;

use super::approval_store::Delivery;
use super::callers::Identity;

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

/// Where a call comes from, as the connection shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// From the network, and nothing more is known.
    Network {
        /// The address and port.
        address: String,
    },
    /// From a process of this machine.
    Local {
        /// The user that it runs as, if the system says so.
        user: Option<u32>,
    },
    /// From the network, with a client certificate that was verified.
    Certified {
        /// The address and port.
        address: String,
        /// The certificate's SPIFFE id.
        spiffe_id: String,
    },
}

impl Peer {
    /// Where the connection came from, as it is recorded.
    pub fn address(&self) -> &str {
        match self {
            Self::Network { address } | Self::Certified { address, .. } => address,
            Self::Local { .. } => "unix",
        }
    }
}

/// Tells callers by what they show.
pub trait Authentication: fmt::Debug + Send + Sync {
    /// Who calls without a credential beside the connection itself; perhaps nobody known.
    fn peer(&self, peer: &Peer) -> Arc<Identity>;

    /// Who shows `token`, if that was found out before and still holds.
    fn known(&self, token: &str) -> Option<Arc<Identity>>;

    /// Finds out who shows `token`.
    ///
    /// # Errors
    /// Why it names nobody. Never anything of the token itself.
    fn verify<'a>(
        &'a self,
        token: &'a str,
    ) -> PortFuture<'a, Result<Arc<Identity>, NotAuthenticated>>;
}

/// Why a credential names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthenticated {
    /// It is not good.
    #[error("{0}")]
    BadCredential(String),
    /// It cannot be told now whether it is good.
    #[error("{0}")]
    CannotTell(String),
}

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
