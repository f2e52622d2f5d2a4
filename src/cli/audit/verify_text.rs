//! A verification's report for people.

use jiff::Timestamp;

use crate::audit::verify::{Coverage, Ending, Finding, Report, Severity};
use crate::cli::output::{BOLD, DIM, GREEN, RED, RESET, YELLOW, visible_line};
use crate::cli::report::counted;

/// The whole report.
pub(super) fn to_text(report: &Report) -> String {
    let mut lines = Vec::new();
    if !report.cluster.is_empty() {
        lines.push(format!(
            "cluster {BOLD}{}{RESET}",
            visible_line(&report.cluster)
        ));
    }
    lines.extend(report.logs.iter().map(log));
    lines.extend(replicas(report));
    if let Some(heads) = &report.heads {
        lines.push(format!(
            "heads kept elsewhere: {}, the newest of {}",
            number(heads.count, "head of this log", "heads of this log"),
            number(heads.newest, "record", "records"),
        ));
    }
    lines.push(approvals(report));
    if let Some(database) = &report.database {
        lines.push(format!(
            "database: compared {}, {} and {}",
            number(database.approvals, "approval", "approvals"),
            number(database.votes, "vote", "votes"),
            number(
                database.records,
                "record of the control log",
                "records of the control log"
            ),
        ));
    }
    lines.push(String::new());
    lines.extend(report.findings.kept().iter().map(finding));
    let all: u64 = report.findings.counts().values().sum();
    let kept = u64::try_from(report.findings.kept().len()).unwrap_or(all);
    if all > kept {
        lines.push(format!(
            "{DIM}and {} of the same kinds{RESET}",
            all.saturating_sub(kept)
        ));
    }
    lines.push(verdict(report));
    lines.join("\n")
}

fn number(count: u64, one: &str, many: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), one, many)
}

fn log(log: &Coverage) -> String {
    let name = visible_line(&log.log);
    let times = match (log.span.first_us, log.span.last_us) {
        (Some(first), Some(last)) => format!(", {} to {}", time(first), time(last)),
        _ => String::new(),
    };
    let mut parts = vec![
        format!(
            "{BOLD}{name}{RESET}: {}{times}",
            number(log.size, "record", "records")
        ),
        format!(
            "signed up to {} by {}",
            log.signed,
            number(log.checkpoints, "checkpoint", "checkpoints")
        ),
    ];
    if log.covered > log.signed {
        parts.push(format!("vouched for up to {}", log.covered));
    }
    if log.uncovered() > 0 {
        parts.push(format!("{} behind that", log.uncovered()));
    }
    if log.first > 0 {
        parts.push(format!("those below {} pruned", log.first));
    }
    if log.lost > 0 {
        parts.push(format!(
            "{} declared lost",
            number(log.lost, "decision", "decisions")
        ));
    }
    parts.join("; ")
}

fn time(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us)
        .map_or_else(|_| format!("{at_us} µs"), |time| time.to_string())
}

fn replicas(report: &Report) -> Option<String> {
    let count = |is: fn(&Ending) -> bool| {
        report
            .replicas
            .iter()
            .filter(|each| is(&each.ending))
            .count()
    };
    let stopped = count(|ending| matches!(ending, Ending::Stopped { .. }));
    let lost = count(|ending| matches!(ending, Ending::Lost { .. }));
    let running = count(|ending| matches!(ending, Ending::Running));
    let missing = report.replicas.iter().filter(|each| !each.is_there).count();
    let starts = counted(
        report.replicas.len(),
        "start of a replica",
        "starts of replicas",
    );
    (!report.replicas.is_empty())
        .then(|| format!("{starts}: {stopped} stopped, {lost} lost, {running} not ended; {missing} without its log"))
}

fn approvals(report: &Report) -> String {
    let counts = &report.approvals;
    let refused = counts.refused.iter();
    let refused: Vec<String> = refused
        .map(|(kind, count)| format!("{count} {}", visible_line(kind)))
        .collect();
    let refused = if refused.is_empty() {
        "none".to_owned()
    } else {
        refused.join(", ")
    };
    format!(
        "{} replayed: {} approved, {} redeemed, {} denied, {}, {}; refused: {refused}",
        number(counts.opened, "approval", "approvals"),
        counts.approved,
        counts.redeemed,
        counts.denied,
        number(counts.votes, "vote", "votes"),
        number(counts.joined, "join", "joins"),
    )
}

fn finding(finding: &Finding) -> String {
    let severity = finding.kind.severity();
    let colour = match severity {
        Severity::Tampering => RED,
        Severity::Incomplete => YELLOW,
        Severity::Note => DIM,
    };
    let mut place = visible_line(&finding.log);
    if let Some(index) = finding.index {
        place = format!("{place} #{index}");
    }
    if let Some(approval) = &finding.approval {
        place = format!("{place} approval {}", visible_line(approval));
    }
    let (word, kind) = (severity.as_str(), finding.kind.as_str());
    format!(
        "{colour}{word}:{RESET} {place}: {} {DIM}[{kind}]{RESET}",
        visible_line(&finding.says)
    )
}

fn verdict(report: &Report) -> String {
    match report.verdict() {
        Severity::Note => format!("{GREEN}intact{RESET}: what is here is what was written"),
        Severity::Incomplete => {
            format!(
                "{YELLOW}incomplete{RESET}: nothing was tampered with, but not everything is here"
            )
        }
        Severity::Tampering => format!("{RED}tampered with{RESET}: this is not what was written"),
    }
}
