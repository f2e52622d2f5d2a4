//! How an approval stands, in words.

use crate::cli::output::{GREEN, RED, RESET, YELLOW, visible_line};
use crate::grpc::proto::{
    Approval, ApprovalCause, ApprovalOutcome, ApprovalSeat, ApprovalStatus, ApprovalVote,
    VoteChoice,
};

/// The name of a status.
pub(in crate::cli) fn status_word(status: ApprovalStatus) -> &'static str {
    status.as_str_name().trim_start_matches("APPROVAL_STATUS_")
}

/// The same in its colour.
pub(super) fn coloured(status: ApprovalStatus) -> String {
    let colour = match status {
        ApprovalStatus::Pending => YELLOW,
        ApprovalStatus::Approved | ApprovalStatus::Redeemed => GREEN,
        ApprovalStatus::Unspecified
        | ApprovalStatus::Denied
        | ApprovalStatus::Expired
        | ApprovalStatus::Cancelled
        | ApprovalStatus::Superseded
        | ApprovalStatus::Revoked
        | ApprovalStatus::Lapsed => RED,
    };
    format!("{colour}{}{RESET}", status_word(status))
}

/// What a status means, with the cause.
pub(super) fn status_sentence(approval: &Approval) -> String {
    let meaning = match approval.status() {
        ApprovalStatus::Unspecified => "no approval was opened",
        ApprovalStatus::Pending => "it waits for votes",
        ApprovalStatus::Approved => "it waits to be redeemed",
        ApprovalStatus::Redeemed => "it was spent",
        ApprovalStatus::Denied => "somebody who may, said no",
        ApprovalStatus::Expired => "it waited for too long",
        ApprovalStatus::Cancelled => "the requester's side gave up",
        ApprovalStatus::Superseded => "the policies now say otherwise",
        ApprovalStatus::Revoked => "it was taken back before it was spent",
        ApprovalStatus::Lapsed => "it was not spent in time",
    };
    let meaning = match approval.cause() {
        ApprovalCause::Unspecified => meaning,
        ApprovalCause::Veto => "a vote to deny, and one is enough",
        ApprovalCause::UnreachableQuorum => "too few people are left who could approve",
        ApprovalCause::PolicyNowDenies => "the policies now deny the request",
        ApprovalCause::RequirementStronger => "the policies now ask for more than the votes give",
        ApprovalCause::ApproverIneligible => {
            "somebody who approved may not approve any more, and their vote is missing"
        }
    };
    format!("{}: {meaning}", status_word(approval.status()))
}

/// Whether nothing but a report can change it any more.
pub(super) fn is_over(status: ApprovalStatus) -> bool {
    match status {
        ApprovalStatus::Pending | ApprovalStatus::Approved | ApprovalStatus::Unspecified => false,
        ApprovalStatus::Redeemed
        | ApprovalStatus::Denied
        | ApprovalStatus::Expired
        | ApprovalStatus::Cancelled
        | ApprovalStatus::Superseded
        | ApprovalStatus::Revoked
        | ApprovalStatus::Lapsed => true,
    }
}

/// What became of a redeemed request.
pub(super) fn outcome_sentence(outcome: ApprovalOutcome) -> &'static str {
    match outcome {
        ApprovalOutcome::Unspecified => "nobody has said yet what became of it",
        ApprovalOutcome::Succeeded => "it was done",
        ApprovalOutcome::Failed => "it was tried and failed",
        ApprovalOutcome::Unknown => "nobody knows what became of it",
    }
}

/// `1 of 2`.
pub(super) fn count(approval: &Approval) -> String {
    let wanted = sum(approval.requirements.iter().map(|each| each.approvals));
    let missing = sum(approval.missing.iter().map(|seat| seat.count));
    format!("{} of {wanted}", wanted.saturating_sub(missing))
}

fn sum(counts: impl Iterator<Item = u32>) -> u32 {
    counts.fold(0, u32::saturating_add)
}

/// `1 of 2; still needed: 1 for model-release/ml`.
pub(in crate::cli) fn progress(approval: &Approval) -> String {
    let seats: Vec<String> = approval.missing.iter().map(seat).collect();
    if seats.is_empty() || is_over(approval.status()) {
        return count(approval);
    }
    visible_line(&format!(
        "{}; still needed: {}",
        count(approval),
        seats.join(", ")
    ))
}

fn seat(seat: &ApprovalSeat) -> String {
    let slot = if seat.slot.is_empty() {
        String::new()
    } else {
        format!("/{}", seat.slot)
    };
    format!("{} for {}{slot}", seat.count, seat.rule)
}

/// The account of a voter, with the name they signed in with.
pub(super) fn voter(vote: &ApprovalVote) -> String {
    vote.person.as_ref().map_or_else(
        || "somebody".to_owned(),
        |person| {
            visible_line(&format!(
                "{} ({}, says {})",
                person.account, person.subject, person.issuer
            ))
        },
    )
}

/// The name of a choice.
pub(super) fn choice_word(choice: VoteChoice) -> &'static str {
    match choice {
        VoteChoice::Approve => "approved",
        VoteChoice::Deny => "denied",
        VoteChoice::Unspecified => "voted",
    }
}

/// The accounts whose votes approve, as a list.
pub(in crate::cli) fn approvers(approval: &Approval) -> String {
    let votes = approval.votes.iter();
    let accounts: Vec<&str> = votes
        .filter(|vote| vote.choice() == VoteChoice::Approve)
        .filter_map(|vote| vote.person.as_ref())
        .map(|person| person.account.as_str())
        .collect();
    visible_line(&accounts.join(", "))
}
