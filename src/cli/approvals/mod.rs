//! `countersign approvals`: looks at decisions that wait for humans, votes, gives up and reports.
//!
//! Place: floor 6, a client of `ApprovalService`.
//! Never: a text from outside on the terminal that was not made visible, a credential on the command line, a vote on digests other
//! than those that were shown.

mod act;
mod card;
mod clock;
mod connection;
mod failure;
mod follow;
mod list;
mod reviewers;
mod sheet;
mod show;
mod vote;
mod words;

use clap::{Args, Subcommand};

use crate::cli::Outcome;
use crate::cli::output::complain;
use crate::cli::report::Format;
use crate::cli::runtime::in_runtime;

pub(super) use clock::WallClock;
pub(super) use connection::{Connection, Session, fresh_key, twice};
pub(super) use failure::{Refused, failure};
pub(super) use follow::{follow, version_line};
pub(super) use sheet::{Sheet, table};
pub(super) use words::{approvers, progress, status_word};

#[derive(Debug, Args)]
pub(super) struct ApprovalsArguments {
    #[command(flatten)]
    connection: Connection,
    /// How the answer is written.
    #[arg(long, value_enum, default_value = "text", global = true)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List approvals: the pending first, by deadline.
    List(list::ListArguments),
    /// Show an approval: everything a reviewer must see, and how it stands.
    Show(show::ShowArguments),
    /// Approve a request, after showing it.
    Approve(vote::ApproveArguments),
    /// Deny a request. One denial is enough.
    Deny(vote::DenyArguments),
    /// Give up a pending approval, on the requester's side.
    Cancel(act::WithdrawArguments),
    /// Take back an approval that was not redeemed yet.
    Revoke(act::WithdrawArguments),
    /// Print a line for every change, until nothing can change any more. Exit code 0 if it was redeemed, 3 if it ended otherwise.
    Watch(show::WatchArguments),
    /// Show who could approve now.
    Reviewers(reviewers::ReviewersArguments),
    /// Say what became of a redeemed request.
    Report(act::ReportArguments),
}

/// Does what was asked; what the server refuses is a finding.
pub(super) fn run(arguments: &ApprovalsArguments) -> anyhow::Result<Outcome> {
    let format = arguments.format;
    let done = in_runtime(async {
        let connection = &arguments.connection;
        if matches!(arguments.command, Command::Approve(_) | Command::Deny(_)) {
            connection.require_person()?;
        }
        let session = connection.open().await?;
        match &arguments.command {
            Command::List(list) => list::run(&session, list, format).await,
            Command::Show(show) => show::show(&session, show, format).await,
            Command::Approve(vote) => vote::approve(&session, vote, format).await,
            Command::Deny(vote) => vote::deny(&session, vote, format).await,
            Command::Cancel(withdraw) => act::cancel(&session, withdraw, format).await,
            Command::Revoke(withdraw) => act::revoke(&session, withdraw, format).await,
            Command::Watch(watch) => show::watch(&session, watch, format).await,
            Command::Reviewers(who) => reviewers::run(&session, who, format).await,
            Command::Report(report) => act::report(&session, report, format).await,
        }
    });
    match done {
        Err(error) if error.is::<Refused>() => {
            complain(&format!("{error:#}"));
            Ok(Outcome::Findings)
        }
        done => done,
    }
}
