//! The story of one action, laid out for a terminal, with the proofs at its end.

use std::collections::BTreeMap;

use crate::audit::proto::Status;
use crate::audit::story::{Asked, Story, status_word};
use crate::cli::approvals::{Sheet, WallClock};
use crate::cli::output::{BOLD, DIM, GREEN, RED, YELLOW};
use crate::usecase::audit_reading::LoggedRecord;

use super::proof::Proved;
use super::rows::moment;
use super::show::Checked;

/// The records that the story is made of, and how their proofs came out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proofs<'a> {
    pub(super) records: &'a [LoggedRecord],
    pub(super) checked: &'a [Checked],
    /// Who told the keys that were not given: `server` or `folder`.
    pub(super) teller: &'static str,
}

/// The whole page, for a terminal of `width` columns.
pub(super) fn page(story: &Story, records: &Proofs<'_>, clock: &WallClock, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    headline(&mut sheet, story);
    if let Some(asked) = &story.asked {
        asking(&mut sheet, asked, clock);
    }
    gates(&mut sheet, story);
    shown(&mut sheet, story);
    sheet.gap();
    steps(&mut sheet, story, clock);
    ending(&mut sheet, story, clock);
    sheet.gap();
    proofs(&mut sheet, records);
    sheet.finish()
}

fn headline(sheet: &mut Sheet, story: &Story) {
    let Some(asked) = &story.asked else {
        sheet.paragraph(BOLD, "who asked for what is not in these logs");
        sheet.gap();
        return;
    };
    let mut words = vec![&asked.principal, &asked.action, &asked.resource];
    words.retain(|word| !word.is_empty());
    let words: Vec<&str> = words.into_iter().map(String::as_str).collect();
    sheet.paragraph(BOLD, &words.join(" "));
    let (colour, ended) = match (&story.ran, story.status) {
        (Some(_), _) => (GREEN, "it was allowed to run"),
        (None, Some(Status::Pending)) => (YELLOW, "it waits for votes"),
        (None, Some(Status::Approved)) => (YELLOW, "it was approved and has not run"),
        (None, _) => (RED, "it was not allowed to run"),
    };
    sheet.paragraph(colour, ended);
    sheet.gap();
}

fn asking(sheet: &mut Sheet, asked: &Asked, clock: &WallClock) {
    sheet.field("asked", &moment(clock, asked.at_us));
    sheet.field("by", &asked.principal);
    if !asked.on_behalf_of.is_empty() {
        sheet.items("on behalf of", asked.on_behalf_of.iter().cloned());
    }
    if !asked.caller.is_empty() {
        sheet.field("through", &asked.caller);
    }
    sheet.field("action", &asked.action);
    sheet.field("resource", &asked.resource);
    sheet.facts("context", pairs(&asked.context));
    sheet.facts("described", pairs(&asked.described));
    sheet.facts("labels", pairs(&asked.labels));
    if !asked.justification.is_empty() {
        sheet.quote("says (unverified)", &asked.justification);
    }
    sheet.field("policies", &asked.policy_version);
}

fn gates(sheet: &mut Sheet, story: &Story) {
    let gates = story.gates.iter().map(|gate| {
        let seats = gate.seats.iter();
        let seats: Vec<String> = seats
            .map(|(seat, count)| format!("{count} {seat}"))
            .collect();
        let (policies, seats) = (gate.policies.join(", "), seats.join(", "));
        format!("{policies}: {} ({}), takes {seats}", gate.title, gate.rule)
    });
    sheet.items("gated by", gates);
    if let Some(asked) = &story.asked {
        sheet.facts("cannot approve", pairs(&asked.barred));
    }
}

fn shown(sheet: &mut Sheet, story: &Story) {
    let lines = story.shown.iter().map(|(kind, name, text)| {
        let name = if name.is_empty() {
            String::new()
        } else {
            format!(" {name}")
        };
        format!("{kind}{name}: {text}")
    });
    sheet.items("reviewers saw", lines);
}

fn steps(sheet: &mut Sheet, story: &Story, clock: &WallClock) {
    for (at, step) in story.steps.iter().enumerate() {
        let label = if at == 0 { "what happened" } else { "" };
        let when = moment(clock, step.at_us);
        let refused = if step.refusal.is_empty() {
            String::new()
        } else {
            format!("; REFUSED: {}", step.refusal)
        };
        sheet.items(label, [format!("{when}: {}{refused}", step.deed)]);
        if !step.comment.is_empty() {
            sheet.quote("", &step.comment);
        }
    }
}

fn ending(sheet: &mut Sheet, story: &Story, clock: &WallClock) {
    if let Some(status) = story.status {
        sheet.field(
            "approval",
            &format!("{} {}", story.approval_id, status_word(status)),
        );
        let expires = story.asked.as_ref().and_then(|asked| asked.expires_us);
        if let (Status::Pending, Some(expires)) = (status, expires) {
            sheet.field("deadline", &moment(clock, expires));
        }
    }
    if let Some((at_us, decision)) = &story.ran {
        let line = format!("{}, by decision {decision}", moment(clock, *at_us));
        sheet.field("ran", &line);
    }
    if let Some((outcome, detail)) = &story.outcome {
        sheet.field("outcome", outcome);
        if !detail.is_empty() {
            sheet.quote("", detail);
        }
    }
}

/// Each record with its hash, and of each log the checkpoint that was checked.
fn proofs(sheet: &mut Sheet, proofs: &Proofs<'_>) {
    let (records, checked) = (proofs.records, proofs.checked);
    let mut heads: BTreeMap<(&str, u64), &Proved> = BTreeMap::new();
    let mut verified = 0_usize;
    let lines = records.iter().zip(checked).map(|(record, checked)| {
        let said = match checked {
            Checked::Proved(proved) => {
                verified = verified.saturating_add(1);
                heads.insert((&proved.log, proved.size), proved);
                format!("leaf {}", proved.leaf.to_base64())
            }
            Checked::Open(why) => format!("no proof: {why}"),
            Checked::Wrong(why) => format!("THE PROOF IS WRONG: {why}"),
        };
        (format!("{} {}", record.log, record.index), said)
    });
    let lines: Vec<(String, String)> = lines.collect();
    sheet.facts("records", pairs(&lines));
    for proved in heads.values() {
        let key = if proved.is_pinned {
            "as given with `--key`".to_owned()
        } else {
            format!("key as told by the {}", proofs.teller)
        };
        let (size, root) = (proved.size.to_string(), proved.root.to_base64());
        let facts = [
            ("of", proved.origin.as_str()),
            ("size", &size),
            ("root", &root),
            ("signed by", &key),
        ];
        sheet.facts("checkpoint", facts);
    }
    let colour = if checked.iter().any(|each| matches!(each, Checked::Wrong(_))) {
        RED
    } else if verified == records.len() {
        GREEN
    } else {
        YELLOW
    };
    let line = format!(
        "{verified} of {} records verified here: inclusion proof and the checkpoint's signature",
        records.len()
    );
    sheet.paragraph(colour, &line);
    if verified > 0 {
        let what =
            "Whether the logs are whole and were never changed says `countersign audit verify`.";
        sheet.paragraph(DIM, what);
    }
}

fn pairs(list: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    list.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
