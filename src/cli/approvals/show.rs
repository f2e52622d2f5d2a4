//! `countersign approvals show` and `watch`.

use std::ops::ControlFlow;

use clap::Args;

use crate::cli::Outcome;
use crate::cli::output::{print, print_json, say, width};
use crate::cli::report::Format;
use crate::grpc::json;
use crate::grpc::proto::{Approval, ApprovalStatus, GetApprovalResponse, WatchApprovalResponse};

use super::card::card;
use super::clock::WallClock;
use super::connection::Session;
use super::follow::{follow, version_line};

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// The approval's id.
    id: String,
    /// Wait until it is decided. Exit code 0 if it was approved, 3 if it ended otherwise.
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct WatchArguments {
    /// The approval's id.
    id: String,
}

/// Shows an approval, now or when it is decided.
pub(super) async fn show(
    session: &Session,
    arguments: &ShowArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let mut approval = session.get(&arguments.id).await?;
    if arguments.wait && approval.status() == ApprovalStatus::Pending {
        approval = follow(session, &arguments.id, |approval| {
            say(&version_line(approval, &WallClock::here()));
            stop_unless(approval.status() == ApprovalStatus::Pending)
        })
        .await?;
    }
    let outcome = if arguments.wait {
        ended(approval.status())
    } else {
        Outcome::Success
    };
    match format {
        Format::Text => print(&card(&approval, &WallClock::here(), width())),
        Format::Json => {
            let response = GetApprovalResponse {
                approval: Some(approval),
            };
            print_json(&json::write("GetApprovalResponse", &response)?);
        }
    }
    Ok(outcome)
}

/// Prints every version until the last.
pub(super) async fn watch(
    session: &Session,
    arguments: &WatchArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let mut unwritten = Ok(());
    let last = follow(session, &arguments.id, |approval| {
        match format {
            Format::Text => print(&version_line(approval, &WallClock::here())),
            Format::Json => unwritten = print_version(approval),
        }
        stop_unless(unwritten.is_ok())
    })
    .await?;
    unwritten?;
    Ok(ended(last.status()))
}

fn print_version(approval: &Approval) -> anyhow::Result<()> {
    let response = WatchApprovalResponse {
        approval: Some(approval.clone()),
    };
    let text = json::write("WatchApprovalResponse", &response)?;
    let document: serde_json::Value = serde_json::from_str(&text)?;
    print_json(&document.to_string());
    Ok(())
}

fn stop_unless(goes_on: bool) -> ControlFlow<()> {
    if goes_on {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Whether it ended, or stands, as the requester wished.
fn ended(status: ApprovalStatus) -> Outcome {
    match status {
        ApprovalStatus::Approved | ApprovalStatus::Redeemed => Outcome::Success,
        ApprovalStatus::Unspecified
        | ApprovalStatus::Pending
        | ApprovalStatus::Denied
        | ApprovalStatus::Expired
        | ApprovalStatus::Cancelled
        | ApprovalStatus::Superseded
        | ApprovalStatus::Revoked
        | ApprovalStatus::Lapsed => Outcome::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_approved_ends_well() {
        assert_eq!(ended(ApprovalStatus::Approved), Outcome::Success);
        assert_eq!(ended(ApprovalStatus::Redeemed), Outcome::Success);
        assert_eq!(ended(ApprovalStatus::Lapsed), Outcome::Denied);
        assert_eq!(ended(ApprovalStatus::Unspecified), Outcome::Denied);
    }
}
