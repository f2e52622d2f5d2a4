//! `countersign audit query`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::audit::proto::Record;
use crate::cli::Outcome;
use crate::cli::approvals::WallClock;
use crate::cli::output::{print, print_json, say, width};
use crate::grpc::{json, logged_message};
use crate::usecase::audit_reading::LoggedRecord;

use super::filter::FilterArguments;
use super::rows::rows;
use super::source::SourceArguments;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// A JSON document for each record, a line each.
    Jsonl,
}

#[derive(Debug, Args)]
pub(super) struct QueryArguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// How many records at most.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// The oldest first.
    #[arg(long)]
    oldest_first: bool,
    /// How the records are written.
    #[arg(long, value_enum, default_value = "table")]
    format: ListFormat,
}

/// Lists records.
pub(super) async fn run(arguments: &QueryArguments) -> anyhow::Result<Outcome> {
    let filter = arguments.filter.filter()?;
    let source = arguments.source.open().await?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let found = source.find(&filter, limit, arguments.oldest_first).await?;
    match arguments.format {
        ListFormat::Table if found.records.is_empty() => say("there are no such records"),
        ListFormat::Table => print(&rows(&found.records, &WallClock::here(), width())),
        ListFormat::Json => {
            let records: anyhow::Result<Vec<Value>> = found.records.iter().map(document).collect();
            let document = json!({ "records": records?, "has_more": found.has_more });
            print_json(&serde_json::to_string_pretty(&document)?);
        }
        ListFormat::Jsonl => {
            for record in &found.records {
                print_json(&document(record)?.to_string());
            }
        }
    }
    if found.has_more {
        say(&format!(
            "there may be more than these {}: ask for more with `--limit`",
            found.records.len()
        ));
    }
    Ok(Outcome::Success)
}

/// A record for programs, as the API writes it.
pub(super) fn document(record: &LoggedRecord) -> anyhow::Result<Value> {
    let text = json::write("LoggedRecord", &logged_message(record.clone()))?;
    Ok(serde_json::from_str(&text)?)
}

/// A record, decoded; an empty one if it cannot be.
pub(super) fn decoded(record: &LoggedRecord) -> Record {
    logged_message(record.clone()).record.unwrap_or_default()
}
