//! What the use cases need from the world.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;

use crate::model::{PolicyProblem, Request, Requirement};
use crate::policy::Bundle;

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

/// Keeps the decisions that wait for humans.
pub trait Approvals: fmt::Debug + Send + Sync {
    /// Opens an approval for `request`, or joins the one that is pending for it; answers its id.
    ///
    /// `None` where this server keeps no approvals: the decision stays `REQUIRE_APPROVAL`, with nothing to wait for.
    fn open<'a>(
        &'a self,
        request: &'a Request,
        requirements: &'a [Requirement],
    ) -> PortFuture<'a, Result<Option<String>, ApprovalError>>;

    /// Spends the grant of `approval_id` on this very request.
    fn redeem<'a>(
        &'a self,
        approval_id: &'a str,
        request: &'a Request,
    ) -> PortFuture<'a, Result<(), ApprovalError>>;
}

/// Why an approval could not be opened or redeemed. Whatever it is, the action is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// This server keeps no approvals.
    #[error("this server keeps no approvals, so `approval_id` cannot be redeemed here")]
    NotAvailable,
    /// The store of approvals cannot be reached.
    #[error("the approvals cannot be reached: {0}")]
    Unreachable(String),
}

/// For a server that keeps no approvals: nothing is opened, nothing can be redeemed.
#[derive(Clone, Copy, Debug)]
pub struct NoApprovals;

impl Approvals for NoApprovals {
    fn open<'a>(
        &'a self,
        _request: &'a Request,
        _requirements: &'a [Requirement],
    ) -> PortFuture<'a, Result<Option<String>, ApprovalError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn redeem<'a>(
        &'a self,
        _approval_id: &'a str,
        _request: &'a Request,
    ) -> PortFuture<'a, Result<(), ApprovalError>> {
        Box::pin(std::future::ready(Err(ApprovalError::NotAvailable)))
    }
}
