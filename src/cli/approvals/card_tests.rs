//! What a reviewer must see, and in which order.

use crate::grpc::json;

use super::*;

const PENDING: &str = r#"{
  "id": "0199c0de-0000-7000-8000-000000000001",
  "status": "APPROVAL_STATUS_PENDING",
  "version": "2",
  "request_digest": "1111111111111111111111111111111111111111111111111111111111111111",
  "view_digest": "2222222222222222222222222222222222222222222222222222222222222222",
  "policy_version": "3333333333333333333333333333333333333333333333333333333333333333",
  "requirements": [{"rule": "model-release", "title": "Model release", "approvals": 2}],
  "missing": [{"rule": "model-release", "slot": "ml", "count": 1}],
  "open_time": "2026-03-01T12:00:00Z",
  "expire_time": "2026-03-01T13:15:00Z",
  "votes": [{
    "person": {"issuer": "development", "subject": "aiko", "account": "User::\"aiko\""},
    "choice": "VOTE_CHOICE_APPROVE", "vote_time": "2026-03-01T12:57:00Z",
    "comment": "looks fine\nto me", "seats": ["model-release/risk"], "channel": "api"
  }],
  "failed_notifications": [{"destination": "webhook:soc", "error": "503", "given_up": true}],
  "view": {
    "headline": "Promote on Model::\"fraud-v7\"",
    "requester": "Agent::\"retrain-bot\"",
    "on_behalf_of": ["User::\"yuki\""],
    "requesters_side": [{"name": "User::\"yuki\"", "value": "it acts on their behalf"}],
    "action": "Action::\"Promote\"",
    "resource": "Model::\"fraud-v7\"",
    "facts": [
      {"name": "environment", "value": "\"production\""},
      {"name": "metrics.auc", "value": "decimal(\"0.91\")"}
    ],
    "described": [{"name": "Model::\"fraud-v7\".stage", "value": "\"candidate\""}],
    "reasons": [{"title": "Model release", "policy": "gate-promote", "sentence": "Models go live with two pairs of eyes"}],
    "justification": "urgent ⟨U+202E⟩ please\nthank you",
    "grants": "this exact action, once, within 10 minutes of the deciding vote",
    "mixed_scripts": true
  }
}"#;

fn approval(text: &str) -> Approval {
    json::read("Approval", text).unwrap()
}

fn shown(approval: &Approval, width: usize) -> String {
    let clock = WallClock::at("2026-03-01T13:00:00Z");
    anstream::adapter::strip_str(&card(approval, &clock, width)).to_string()
}

#[track_caller]
fn check_order(page: &str, words: &[&str]) {
    let mut rest = page;
    for word in words {
        let (_, behind) = rest
            .split_once(word)
            .unwrap_or_else(|| panic!("`{word}` is missing or too early:\n{page}"));
        rest = behind;
    }
}

#[test]
fn a_reviewer_sees_everything_in_its_order() {
    check_order(
        &shown(&approval(PENDING), 100),
        &[
            "Promote on Model::\"fraud-v7\"",
            "requester         Agent::\"retrain-bot\"",
            "on behalf of      - User::\"yuki\"",
            "cannot approve    - User::\"yuki\"  it acts on their behalf",
            "action            Action::\"Promote\"",
            "resource          Model::\"fraud-v7\"",
            "context           - environment  \"production\"",
            "                  - metrics.auc  decimal(\"0.91\")",
            "described         by the caller",
            "- Model::\"fraud-v7\".stage  \"candidate\"",
            "asked because     - gate-promote: Models go live with two pairs of eyes (Model release)",
            "says (unverified) │ urgent ⟨U+202E⟩ please",
            "                  │ thank you",
            "approving grants  this exact action, once",
            "progress          1 of 2; still needed: 1 for model-release/ml",
            "votes             - User::\"aiko\" (aiko, says development) approved",
            "│ looks fine",
            "│ to me",
            "deadline          2026-03-01 14:15:00 +01:00 (in 15 min)",
            "WARNING           letters of several scripts",
            "WARNING           webhook:soc could not be told, given up: 503",
            "status            PENDING: it waits for votes",
            "approval 0199c0de-0000-7000-8000-000000000001",
            "request digest 1111",
            "view digest 2222",
            "countersign approvals approve 0199c0de-0000-7000-8000-000000000001",
            "countersign approvals deny 0199c0de-0000-7000-8000-000000000001 --comment TEXT",
        ],
    );
}

#[test]
fn a_narrow_terminal_cuts_nothing() {
    let page = shown(&approval(PENDING), 48);
    let letters: String = page.split_whitespace().collect();
    assert!(letters.contains("(in15min)"), "{page}");
    for digit in ["1", "2", "3"] {
        assert!(letters.matches(digit).count() >= 64, "{page}");
    }
    for word in ["gate-promote:", "Models", "eyes", "environment"] {
        assert!(page.contains(word), "{page}");
    }
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let mut hostile = approval(PENDING);
    let evil = "a\u{1b}]0;x\u{7}\u{9b}2J\rb".to_owned();
    hostile.id.clone_from(&evil);
    hostile.policy_version.clone_from(&evil);
    hostile.missing[0].slot.clone_from(&evil);
    hostile.votes[0].comment.clone_from(&evil);
    hostile.votes[0].channel.clone_from(&evil);
    hostile.failed_notifications[0].error.clone_from(&evil);
    if let Some(view) = &mut hostile.view {
        view.headline.clone_from(&evil);
        view.requester.clone_from(&evil);
        view.grants.clone_from(&evil);
        view.justification.clone_from(&evil);
        view.facts[0].name.clone_from(&evil);
        view.reasons[0].sentence.clone_from(&evil);
    }
    let clock = WallClock::at("2026-03-01T13:00:00Z");
    let page = card(&hostile, &clock, 100);
    // What is left are the styles of our own lines.
    let page = page
        .replace(BOLD, "")
        .replace(DIM, "")
        .replace("\u{1b}[0m", "");
    assert!(
        !page.chars().any(|c| c.is_control() && c != '\n'),
        "{page:?}"
    );
}

#[test]
fn an_end_says_who_when_and_why() {
    let mut denied = approval(
        r#"{"id":"x","status":"APPROVAL_STATUS_DENIED","cause":"APPROVAL_CAUSE_VETO",
            "closing":{"close_time":"2026-03-01T12:59:00Z","by":"User::\"aiko\"","comment":"use staging"}}"#,
    );
    let page = shown(&denied, 100);
    check_order(
        &page,
        &[
            "status            DENIED: a vote to deny",
            "ended             2026-03-01 13:59:00 +01:00 (1 min ago), by User::\"aiko\"",
            "│ use staging",
        ],
    );
    assert!(!page.contains("to approve"), "{page}");
    denied.set_status(ApprovalStatus::Approved);
    assert!(shown(&denied, 100).contains("approvals revoke x"));
}

#[test]
fn a_redemption_is_shown_with_its_outcome() {
    let redeemed = approval(
        r#"{"id":"x","status":"APPROVAL_STATUS_REDEEMED","redemption":{"redeem_time":"2026-03-01T12:59:00Z",
            "decision_id":"d1","outcome":"APPROVAL_OUTCOME_FAILED","detail":"disk full"}}"#,
    );
    check_order(
        &shown(&redeemed, 100),
        &[
            "redeemed ",
            "by decision d1",
            "it was tried and failed",
            "│ disk full",
        ],
    );
}
