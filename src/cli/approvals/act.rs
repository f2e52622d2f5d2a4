//! `countersign approvals cancel`, `revoke` and `report`.

use clap::{Args, ValueEnum};

use crate::cli::Outcome;
use crate::cli::output::{print, print_json};
use crate::cli::report::Format;
use crate::grpc::json;
use crate::grpc::proto::{
    ApprovalOutcome, ApprovalRedemption, CancelApprovalRequest, ReportOutcomeRequest,
    RevokeApprovalRequest,
};

use super::connection::{Session, fresh_key, there, twice};
use super::failure::failure;
use super::vote::standing;
use super::words::outcome_sentence;

#[derive(Debug, Args)]
pub(super) struct WithdrawArguments {
    /// The approval's id.
    id: String,
    /// Why, at most 2,048 bytes.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// The approval's id.
    id: String,
    /// What became of the request.
    #[arg(value_enum)]
    outcome: OutcomeName,
    /// The same in words, at most 2,048 bytes.
    #[arg(long, value_name = "TEXT")]
    detail: Option<String>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutcomeName {
    /// It was done.
    Succeeded,
    /// It was tried and failed.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl From<OutcomeName> for ApprovalOutcome {
    fn from(name: OutcomeName) -> Self {
        match name {
            OutcomeName::Succeeded => Self::Succeeded,
            OutcomeName::Failed => Self::Failed,
            OutcomeName::Unknown => Self::Unknown,
        }
    }
}

/// Gives up a pending approval.
pub(super) async fn cancel(
    session: &Session,
    arguments: &WithdrawArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let wish = CancelApprovalRequest {
        id: arguments.id.clone(),
        comment: arguments.comment.clone().unwrap_or_default(),
        request_id: fresh_key(),
    };
    let cancelled = twice(|| {
        let mut client = session.client();
        let request = session.request(wish.clone());
        async move { client.cancel_approval(request).await }
    });
    let cancelled = cancelled.await.map_err(|status| failure(&status))?;
    match format {
        Format::Json => print_json(&json::write("CancelApprovalResponse", &cancelled)?),
        Format::Text => print(&standing(&there(cancelled.approval)?)),
    }
    Ok(Outcome::Success)
}

/// Takes a grant back.
pub(super) async fn revoke(
    session: &Session,
    arguments: &WithdrawArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let wish = RevokeApprovalRequest {
        id: arguments.id.clone(),
        comment: arguments.comment.clone().unwrap_or_default(),
        request_id: fresh_key(),
    };
    let revoked = twice(|| {
        let mut client = session.client();
        let request = session.request(wish.clone());
        async move { client.revoke_approval(request).await }
    });
    let revoked = revoked.await.map_err(|status| failure(&status))?;
    match format {
        Format::Json => print_json(&json::write("RevokeApprovalResponse", &revoked)?),
        Format::Text => print(&standing(&there(revoked.approval)?)),
    }
    Ok(Outcome::Success)
}

/// Says what became of a redeemed request.
pub(super) async fn report(
    session: &Session,
    arguments: &ReportArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let said = ReportOutcomeRequest {
        id: arguments.id.clone(),
        outcome: ApprovalOutcome::from(arguments.outcome).into(),
        detail: arguments.detail.clone().unwrap_or_default(),
        request_id: fresh_key(),
    };
    let reported = twice(|| {
        let mut client = session.client();
        let request = session.request(said.clone());
        async move { client.report_outcome(request).await }
    });
    let reported = reported.await.map_err(|status| failure(&status))?;
    match format {
        Format::Json => print_json(&json::write("ReportOutcomeResponse", &reported)?),
        Format::Text => {
            let approval = there(reported.approval)?;
            let redemption = approval.redemption.as_ref();
            let outcome =
                redemption.map_or(ApprovalOutcome::Unspecified, ApprovalRedemption::outcome);
            print(&format!(
                "{}; {}",
                standing(&approval),
                outcome_sentence(outcome)
            ));
        }
    }
    Ok(Outcome::Success)
}
