//! Reads approvals, and who could approve them.

use jiff::Timestamp;

use crate::approval::{Approval, ApprovalId, Choice};
use crate::policy::PossibleReviewer;
use crate::usecase::approval_store::{ApprovalFilter, ApprovalPage, DeliveryState, ListCursor};

use super::standing::{Question, apart, reviewers};
use super::{Approvals, ApprovalsError};

/// An approval with what is kept beside it.
#[derive(Clone, Debug)]
pub struct ApprovalDetails {
    /// The approval.
    pub approval: Approval,
    /// The places that could not be told.
    pub failed: Vec<DeliveryState>,
    /// The time it was read.
    pub now: Timestamp,
}

/// Who could fill the seats of an approval.
#[derive(Clone, Debug)]
pub struct Reviewers {
    /// The reviewers, sorted.
    pub reviewers: Vec<PossibleReviewer>,
    /// The approval they were looked up for.
    pub approval: Approval,
    /// Whether they could fill every seat.
    pub is_enough: bool,
}

impl Approvals {
    /// Reads one approval.
    ///
    /// # Errors
    /// [`ApprovalsError::NotFound`], or the store's.
    pub async fn get(&self, id: &ApprovalId) -> Result<ApprovalDetails, ApprovalsError> {
        let approval = self.existing(id).await?;
        let deliveries = self.store.deliveries(Some(id.clone())).await?;
        let failed = deliveries
            .into_iter()
            .filter(|delivery| delivery.error.is_some());
        Ok(ApprovalDetails {
            approval,
            failed: failed.collect(),
            now: self.clock.now(),
        })
    }

    /// Lists approvals, latest opened first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        filter: ApprovalFilter,
        after: Option<ListCursor>,
        limit: u32,
    ) -> Result<(ApprovalPage, Timestamp), ApprovalsError> {
        let now = self.clock.now();
        Ok((self.store.list(filter, after, limit, now).await?, now))
    }

    /// Who could fill the seats of an approval, by the policies in force.
    ///
    /// # Errors
    /// [`ApprovalsError::NotFound`], or the store's.
    pub async fn reviewers(&self, id: &ApprovalId) -> Result<Reviewers, ApprovalsError> {
        let active = self.in_force()?;
        let approval = self.existing(id).await?;
        let question = Question::of(&approval, &active, self.clock.now());
        let seats = approval.seats();
        let (reviewers, filling) = apart(&active.snapshot, move |snapshot| {
            reviewers(snapshot, &question, &seats)
        })
        .await?;
        Ok(Reviewers {
            reviewers,
            approval,
            is_enough: filling.is_full(),
        })
    }

    /// The present moment, as approvals count it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Reviewers {
    /// Whether `reviewer` has approved.
    pub fn has_voted(&self, reviewer: &PossibleReviewer) -> bool {
        let votes = self.approval.counted_votes();
        votes
            .get(&reviewer.reviewer)
            .is_some_and(|vote| vote.choice == Choice::Approve)
    }
}
