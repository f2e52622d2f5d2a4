//! An approval as a reviewer sees it: what is asked first, how it stands then, what to do at the end.

use crate::cli::output::{BOLD, DIM};
use crate::grpc::proto::{Approval, ApprovalFact, ApprovalStatus, ApprovalView};

use super::clock::WallClock;
use super::sheet::Sheet;
use super::words::{choice_word, is_over, outcome_sentence, progress, status_sentence, voter};

/// Everything about `approval`, for a terminal of `width` columns.
pub(super) fn card(approval: &Approval, clock: &WallClock, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    let nothing = ApprovalView::default();
    let view = approval.view.as_ref().unwrap_or(&nothing);
    question(&mut sheet, view);
    sheet.gap();
    sheet.field("progress", &progress(approval));
    votes(&mut sheet, approval, clock);
    deadlines(&mut sheet, approval, clock);
    warnings(&mut sheet, approval, view);
    sheet.field("status", &status_sentence(approval));
    ending(&mut sheet, approval, clock);
    sheet.gap();
    identity(&mut sheet, approval, clock);
    commands(&mut sheet, approval);
    sheet.finish()
}

/// What is asked, in the order in which a reviewer wants to know it.
fn question(sheet: &mut Sheet, view: &ApprovalView) {
    sheet.paragraph(BOLD, &view.headline);
    sheet.gap();
    sheet.field("requester", &view.requester);
    if !view.on_behalf_of.is_empty() {
        sheet.items("on behalf of", view.on_behalf_of.iter().cloned());
    }
    sheet.facts("cannot approve", pairs(&view.requesters_side));
    sheet.field("action", &view.action);
    sheet.field("resource", &view.resource);
    sheet.facts("context", pairs(&view.facts));
    if !view.described.is_empty() {
        sheet.field(
            "described",
            "by the caller; the server does not know these entities:",
        );
        sheet.facts("", pairs(&view.described));
    }
    let reasons = view
        .reasons
        .iter()
        .map(|reason| format!("{}: {} ({})", reason.policy, reason.sentence, reason.title));
    sheet.items("asked because", reasons);
    if view.justification.is_empty() {
        sheet.field("says", "nothing");
    } else {
        sheet.quote("says (unverified)", &view.justification);
    }
    sheet.field("approving grants", &view.grants);
}

fn pairs(facts: &[ApprovalFact]) -> impl Iterator<Item = (&str, &str)> {
    facts
        .iter()
        .map(|fact| (fact.name.as_str(), fact.value.as_str()))
}

fn votes(sheet: &mut Sheet, approval: &Approval, clock: &WallClock) {
    for (at, vote) in approval.votes.iter().enumerate() {
        let label = if at == 0 { "votes" } else { "" };
        let when = clock.both(vote.vote_time.as_ref().map(|t| (t.seconds, t.nanos)));
        let choice = choice_word(vote.choice());
        let line = format!("{} {choice}, {when}, by {}", voter(vote), vote.channel);
        sheet.items(label, [line]);
        if !vote.comment.is_empty() {
            sheet.quote("", &vote.comment);
        }
    }
}

fn deadlines(sheet: &mut Sheet, approval: &Approval, clock: &WallClock) {
    match approval.status() {
        ApprovalStatus::Approved => {
            let until = approval.redeem_before_time.as_ref();
            let until = clock.both(until.map(|t| (t.seconds, t.nanos)));
            sheet.field("redeem before", &until);
        }
        ApprovalStatus::Pending
        | ApprovalStatus::Unspecified
        | ApprovalStatus::Redeemed
        | ApprovalStatus::Denied
        | ApprovalStatus::Expired
        | ApprovalStatus::Cancelled
        | ApprovalStatus::Superseded
        | ApprovalStatus::Revoked
        | ApprovalStatus::Lapsed => {
            let expires = approval.expire_time.as_ref();
            let expires = clock.both(expires.map(|t| (t.seconds, t.nanos)));
            sheet.field("deadline", &expires);
        }
    }
}

fn warnings(sheet: &mut Sheet, approval: &Approval, view: &ApprovalView) {
    if view.mixed_scripts {
        sheet.field(
            "WARNING",
            "letters of several scripts stand together: a name may not be what it looks like",
        );
    }
    for failed in &approval.failed_notifications {
        let given_up = if failed.given_up { ", given up" } else { "" };
        let warning = format!(
            "{} could not be told{given_up}: {}",
            failed.destination, failed.error
        );
        sheet.field("WARNING", &warning);
    }
}

/// How it ended, or was spent.
fn ending(sheet: &mut Sheet, approval: &Approval, clock: &WallClock) {
    if let Some(closing) = &approval.closing {
        let when = clock.both(closing.close_time.as_ref().map(|t| (t.seconds, t.nanos)));
        sheet.field("ended", &format!("{when}, by {}", closing.by));
        if !closing.comment.is_empty() {
            sheet.quote("", &closing.comment);
        }
    }
    if let Some(redemption) = &approval.redemption {
        let time = redemption.redeem_time.as_ref();
        let when = clock.both(time.map(|t| (t.seconds, t.nanos)));
        let decision = &redemption.decision_id;
        sheet.field("redeemed", &format!("{when}, by decision {decision}"));
        sheet.field("outcome", outcome_sentence(redemption.outcome()));
        if !redemption.detail.is_empty() {
            sheet.quote("", &redemption.detail);
        }
    }
}

/// What programs and auditors compare.
fn identity(sheet: &mut Sheet, approval: &Approval, clock: &WallClock) {
    let opened = approval.open_time.as_ref();
    let opened = clock.absolute(opened.map(|t| (t.seconds, t.nanos)));
    let joined = match approval.joined {
        0 => String::new(),
        joined => format!(", joined by {joined} more calls"),
    };
    let line = format!(
        "approval {}, version {}, opened {opened}{joined}",
        approval.id, approval.version
    );
    sheet.paragraph(DIM, &line);
    sheet.paragraph(DIM, &format!("policies {}", approval.policy_version));
    sheet.paragraph(DIM, &format!("request digest {}", approval.request_digest));
    sheet.paragraph(DIM, &format!("view digest {}", approval.view_digest));
}

fn commands(sheet: &mut Sheet, approval: &Approval) {
    let id = &approval.id;
    let status = approval.status();
    if is_over(status) || status == ApprovalStatus::Unspecified {
        return;
    }
    sheet.gap();
    if status == ApprovalStatus::Approved {
        let revoke = format!("countersign approvals revoke {id} --comment TEXT");
        sheet.command("to take it back", &revoke);
        return;
    }
    sheet.command("to approve", &format!("countersign approvals approve {id}"));
    let deny = format!("countersign approvals deny {id} --comment TEXT");
    sheet.command("to deny", &deny);
}

#[cfg(test)]
#[path = "card_tests.rs"]
mod tests;
