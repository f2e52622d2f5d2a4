//! `countersign audit show`: the whole story of one action on one screen, and the proof that it is what the log says.

use clap::Args;
use serde_json::json;

use crate::audit::filter::RecordFilter;
use crate::audit::note::VerifierKey;
use crate::audit::proto::record::What;
use crate::audit::story::{Placed, Story};
use crate::cli::Outcome;
use crate::cli::approvals::WallClock;
use crate::cli::output::{complain, print, print_json, say, width};
use crate::cli::report::Format;
use crate::usecase::audit_reading::{LogInfo, LoggedRecord};

use super::page::{Proofs, page};
use super::proof::{Proved, check, read_keys};
use super::query::{decoded, document};
use super::source::{Source, SourceArguments};

/// No action has more records that are worth a screen.
const MOST: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The id of a decision or of an approval.
    id: String,
    /// A verifier key of a log, or a file with such keys; may be given several times. Without one the source's own word is taken.
    #[arg(long, value_name = "VKEY|FILE")]
    key: Vec<String>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// How the proof of a record came out.
#[derive(Debug)]
pub(super) enum Checked {
    /// It is in the log.
    Proved(Proved),
    /// There is no proof yet: most often because no checkpoint covers it.
    Open(String),
    /// The proof is wrong.
    Wrong(String),
}

/// Shows one action.
pub(super) async fn run(arguments: &ShowArguments) -> anyhow::Result<Outcome> {
    let pinned = read_keys(&arguments.key)?;
    let source = arguments.source.open().await?;
    let records = gather(&source, &arguments.id).await?;
    if records.is_empty() {
        complain(&format!("no record is about `{}`", arguments.id));
        return Ok(Outcome::Findings);
    }
    let logs = source.logs().await?;
    let mut checked = Vec::new();
    for record in &records {
        checked.push(prove(&source, record, &logs, &pinned).await);
    }
    let is_wrong = checked.iter().any(|each| matches!(each, Checked::Wrong(_)));
    match arguments.format {
        Format::Text => {
            let placed: Vec<Placed> = records.iter().map(placed).collect();
            let clock = WallClock::here();
            let proofs = Proofs {
                records: &records,
                checked: &checked,
                teller: source.kind(),
            };
            print(&page(&Story::of(&placed), &proofs, &clock, width()));
        }
        Format::Json => {
            let documents = records.iter().zip(&checked).map(|(record, checked)| {
                let mut document = document(record)?;
                if let Some(fields) = document.as_object_mut() {
                    fields.insert("proof".to_owned(), proof_document(checked));
                }
                Ok(document)
            });
            let documents: anyhow::Result<Vec<_>> = documents.collect();
            let document = json!({ "records": documents? });
            print_json(&serde_json::to_string_pretty(&document)?);
        }
    }
    if is_wrong {
        say("a record is not what the log's checkpoint says: run `countersign audit verify`");
        return Ok(Outcome::Findings);
    }
    Ok(Outcome::Success)
}

/// The records about `id`: the decision, its approval, and all decisions that cite it.
async fn gather(source: &Source, id: &str) -> anyhow::Result<Vec<LoggedRecord>> {
    let mut found = Vec::new();
    let mut approval = id.to_owned();
    if let Ok(decision_id) = id.parse() {
        let filter = RecordFilter {
            decision_id: Some(decision_id),
            ..RecordFilter::default()
        };
        found = source.find(&filter, MOST, true).await?.records;
        for record in &found {
            match decoded(record).what {
                Some(What::Decision(decision)) => approval = decision.approval_id,
                Some(What::Approval(event)) => approval = event.approval_id,
                _ => {}
            }
        }
    }
    if !approval.is_empty() {
        let filter = RecordFilter {
            approval_id: Some(approval),
            ..RecordFilter::default()
        };
        let about = source.find(&filter, MOST, true).await?;
        for record in about.records {
            if !found.contains(&record) {
                found.push(record);
            }
        }
    }
    Ok(found)
}

async fn prove(
    source: &Source,
    record: &LoggedRecord,
    logs: &[LogInfo],
    pinned: &[VerifierKey],
) -> Checked {
    let Some(info) = logs.iter().find(|log| log.name == record.log) else {
        return Checked::Open(format!("log `{}` is not listed", record.log));
    };
    match source.inclusion(&record.log, record.index).await {
        Err(error) => Checked::Open(format!("{error:#}")),
        Ok(proof) => match check(record, &proof, info, pinned) {
            Ok(proved) => Checked::Proved(proved),
            Err(error) => Checked::Wrong(format!("{error:#}")),
        },
    }
}

fn placed(record: &LoggedRecord) -> Placed {
    Placed {
        log: record.log.clone(),
        index: record.index,
        record: decoded(record),
    }
}

fn proof_document(checked: &Checked) -> serde_json::Value {
    match checked {
        Checked::Proved(proved) => json!({
            "verified": true,
            "origin": proved.origin,
            "leaf_hash": proved.leaf.to_base64(),
            "checkpoint_size": proved.size,
            "checkpoint_root": proved.root.to_base64(),
            "key": if proved.is_pinned { "given" } else { "as told by the source" },
        }),
        Checked::Open(why) | Checked::Wrong(why) => json!({
            "verified": false,
            "is_wrong": matches!(checked, Checked::Wrong(_)),
            "why": why,
        }),
    }
}
