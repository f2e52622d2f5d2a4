//! What an answer looks like in a terminal.

use crate::grpc::proto::{
    Approval, ApprovalStatus, AuthorizeResponse, Decision, DenyReason, Effect, ExplainResponse,
    PolicyOutcome,
};

use super::approvals::{approvers, progress, status_word};
use super::output::{BOLD, DIM, GREEN, RED, RESET, YELLOW, print, visible, visible_line};

/// Writes an answer.
pub(super) fn show_response(response: &AuthorizeResponse) {
    let (colour, word) = match response.decision() {
        Decision::Allow => (GREEN, "ALLOW"),
        Decision::Deny => (RED, "DENY"),
        Decision::RequireApproval => (YELLOW, "REQUIRE_APPROVAL"),
        Decision::Unspecified => (RED, "NO DECISION"),
    };
    let why = why(response);
    print(&format!("{colour}{word}{RESET}{why}"));
    if !response.deny_message.is_empty() {
        print(&format!("  {}", visible(&response.deny_message)));
    }
    for policy in &response.determining {
        let description = policy
            .annotations
            .get("description")
            .map_or("", String::as_str);
        print(&format!(
            "  {} {BOLD}{}{RESET}  {}",
            effect_name(policy.effect()),
            visible_line(&policy.id),
            visible_line(description)
        ));
    }
    for entity in &response.missing_entities {
        print(&format!(
            "  missing {BOLD}{}::\"{}\"{RESET}",
            visible_line(&entity.r#type),
            visible_line(&entity.id)
        ));
    }
    for error in &response.errors {
        print(&format!(
            "  error in {BOLD}{}{RESET}  {}",
            visible_line(&error.policy_id),
            visible_line(&error.message)
        ));
    }
    if let Some(approval) = &response.approval {
        show_requirements(approval);
        show_approval(response.decision(), approval);
    }
    print(&format!(
        "{DIM}  decision {}, policies {:.12}{RESET}",
        response.decision_id, response.policy_version
    ));
}

/// Why a request was denied; nothing for other decisions.
fn why(response: &AuthorizeResponse) -> &'static str {
    match (response.decision(), response.deny_reason()) {
        (Decision::Deny, DenyReason::Forbidden) => "  a forbid is satisfied",
        (Decision::Deny, DenyReason::NoPermit) => "  no permit is satisfied",
        (Decision::Deny, DenyReason::PolicyError) => "  a policy could not be evaluated",
        (Decision::Deny, DenyReason::EntityMissing) => {
            "  entities are neither stored nor described"
        }
        (Decision::Deny, DenyReason::ApprovalClosed) => "  the approval has ended",
        (Decision::Deny, DenyReason::ApprovalRedeemed) => "  the approval was already redeemed",
        (Decision::Deny, DenyReason::ApprovalMismatch) => {
            "  the approval is for another request or caller"
        }
        (Decision::Deny, DenyReason::CoolingDown) => "  a reviewer denied this a short while ago",
        (Decision::Deny, DenyReason::NobodyCanApprove) => "  too few people could approve this",
        (Decision::Deny, DenyReason::Unspecified)
        | (Decision::Allow | Decision::RequireApproval | Decision::Unspecified, _) => "",
    }
}

fn show_requirements(approval: &Approval) {
    for requirement in &approval.requirements {
        let slots: Vec<String> = requirement
            .slots
            .iter()
            .map(|(slot, count)| format!("{count} {slot}"))
            .collect();
        let who = if slots.is_empty() {
            String::new()
        } else {
            format!(": {}", slots.join(", "))
        };
        let require = if requirement.require.is_empty() {
            String::new()
        } else {
            format!(", needs {}", requirement.require.join(", "))
        };
        print(&format!(
            "  rule {BOLD}{}{RESET}  {} ({} to approve{who}{require})",
            requirement.rule, requirement.title, requirement.approvals
        ));
    }
}

/// What the approval has to do with the decision, and what to do now.
fn show_approval(decision: Decision, approval: &Approval) {
    if approval.id.is_empty() {
        return;
    }
    let id = visible_line(&approval.id);
    match (decision, approval.status()) {
        (Decision::Allow, ApprovalStatus::Redeemed) => print(&format!(
            "  redeemed approval {BOLD}{id}{RESET}, approved by {}",
            approvers(approval)
        )),
        (Decision::RequireApproval, ApprovalStatus::Approved) => print(&format!(
            "  {GREEN}approved:{RESET} repeat the call with --approval-id {BOLD}{id}{RESET}"
        )),
        (
            Decision::Allow | Decision::RequireApproval | Decision::Deny | Decision::Unspecified,
            status,
        ) => {
            print(&format!(
                "  approval {BOLD}{id}{RESET}  {}, {}",
                status_word(status),
                progress(approval)
            ));
            print(&format!("    countersign approvals show {id}"));
            if decision == Decision::RequireApproval {
                print(&format!("    countersign approvals show {id} --wait"));
            }
        }
    }
}

fn effect_name(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
        Effect::Gate => "gate",
        Effect::Unspecified => "policy",
    }
}

/// Writes an explanation.
pub(super) fn show_explanation(explained: &ExplainResponse) {
    if let Some(response) = &explained.response {
        show_response(response);
    }
    if !explained.policies.is_empty() {
        print(&format!("\n{BOLD}Applicable policies{RESET}"));
    }
    for policy in &explained.policies {
        let (mark, detail) = match policy.outcome() {
            PolicyOutcome::Satisfied => (format!("{GREEN}holds{RESET}"), String::new()),
            PolicyOutcome::NotSatisfied => (
                "does not hold".to_owned(),
                format!("\n      because of  {}", policy.condition),
            ),
            PolicyOutcome::Error | PolicyOutcome::Unspecified => (
                format!("{RED}error{RESET}"),
                format!("\n      in  {}\n      {}", policy.condition, policy.error),
            ),
        };
        let rule = if policy.rule.is_empty() {
            String::new()
        } else {
            format!(", rule {}", policy.rule)
        };
        print(&format!(
            "  {} {BOLD}{}{RESET}{rule}  {mark}  {DIM}{}{RESET}{detail}",
            effect_name(policy.effect()),
            policy.id,
            policy.location
        ));
    }
    if !explained.nearest_permits.is_empty() {
        print(&format!("\n{BOLD}Nearest permits{RESET}"));
    }
    for miss in &explained.nearest_permits {
        print(&format!(
            "  {BOLD}{}{RESET}  {DIM}{}{RESET}\n      {}",
            miss.id, miss.location, miss.explanation
        ));
    }
    if !explained.relevant_context.is_empty() {
        print(&format!(
            "\n{DIM}Context that matters for this action: {}{RESET}",
            explained.relevant_context.join(", ")
        ));
    }
}
