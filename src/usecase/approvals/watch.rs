//! Tells those who wait that an approval changed, whichever process changed it.
//!
//! The store's hints are quick and may be lost; asking it for versions once a second is slow and is the truth.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;

use crate::approval::{Approval, ApprovalId, Status};
use crate::usecase::approval_store::ApprovalStore;

use super::read::ApprovalDetails;
use super::{Approvals, ApprovalsError};

/// The shortest and the longest time between two looks of one who waits, beside those for a reason.
const SHORTEST_NAP: Duration = Duration::from_secs(1);
const LONGEST_NAP: Duration = Duration::from_secs(60);
/// How often the store is asked.
const POLL: Duration = Duration::from_secs(1);

/// Those who wait, by approval.
#[derive(Debug)]
pub(super) struct Watchers {
    store: Arc<dyn ApprovalStore>,
    /// None once the server stops: nobody can wait any more.
    versions: Mutex<Option<HashMap<ApprovalId, watch::Sender<u64>>>>,
}

impl Watchers {
    pub(super) fn new(store: Arc<dyn ApprovalStore>) -> Self {
        Self {
            store,
            versions: Mutex::new(Some(HashMap::new())),
        }
    }

    /// Begins to wait for changes of an approval; none if the server stops.
    fn subscribe(&self, id: &ApprovalId) -> Option<watch::Receiver<u64>> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = versions.as_mut()?;
        let sender = versions
            .entry(id.clone())
            .or_insert_with(|| watch::Sender::new(0));
        Some(sender.subscribe())
    }

    /// Sends everybody away.
    fn close(&self) {
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Those that somebody waits for; the others are forgotten.
    fn watched(&self) -> Vec<ApprovalId> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(versions) = versions.as_mut() else {
            return Vec::new();
        };
        versions.retain(|_, sender| sender.receiver_count() > 0);
        versions.keys().cloned().collect()
    }

    /// Asks the store for the versions of `ids`, and tells.
    async fn look(&self, ids: Vec<ApprovalId>) {
        if ids.is_empty() {
            return;
        }
        match self.store.versions(ids).await {
            Ok(found) => self.tell(found),
            Err(error) => {
                tracing::warn!(%error, "approvals that somebody waits for could not be looked up");
            }
        }
    }

    fn tell(&self, found: Vec<(ApprovalId, u64)>) {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(versions) = versions.as_ref() else {
            return;
        };
        for (id, version) in found {
            if let Some(sender) = versions.get(&id) {
                sender.send_if_modified(|known| std::mem::replace(known, version) != version);
            }
        }
    }

    async fn run(&self) {
        let mut hints = self.store.changes();
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hears = true;
        loop {
            tokio::select! {
                hint = hints.recv(), if hears => match hint {
                    Ok(id) => self.look(self.hinted(id, &mut hints)).await,
                    Err(RecvError::Lagged(_)) => self.look(self.watched()).await,
                    Err(RecvError::Closed) => hears = false,
                },
                _ = poll.tick() => self.look(self.watched()).await,
            }
        }
    }

    /// The hints that are there, as far as somebody waits for them: one question for all.
    fn hinted(
        &self,
        first: ApprovalId,
        hints: &mut broadcast::Receiver<ApprovalId>,
    ) -> Vec<ApprovalId> {
        let mut hinted = BTreeSet::from([first]);
        while let Ok(id) = hints.try_recv() {
            hinted.insert(id);
        }
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        hinted.retain(|id| {
            versions
                .as_ref()
                .is_some_and(|versions| versions.contains_key(id))
        });
        hinted.into_iter().collect()
    }
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// A version after this one.
    After(u64),
    /// That it is not pending any more.
    Resolution,
}

impl WaitFor {
    fn is_met(self, approval: &Approval, now: jiff::Timestamp) -> bool {
        match self {
            // What cannot change any more is not waited for.
            Self::After(version) => approval.version > version || approval.next_timer().is_none(),
            Self::Resolution => approval.status_at(now) != Status::Pending,
        }
    }
}

/// How long until time changes something; a moment longer, so that it has changed by then.
fn until_timer(approval: &Approval, now: jiff::Timestamp) -> Duration {
    let left = approval.next_timer().map(|timer| timer.duration_since(now));
    let left = left.and_then(|left| Duration::try_from(left).ok());
    left.unwrap_or(LONGEST_NAP).clamp(SHORTEST_NAP, LONGEST_NAP)
}

impl Approvals {
    /// Waits until an approval is as wished; none if the server stops before.
    ///
    /// # Errors
    /// [`ApprovalsError::NotFound`], or the store's.
    pub async fn wait(
        &self,
        id: &ApprovalId,
        wish: WaitFor,
    ) -> Result<Option<ApprovalDetails>, ApprovalsError> {
        // Subscribed before reading, so that no change falls between.
        let Some(mut changes) = self.watchers.subscribe(id) else {
            return Ok(None);
        };
        loop {
            let details = self.get(id).await?;
            if wish.is_met(&details.approval, details.now) {
                return Ok(Some(details));
            }
            let nap = until_timer(&details.approval, details.now);
            // A deadline that passes is a change, whether or not somebody writes it down.
            if let Ok(Err(_)) = tokio::time::timeout(nap, changes.changed()).await {
                return Ok(None);
            }
        }
    }

    /// Hears of approvals that changed; some may be missed.
    pub fn changes(&self) -> broadcast::Receiver<ApprovalId> {
        self.store.changes()
    }

    /// Tells those who wait, for ever.
    pub async fn tell_watchers(&self) {
        self.watchers.run().await;
    }

    /// Sends everybody away who waits: the server stops.
    pub fn stop_watching(&self) {
        self.watchers.close();
    }
}
