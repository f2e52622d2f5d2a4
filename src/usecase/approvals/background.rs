//! What happens to approvals without anybody calling: time passes, people are told.
//!
//! Never: a change that correctness rests on. Deadlines count whether or not somebody was here to see them.

use std::sync::Arc;
use std::time::Duration;

use crate::approval::{Event, Status};
use crate::usecase::approval_store::{
    Applied, ApplyCommand, Delivery, DeliveryOutcome, StoreError,
};
use crate::usecase::ports::{Channels, TellError};

use super::standing::{Question, apart, reviewers};
use super::{Approvals, ApprovalsError};

/// Who sweeps is who holds this lease.
const SWEEPER: &str = "sweeper";
/// How long a lease is good without being renewed.
const LEASE: Duration = Duration::from_secs(15);
/// How many approvals are swept in one go.
const SWEEP_BATCH: u32 = 100;
/// How many deliveries one worker takes at once.
const DELIVERY_BATCH: u32 = 16;
/// How long a worker may take to deliver before another one may try.
const DELIVERY_LEASE: Duration = Duration::from_secs(90);

impl Approvals {
    /// Lets time pass for every approval that waits for it, if this process is the one to do so. `holder` names the process.
    ///
    /// Answers how many approvals were looked at.
    ///
    /// # Errors
    /// The store's first; the next sweep tries again. What cannot be swept keeps no other from being swept.
    pub async fn sweep(&self, holder: &str) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let epoch = self
            .store
            .lease(SWEEPER, holder.to_owned(), LEASE, now)
            .await?;
        if epoch.is_none() {
            return Ok(0);
        }
        let due = self.store.due(now, SWEEP_BATCH).await?;
        let count = due.len();
        let mut swept = Ok(count);
        for id in due {
            let command = ApplyCommand {
                id,
                event: Event::Tick,
                version: None,
                key: None,
            };
            let ticked = self.apply(command).await;
            swept = swept.and_then(|count| ticked.map(|_| count));
        }
        swept
    }

    /// Ends every pending approval that nobody is left to approve, after policies changed. Answers how many were ended.
    ///
    /// # Errors
    /// The store's first, or that there are no policies. What cannot be ended keeps no other from being ended.
    pub async fn strand(&self) -> Result<usize, ApprovalsError> {
        let active = self.in_force()?;
        let mut ended: usize = 0;
        let mut failed = None;
        let mut after = None;
        loop {
            let filter = crate::usecase::approval_store::ApprovalFilter {
                statuses: [Status::Pending].into(),
                ..Default::default()
            };
            let page = self
                .store
                .list(filter, after, SWEEP_BATCH, self.clock.now())
                .await?;
            for approval in page.approvals {
                let mut question = Question::of(&approval, &active, self.clock.now());
                // Whoever may be asked later can still approve it.
                question.is_escalated |= approval
                    .requirements
                    .iter()
                    .any(|each| each.escalate_after.is_some());
                let seats = approval.seats();
                let (_, filling) = apart(&active.snapshot, move |snapshot| {
                    reviewers(snapshot, &question, &seats)
                })
                .await?;
                if filling.is_full() {
                    continue;
                }
                // These policies have been replaced meanwhile: that activation has a run of its own.
                if !Arc::ptr_eq(&self.in_force()?, &active) {
                    return Ok(ended);
                }
                let event = Event::Strand(active.snapshot.version().clone());
                // To whichever version: who is left does not depend on what happened to it meanwhile.
                let command = ApplyCommand {
                    id: approval.id,
                    event,
                    version: None,
                    key: None,
                };
                match self.apply(command).await {
                    Ok(Applied::Done(_)) => ended = ended.saturating_add(1),
                    Ok(_) => {}
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            after = page.next;
            if after.is_none() {
                return failed.map_or(Ok(ended), |error| Err(error.into()));
            }
        }
    }

    /// Forgets what no caller can ask again.
    ///
    /// # Errors
    /// The store's.
    pub async fn tidy(&self) -> Result<u64, StoreError> {
        self.store.forget_commands(self.clock.now()).await
    }

    /// Takes what must be told and is due, and tells it. Answers how many deliveries were tried.
    ///
    /// # Errors
    /// The store's; what was taken and not finished is due again when its lease is over.
    pub async fn deliver(&self, channels: &Arc<dyn Channels>) -> Result<usize, StoreError> {
        let claimed = self
            .store
            .claim_deliveries(DELIVERY_BATCH, DELIVERY_LEASE, self.clock.now())
            .await?;
        let count = claimed.len();
        let telling = claimed
            .into_iter()
            .map(|delivery| self.tell(channels, delivery));
        for told in futures_util::future::join_all(telling).await {
            told?;
        }
        Ok(count)
    }

    async fn tell(
        &self,
        channels: &Arc<dyn Channels>,
        delivery: Delivery,
    ) -> Result<(), StoreError> {
        // Read again: what is told is how it stands now, not how it stood when the wish to tell was written.
        let Some(approval) = self.store.find(&delivery.approval).await? else {
            let error = "the approval does not exist".to_owned();
            return self
                .store
                .finish_delivery(delivery, DeliveryOutcome::Dead { error }, self.clock.now())
                .await;
        };
        let told = channels.tell(&delivery, &approval, self.clock.now()).await;
        let channel = delivery.destination.split(':').next().unwrap_or_default();
        self.observer.told(channel, told.is_ok());
        let outcome = match told {
            Ok(reference) => DeliveryOutcome::Posted {
                version: approval.version,
                reference,
            },
            Err(TellError {
                error,
                retry_after: Some(wait),
            }) => {
                let at = self
                    .clock
                    .now()
                    .checked_add(wait)
                    .unwrap_or(jiff::Timestamp::MAX);
                tracing::info!(destination = delivery.destination, approval.id = %approval.id, %error, "telling failed, and will be tried again");
                DeliveryOutcome::Retry { at, error }
            }
            Err(TellError {
                error,
                retry_after: None,
            }) => {
                tracing::warn!(destination = delivery.destination, approval.id = %approval.id, %error, "telling was given up");
                DeliveryOutcome::Dead { error }
            }
        };
        self.store
            .finish_delivery(delivery, outcome, self.clock.now())
            .await
    }
}
