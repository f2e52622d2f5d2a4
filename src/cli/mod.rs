//! The command line: parse, run, exit code.
//!
//! Place: floor 6.
//! Never: a decision. Data goes to standard output, talk to standard error.

mod approvals;
mod arguments;
mod audit;
mod check;
mod decide;
mod decision;
mod dial;
mod fmt;
mod health;
mod output;
mod report;
mod runtime;
mod serve;
mod test;
mod wait;

pub use audit::{VerifyInputs, verify};

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked: allowed, passed, ran.
    Success,
    /// There are findings; or it failed, where there is nothing to find.
    Findings,
    /// It could not run.
    CouldNotRun,
    /// The request is denied, or its approval ended without being granted.
    Denied,
    /// The request needs approval.
    ApprovalRequired,
    /// It was called wrongly, where the other codes say something else.
    Usage,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Success => 0,
            Outcome::Findings => 1,
            Outcome::CouldNotRun => 2,
            Outcome::Denied | Outcome::Usage => 3,
            Outcome::ApprovalRequired => 4,
        })
    }
}

/// A policy decision point that answers allow, deny or require approval, from Cedar policies.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve decisions over gRPC.
    Serve(serve::ServeArguments),
    /// Check a policy directory: syntax, schema, rules, entities.
    Check(check::CheckArguments),
    /// Format policies.
    Fmt(fmt::FmtArguments),
    /// Run a policy directory's decision cases, and show which policies no case exercises.
    Test(test::TestArguments),
    /// Decide one request: exit code 0 for allow, 3 for deny, 4 for require approval, 2 if there is no decision.
    Authorize(decide::AuthorizeArguments),
    /// Decide one request, and show what every applicable policy said. Exit codes as for `authorize`.
    Explain(decide::DecideArguments),
    /// Look at decisions that wait for humans, and vote. Exit codes: 0 done, 1 refused, 2 could not run.
    Approvals(approvals::ApprovalsArguments),
    /// Read, prove, export and verify the audit log. `verify` exits with 0 intact, 1 tampered with, 2 incomplete, 3 called wrongly.
    Audit(audit::AuditArguments),
    /// Ask a server whether it serves. Exit codes: 0 it does, 1 it does not, 2 it cannot be asked.
    Health(health::HealthArguments),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let outcome = match cli.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Fmt(arguments) => fmt::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Authorize(arguments) => decide::authorize(&arguments),
        Command::Explain(arguments) => decide::explain(&arguments),
        Command::Approvals(arguments) => approvals::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Completions { shell } => {
            // Into memory first: whoever reads the script may leave before its end.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "countersign", &mut script);
            output::print(String::from_utf8_lossy(&script).trim_end());
            Ok(Outcome::Success)
        }
    };
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            output::complain(&format!("{error:#}"));
            Outcome::CouldNotRun.into()
        }
    }
}

/// Says what is wrong with the words. `audit verify` has a code of its own for that: 2 means something else there.
fn misused(error: &clap::Error) -> ExitCode {
    // Nothing is left to be said to whoever does not listen.
    error.print().ok();
    let words: Vec<String> = std::env::args().skip(1).take(2).collect();
    let is_verify =
        matches!(words.as_slice(), [first, second] if first == "audit" && second == "verify");
    match (error.exit_code(), is_verify) {
        (0, _) => Outcome::Success.into(),
        (_, true) => Outcome::Usage.into(),
        (_, false) => Outcome::CouldNotRun.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }
}
