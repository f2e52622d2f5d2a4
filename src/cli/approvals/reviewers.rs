//! `countersign approvals reviewers`.

use clap::Args;

use crate::cli::Outcome;
use crate::cli::output::{RESET, YELLOW, print, print_json, say, width};
use crate::cli::report::Format;
use crate::grpc::json;
use crate::grpc::proto::{ListReviewersRequest, ListReviewersResponse};

use super::connection::Session;
use super::failure::failure;
use super::sheet::table;

#[derive(Debug, Args)]
pub(super) struct ReviewersArguments {
    /// The approval's id.
    id: String,
}

/// Shows who could approve.
pub(super) async fn run(
    session: &Session,
    arguments: &ReviewersArguments,
    format: Format,
) -> anyhow::Result<Outcome> {
    let request = session.request(ListReviewersRequest {
        id: arguments.id.clone(),
    });
    let response = session.client().list_reviewers(request).await;
    let response = response.map_err(|status| failure(&status))?.into_inner();
    match format {
        Format::Json => print_json(&json::write("ListReviewersResponse", &response)?),
        Format::Text if response.reviewers.is_empty() => say("nobody could approve this"),
        Format::Text => print(&rows(&response, width())),
    }
    if !response.can_be_fulfilled {
        say(&format!(
            "{YELLOW}these people cannot fill every seat that is left{RESET}"
        ));
    }
    Ok(Outcome::Success)
}

fn rows(response: &ListReviewersResponse, width: usize) -> String {
    let rows = response.reviewers.iter().map(|reviewer| {
        vec![
            reviewer.account.clone(),
            reviewer.seats.join(", "),
            if reviewer.has_voted { "yes" } else { "no" }.to_owned(),
        ]
    });
    let heading = ["ACCOUNT", "SEATS", "VOTED"];
    table(width, &heading, rows.collect(), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reviewer_is_shown_with_their_seats() {
        let text = r#"{"reviewers":[
            {"account":"User::\"aiko\"","seats":["model-release/ml","model-release/risk"],"has_voted":true},
            {"account":"User::\"yuki\"","seats":["model-release/ml"]}]}"#;
        let response = json::read("ListReviewersResponse", text).unwrap();
        let shown = rows(&response, 80);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        assert!(lines[1].contains("User::\"aiko\"  model-release/ml, model-release/risk  yes"));
        assert!(lines[2].ends_with("no"));
    }
}
