//! `countersign approvals list`.

use clap::{Args, ValueEnum};

use crate::cli::Outcome;
use crate::cli::output::{print, print_json, say, width};
use crate::cli::report::Format;
use crate::grpc::json;
use crate::grpc::proto::{Approval, ApprovalStatus, ListApprovalsRequest, ListApprovalsResponse};

use super::clock::{Moment, WallClock};
use super::connection::Session;
use super::failure::failure;
use super::sheet::table;
use super::words::{count, status_word};

/// The largest page that the server gives.
const LARGEST_PAGE: usize = 200;

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusName {
    Pending,
    Approved,
    Redeemed,
    Denied,
    Expired,
    Cancelled,
    Superseded,
    Revoked,
    Lapsed,
}

impl From<StatusName> for ApprovalStatus {
    fn from(name: StatusName) -> Self {
        match name {
            StatusName::Pending => Self::Pending,
            StatusName::Approved => Self::Approved,
            StatusName::Redeemed => Self::Redeemed,
            StatusName::Denied => Self::Denied,
            StatusName::Expired => Self::Expired,
            StatusName::Cancelled => Self::Cancelled,
            StatusName::Superseded => Self::Superseded,
            StatusName::Revoked => Self::Revoked,
            StatusName::Lapsed => Self::Lapsed,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Only those that stand so; may be given several times.
    #[arg(long, value_enum, default_values = ["pending", "approved"])]
    status: Vec<StatusName>,
    /// All, however they stand.
    #[arg(long, conflicts_with = "status")]
    all: bool,
    /// Only those of this rule; may be given several times.
    #[arg(long, value_name = "RULE")]
    rule: Vec<String>,
    /// Only those of this principal: `Type::"id"`.
    #[arg(long, value_name = "ENTITY")]
    requester: Option<String>,
    /// How many at most, latest opened first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl ListArguments {
    fn statuses(&self) -> Vec<ApprovalStatus> {
        if self.all {
            return Vec::new();
        }
        self.status.iter().map(|name| (*name).into()).collect()
    }
}

/// Lists approvals.
pub(super) async fn run(
    session: &Session,
    arguments: &ListArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let mut found = read(session, arguments).await?;
    let statuses = arguments.statuses();
    // The deadline may have passed since the server looked the status up.
    found
        .approvals
        .retain(|each| statuses.is_empty() || statuses.contains(&each.status()));
    found.approvals.sort_by_key(urgency);
    let has_more = !found.next_page_token.is_empty();
    match format {
        Format::Json => print_json(&json::write("ListApprovalsResponse", &found)?),
        Format::Text if found.approvals.is_empty() => say("there are no such approvals"),
        Format::Text => print(&rows(&found.approvals, &WallClock::here(), width())),
    }
    if has_more {
        say(&format!(
            "there are more, opened before these {}: ask for more with `--limit`",
            arguments.limit
        ));
    }
    Ok(Outcome::Success)
}

/// All pages up to the limit, as one.
async fn read(
    session: &Session,
    arguments: &ListArguments,
) -> anyhow::Result<ListApprovalsResponse> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut found = ListApprovalsResponse::default();
    loop {
        let left = limit.saturating_sub(found.approvals.len());
        let request = session.request(ListApprovalsRequest {
            page_size: i32::try_from(left.min(LARGEST_PAGE)).unwrap_or(0),
            page_token: found.next_page_token,
            statuses: arguments.statuses().into_iter().map(i32::from).collect(),
            rules: arguments.rule.clone(),
            requester: arguments.requester.clone().unwrap_or_default(),
        });
        let page = session.client().list_approvals(request).await;
        let page = page.map_err(|status| failure(&status))?.into_inner();
        found.approvals.extend(page.approvals);
        found.next_page_token = page.next_page_token;
        if found.next_page_token.is_empty() || found.approvals.len() >= limit {
            return Ok(found);
        }
    }
}

/// Pending ones first, then approved ones, each by deadline; the others as they came.
fn urgency(approval: &Approval) -> (u8, Option<Moment>) {
    match approval.status() {
        ApprovalStatus::Pending => (0, deadline(approval)),
        ApprovalStatus::Approved => (1, deadline(approval)),
        ApprovalStatus::Unspecified
        | ApprovalStatus::Redeemed
        | ApprovalStatus::Denied
        | ApprovalStatus::Expired
        | ApprovalStatus::Cancelled
        | ApprovalStatus::Superseded
        | ApprovalStatus::Revoked
        | ApprovalStatus::Lapsed => (2, None),
    }
}

/// Until when something must happen.
fn deadline(approval: &Approval) -> Option<Moment> {
    let time = match approval.status() {
        ApprovalStatus::Pending => approval.expire_time.as_ref(),
        ApprovalStatus::Approved => approval.redeem_before_time.as_ref(),
        ApprovalStatus::Unspecified
        | ApprovalStatus::Redeemed
        | ApprovalStatus::Denied
        | ApprovalStatus::Expired
        | ApprovalStatus::Cancelled
        | ApprovalStatus::Superseded
        | ApprovalStatus::Revoked
        | ApprovalStatus::Lapsed => None,
    };
    time.map(|t| (t.seconds, t.nanos))
}

fn rows(approvals: &[Approval], clock: &WallClock, width: usize) -> String {
    let rows = approvals.iter().map(|approval| {
        let view = approval.view.as_ref();
        vec![
            approval.id.clone(),
            status_word(approval.status()).to_owned(),
            view.map_or_else(String::new, |view| view.headline.clone()),
            view.map_or_else(String::new, |view| view.requester.clone()),
            count(approval),
            deadline(approval)
                .map_or_else(|| "-".to_owned(), |deadline| clock.stacked(Some(deadline))),
        ]
    });
    let heading = ["ID", "STATUS", "WHAT", "REQUESTER", "PROGRESS", "EXPIRES"];
    table(width, &heading, rows.collect(), &[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(id: &str, status: &str, expires: &str) -> Approval {
        let text = format!(
            r#"{{"id":"{id}","status":"APPROVAL_STATUS_{status}","expire_time":"{expires}",
                "redeem_before_time":"{expires}","requirements":[{{"rule":"r","approvals":2}}],
                "missing":[{{"rule":"r","count":1}}],
                "view":{{"headline":"Deploy on Service::\"payments-api\"","requester":"Agent::\"deploy-bot\""}}}}"#
        );
        json::read("Approval", &text).unwrap()
    }

    #[test]
    fn the_most_urgent_stands_first() {
        let mut approvals = [
            approval("ended", "DENIED", "2026-03-01T12:00:00Z"),
            approval("approved", "APPROVED", "2026-03-01T12:00:00Z"),
            approval("later", "PENDING", "2026-03-01T15:00:00Z"),
            approval("soon", "PENDING", "2026-03-01T13:05:00Z"),
        ];
        approvals.sort_by_key(urgency);
        let ids: Vec<&str> = approvals.iter().map(|each| each.id.as_str()).collect();
        assert_eq!(ids, ["soon", "later", "approved", "ended"]);
    }

    #[test]
    fn an_id_is_never_wrapped() {
        let id = "0199c0de-0000-7000-8000-000000000001";
        let approvals = [approval(id, "PENDING", "2026-03-01T13:05:00Z")];
        let clock = WallClock::at("2026-03-01T13:00:00Z");
        for width in [40, 80, 120] {
            assert!(rows(&approvals, &clock, width).contains(id));
        }
        let wide = rows(&approvals, &clock, 200);
        assert!(
            wide.contains("1 of 2") && wide.contains("in 5 min"),
            "{wide}"
        );
        assert!(wide.contains("2026-03-01 14:05:00 +01:00"), "{wide}");
    }
}
