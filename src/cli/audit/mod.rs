//! `countersign audit`: reads, proves, exports and verifies the audit log.
//!
//! Place: floor 6, a client of `AuditService`, or a reader of an audit folder.
//! Never: a proof that was not checked here, a text from outside on the terminal that was not made visible.

mod export;
mod filter;
mod keys;
mod page;
mod proof;
mod query;
mod rows;
mod show;
mod source;
mod verify;
mod verify_database;
mod verify_evidence;
mod verify_json;
mod verify_logs;
mod verify_source;
mod verify_text;

use clap::{Args, Subcommand};

pub use verify::{VerifyInputs, verify};

use crate::cli::Outcome;
use crate::cli::approvals::Refused;
use crate::cli::output::complain;
use crate::cli::runtime::in_runtime;

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List records, the newest first.
    Query(query::QueryArguments),
    /// Show all that is recorded about one action: a decision's or an approval's id. Exit code 1 if a proof fails.
    Show(show::ShowArguments),
    /// Write a bundle for `countersign audit verify`.
    Export(export::ExportArguments),
    /// Verify audit folders or bundles without a server.
    Verify(verify::VerifyArguments),
    /// The keys that sign the control log.
    Keys(keys::KeysArguments),
}

/// Does what was asked; what the server refuses is a finding.
pub(super) fn run(arguments: &AuditArguments) -> anyhow::Result<Outcome> {
    let done = match &arguments.command {
        Command::Query(query) => in_runtime(query::run(query)),
        Command::Show(show) => in_runtime(show::run(show)),
        Command::Export(export) => in_runtime(export::run(export)),
        Command::Verify(verify) => verify::run(verify),
        Command::Keys(keys) => keys::run(keys),
    };
    match done {
        Err(error) if error.is::<Refused>() => {
            complain(&format!("{error:#}"));
            Ok(Outcome::Findings)
        }
        done => done,
    }
}
