//! A verification's report for programs.

use serde_json::{Value, json};

use crate::audit::verify::{Coverage, Ending, Finding, ReplicaCoverage, Report, Severity};

/// The whole report. Field names and kinds are stable.
pub(super) fn to_json(report: &Report) -> Value {
    let counts = report.findings.counts().iter();
    let counts: serde_json::Map<String, Value> = counts
        .map(|(kind, count)| (kind.as_str().to_owned(), json!(count)))
        .collect();
    let approvals = &report.approvals;
    json!({
        "verdict": match report.verdict() {
            Severity::Note => "intact",
            Severity::Incomplete => "incomplete",
            Severity::Tampering => "tampering",
        },
        "cluster": report.cluster,
        "logs": report.logs.iter().map(log).collect::<Vec<_>>(),
        "replicas": report.replicas.iter().map(replica).collect::<Vec<_>>(),
        "heads": report.heads.map(|heads| json!({
            "count": heads.count,
            "newest": heads.newest,
        })),
        "approvals": {
            "opened": approvals.opened,
            "approved": approvals.approved,
            "redeemed": approvals.redeemed,
            "denied": approvals.denied,
            "votes": approvals.votes,
            "joined": approvals.joined,
            "refused": approvals.refused,
        },
        "database": report.database.map(|database| json!({
            "approvals": database.approvals,
            "votes": database.votes,
            "records": database.records,
        })),
        "counts": counts,
        "findings": report.findings.kept().iter().map(finding).collect::<Vec<_>>(),
    })
}

fn log(log: &Coverage) -> Value {
    json!({
        "log": log.log,
        "first": log.first,
        "size": log.size,
        "root": log.root,
        "signed": log.signed,
        "covered": log.covered,
        "checkpoints": log.checkpoints,
        "first_us": log.span.first_us,
        "last_us": log.span.last_us,
        "decisions": log.decisions,
        "lost": log.lost,
    })
}

fn replica(replica: &ReplicaCoverage) -> Value {
    let ending = match replica.ending {
        Ending::Running => json!({ "kind": "running" }),
        Ending::Stopped {
            size,
            accepted,
            lost,
        } => {
            json!({ "kind": "stopped", "size": size, "accepted": accepted, "lost": lost })
        }
        Ending::Lost { size, reserved } => {
            json!({ "kind": "lost", "size": size, "reserved": reserved })
        }
    };
    json!({ "incarnation": replica.incarnation, "ending": ending, "is_there": replica.is_there })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "severity": finding.kind.severity().as_str(),
        "kind": finding.kind.as_str(),
        "log": finding.log,
        "index": finding.index,
        "approval": finding.approval,
        "says": finding.says,
    })
}
