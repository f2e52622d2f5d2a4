//! `countersign approvals approve` and `deny`.

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use clap::Args;

use crate::cli::Outcome;
use crate::cli::output::{BOLD, RESET, print, print_json, say, width};
use crate::cli::report::Format;
use crate::grpc::json;
use crate::grpc::proto::{Approval, VoteChoice, VoteRequest};

use super::card::card;
use super::clock::WallClock;
use super::connection::{Session, fresh_key, there, twice};
use super::failure::failure;
use super::words::{coloured, progress};

#[derive(Debug, Args)]
pub(super) struct ApproveArguments {
    /// The approval's id.
    id: String,
    /// What you say about it, at most 2,048 bytes.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Approve without being shown the request and asked.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct DenyArguments {
    /// The approval's id.
    id: String,
    /// Why, at most 2,048 bytes; the requester reads it.
    #[arg(long, value_name = "TEXT")]
    comment: String,
}

/// Shows the request, asks, and approves it.
pub(super) async fn approve(
    session: &Session,
    arguments: &ApproveArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    if !arguments.yes && !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask on; with `--yes` nobody is asked");
    }
    let approval = session.get(&arguments.id).await?;
    if !arguments.yes {
        say(&card(&approval, &WallClock::here(), width()));
        confirm()?;
    }
    let comment = arguments.comment.clone().unwrap_or_default();
    let vote = ballot(approval, VoteChoice::Approve, comment);
    cast(session, vote, format).await
}

/// Shows the request and denies it.
pub(super) async fn deny(
    session: &Session,
    arguments: &DenyArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let approval = session.get(&arguments.id).await?;
    say(&card(&approval, &WallClock::here(), width()));
    let vote = ballot(approval, VoteChoice::Deny, arguments.comment.clone());
    cast(session, vote, format).await
}

fn confirm() -> anyhow::Result<()> {
    let mut error = anstream::stderr();
    write!(error, "\n{BOLD}Approve this? type yes:{RESET} ").ok();
    error.flush().ok();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("the answer cannot be read")?;
    if answer.trim() != "yes" {
        bail!("nothing was approved: the answer was not `yes`");
    }
    Ok(())
}

// INVARIANT (what-you-see): the digests are those of the approval that was shown; the server refuses the vote if it is another now.
fn ballot(shown: Approval, choice: VoteChoice, comment: String) -> VoteRequest {
    VoteRequest {
        id: shown.id,
        choice: choice.into(),
        request_digest: shown.request_digest,
        view_digest: shown.view_digest,
        comment,
        request_id: fresh_key(),
    }
}

async fn cast(session: &Session, vote: VoteRequest, format: Format) -> anyhow::Result<Outcome> {
    let voted = twice(|| {
        let mut client = session.client();
        let request = session.request(vote.clone());
        async move { client.vote(request).await }
    });
    let voted = voted.await.map_err(|status| failure(&status))?;
    match format {
        Format::Json => print_json(&json::write("VoteResponse", &voted)?),
        Format::Text => {
            let is_counted = voted.counted;
            let approval = there(voted.approval)?;
            print(&standing(&approval));
            if !is_counted {
                say("the vote was not needed any more: the approval already stood so");
            }
        }
    }
    Ok(Outcome::Success)
}

/// The new state, and what is still needed.
pub(super) fn standing(approval: &Approval) -> String {
    format!("{}  {}", coloured(approval.status()), progress(approval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_names_what_was_shown() {
        let shown = Approval {
            id: "a".to_owned(),
            request_digest: "12".to_owned(),
            view_digest: "34".to_owned(),
            ..Approval::default()
        };
        let vote = ballot(shown.clone(), VoteChoice::Deny, "use staging".to_owned());
        assert_eq!((vote.id.as_str(), vote.choice()), ("a", VoteChoice::Deny));
        assert_eq!(
            (vote.request_digest.as_str(), vote.view_digest.as_str()),
            ("12", "34")
        );
        assert_eq!(vote.comment, "use staging");
        let other = ballot(shown, VoteChoice::Deny, String::new());
        assert_ne!(vote.request_id, other.request_id);
        assert!(vote.request_id.len() <= 128);
    }
}
