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
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::approval::flood::FloodLimits;
use crate::approval::{Approval, ApprovalId, Status};

use crate::usecase::ActiveSnapshot;
use crate::usecase::approval_store::{Applied, ApplyCommand, ApprovalStore, StoreError};
use crate::usecase::observing::{ApprovalSigns, NoObserver, Observer};
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
    observer: Arc<dyn Observer>,
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
            observer: Arc::new(NoObserver),
        }
    }

    /// The same, seen by `observer`.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// How many approvals wait, and how telling people keeps up.
    ///
    /// # Errors
    /// The store's.
    pub async fn signs(&self) -> Result<ApprovalSigns, StoreError> {
        self.store.signs(self.clock.now()).await
    }

    /// Has an event happen to an approval; an approval that does not wait for votes any more is seen.
    async fn apply(&self, command: ApplyCommand) -> Result<Applied, StoreError> {
        let now = self.clock.now();
        let applied = self.store.apply(command, now).await?;
        if let Applied::Done(approval) = &applied
            && let Some(result) = resolution(approval.status())
        {
            let waited = now.duration_since(approval.opened);
            let waited = Duration::try_from(waited).unwrap_or_default();
            self.observer.resolved(result, waited);
        }
        Ok(applied)
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

/// What ended the wait for votes; none where it goes on, or had ended before.
fn resolution(status: Status) -> Option<&'static str> {
    match status {
        Status::Approved => Some("approved"),
        Status::Denied => Some("denied"),
        Status::Expired => Some("expired"),
        Status::Cancelled => Some("cancelled"),
        Status::Superseded => Some("superseded"),
        Status::Pending | Status::Redeemed | Status::Revoked | Status::Lapsed => None,
    }
}
