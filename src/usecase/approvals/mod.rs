//! What is done about decisions that wait for humans: ask, vote, withdraw, redeem, read.
//!
//! Each step gathers what policy says, lets the pure state machine of `approval` decide, and leaves it to the store to keep all of
//! it or nothing.
//! Never: an answer that allows without a grant that the store says is spent.

mod ask;
mod background;
mod error;
mod keys;
mod people;
mod read;
mod redeem;
mod standing;
mod vote;
mod watch;
mod withdraw;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::approval::flood::FloodLimits;
use crate::approval::{Approval, ApprovalId};

use crate::usecase::ActiveSnapshot;
use crate::usecase::approval_store::ApprovalStore;
use crate::usecase::ports::Clock;

pub use error::ApprovalsError;
pub use people::Directory;
pub use read::{ApprovalDetails, Reviewers};
pub use vote::{CastVote, Voted};
pub use watch::WaitFor;
pub use withdraw::{ReportedBy, Withdraw, Withdrawer};

use watch::Watchers;

/// Keeps the decisions that wait for humans.
#[derive(Debug)]
pub struct Approvals {
    store: Arc<dyn ApprovalStore>,
    active: Arc<ArcSwapOption<ActiveSnapshot>>,
    clock: Arc<dyn Clock>,
    directory: Directory,
    limits: FloodLimits,
    watchers: Watchers,
}

impl Approvals {
    /// Keeps approvals in `store`, under the policies that `active` holds at the time of a call.
    pub fn new(
        store: Arc<dyn ApprovalStore>,
        active: Arc<ArcSwapOption<ActiveSnapshot>>,
        clock: Arc<dyn Clock>,
        directory: Directory,
        limits: FloodLimits,
    ) -> Self {
        let watchers = Watchers::new(Arc::clone(&store));
        Self {
            store,
            active,
            clock,
            directory,
            limits,
            watchers,
        }
    }

    /// The policies in force.
    fn in_force(&self) -> Result<Arc<ActiveSnapshot>, ApprovalsError> {
        self.active.load_full().ok_or(ApprovalsError::NoPolicies)
    }

    async fn existing(&self, id: &ApprovalId) -> Result<Approval, ApprovalsError> {
        self.store
            .find(id)
            .await?
            .ok_or_else(|| ApprovalsError::NotFound(id.clone()))
    }
}
