//! Ends an approval otherwise than by a vote, and keeps what became of a redeemed one.

use crate::approval::{Actor, Approval, ApprovalId, Event, Person, ReportedOutcome, Withdrawal};
use crate::usecase::approval_store::ApplyCommand;

use super::error::fulfilled;
use super::keys::{Owner, key, payload};
use super::standing::{Question, apart, standing_of};
use super::{Approvals, ApprovalsError};

/// Who withdraws.
#[derive(Clone, Debug)]
pub enum Withdrawer {
    /// A person, as authenticated.
    Person(Person),
    /// The service on the connection.
    Caller(String),
}

/// A wish to cancel or to revoke.
#[derive(Clone, Debug)]
pub struct Withdraw {
    /// The approval.
    pub id: ApprovalId,
    /// Who wishes it.
    pub by: Withdrawer,
    /// Why.
    pub comment: Option<String>,
    /// The idempotency key.
    pub request_id: Option<String>,
}

/// What a caller says of a redeemed request.
#[derive(Clone, Debug)]
pub struct ReportedBy {
    /// The approval.
    pub id: ApprovalId,
    /// The service on the connection.
    pub caller: String,
    /// What became of the request.
    pub outcome: ReportedOutcome,
    /// In the caller's words.
    pub detail: Option<String>,
    /// The idempotency key.
    pub request_id: Option<String>,
}

impl Approvals {
    /// Gives up a pending approval, on the requester's side.
    ///
    /// # Errors
    /// Why it was not given up.
    pub async fn cancel(&self, withdraw: Withdraw) -> Result<Approval, ApprovalsError> {
        self.withdraw("cancel", withdraw, Event::Cancel).await
    }

    /// Takes back a grant that was not redeemed.
    ///
    /// # Errors
    /// Why it was not taken back.
    pub async fn revoke(&self, withdraw: Withdraw) -> Result<Approval, ApprovalsError> {
        self.withdraw("revoke", withdraw, Event::Revoke).await
    }

    async fn withdraw(
        &self,
        method: &'static str,
        withdraw: Withdraw,
        event: fn(Withdrawal) -> Event,
    ) -> Result<Approval, ApprovalsError> {
        let approval = self.existing(&withdraw.id).await?;
        let payload = payload(&[Some(withdraw.id.as_str()), withdraw.comment.as_deref()]);
        let key = key(
            &withdraw.by.owner(),
            method,
            withdraw.request_id.clone(),
            payload,
        );
        let (by, standing) = match withdraw.by {
            Withdrawer::Caller(name) => (Actor::Caller(name), None),
            Withdrawer::Person(person) => {
                let active = self.in_force()?;
                let voter = self.directory.voter(&active.snapshot, &person, "api");
                let (question, account) = (
                    Question::of(&approval, &active, self.clock.now()),
                    voter.account.clone(),
                );
                let ask = apart(&active.snapshot, move |snapshot| {
                    standing_of(snapshot, &question, &account)
                });
                (Actor::Person(voter), Some(ask.await?))
            }
        };
        let event = event(Withdrawal {
            by,
            standing,
            comment: withdraw.comment,
        });
        let command = ApplyCommand {
            id: withdraw.id.clone(),
            event,
            version: None,
            key,
        };
        fulfilled(&withdraw.id, self.apply(command).await?)
    }

    /// Keeps what became of a request that was allowed by redeeming.
    ///
    /// # Errors
    /// Why it was not kept.
    pub async fn report(&self, report: ReportedBy) -> Result<Approval, ApprovalsError> {
        let payload = payload(&[
            Some(report.id.as_str()),
            Some(report.outcome.as_str()),
            report.detail.as_deref(),
        ]);
        let key = key(
            &Owner::Caller(&report.caller),
            "report",
            report.request_id,
            payload,
        );
        let event = Event::Report {
            caller: report.caller,
            outcome: report.outcome,
            detail: report.detail,
        };
        let command = ApplyCommand {
            id: report.id.clone(),
            event,
            version: None,
            key,
        };
        fulfilled(&report.id, self.apply(command).await?)
    }
}

impl Withdrawer {
    fn owner(&self) -> Owner<'_> {
        match self {
            Self::Person(person) => Owner::Person(person),
            Self::Caller(name) => Owner::Caller(name),
        }
    }
}
