//! Records as a table: one line says when, what was answered, who asked for what, and by which policies.

use crate::audit::proto::record::What;
use crate::audit::proto::{ApprovalEvent, approval_event};
use crate::audit::story::{entity, outcome_word};
use crate::cli::approvals::{WallClock, table};
use crate::cli::output::{BLUE, GREEN, RED, RESET, YELLOW};
use crate::usecase::audit_reading::LoggedRecord;

use super::query::decoded;

const HEADING: [&str; 7] = [
    "TIME",
    "DECISION",
    "PRINCIPAL",
    "ACTION",
    "RESOURCE",
    "POLICIES",
    "APPROVAL",
];

/// The table of `records`, for a terminal of `width` columns.
pub(super) fn rows(records: &[LoggedRecord], clock: &WallClock, width: usize) -> String {
    let rows = records.iter().map(|record| row(record, clock)).collect();
    let page = table(width, &HEADING, rows, &[0, 1]);
    coloured(&page)
}

/// A time in microseconds since the epoch, in the time zone here.
pub(super) fn moment(clock: &WallClock, us: i64) -> String {
    let nanos = us.rem_euclid(1_000_000).saturating_mul(1_000);
    let nanos = i32::try_from(nanos).unwrap_or(0);
    clock.absolute(Some((us.div_euclid(1_000_000), nanos)))
}

fn row(record: &LoggedRecord, clock: &WallClock) -> Vec<String> {
    let decoded = decoded(record);
    let mut cells = vec![moment(clock, decoded.at_us)];
    match &decoded.what {
        Some(What::Decision(decision)) => cells.extend([
            outcome_word(decision.outcome()).to_owned(),
            entity(decision.principal.as_ref()),
            decision.action.clone(),
            entity(decision.resource.as_ref()),
            decision.determining.join(", "),
            decision.approval_id.clone(),
        ]),
        Some(What::Approval(event)) => cells.extend(event_cells(event)),
        Some(other) => {
            let (word, text) = about(other);
            cells.extend([word.to_owned(), text]);
        }
        None => {
            let place = format!("{} {}", record.log, record.index);
            cells.extend(["unknown".to_owned(), place]);
        }
    }
    cells.resize(HEADING.len(), String::new());
    cells
}

/// What happened to an approval.
fn event_cells(event: &ApprovalEvent) -> [String; 6] {
    let [who, action, resource] = match &event.what {
        Some(approval_event::What::Opened(opened)) => [
            entity(opened.principal.as_ref()),
            opened.action.clone(),
            entity(opened.resource.as_ref()),
        ],
        Some(approval_event::What::Voted(vote)) => {
            let voter = vote.voter.as_ref();
            let account = voter.and_then(|voter| voter.account.as_ref());
            [entity(account), String::new(), String::new()]
        }
        _ => [const { String::new() }; 3],
    };
    let word = event_word(event.what.as_ref(), &event.refusal);
    let id = event.approval_id.clone();
    [word, who, action, resource, String::new(), id]
}

/// What a record says that is neither about a decision nor about an approval.
fn about(what: &What) -> (&'static str, String) {
    match what {
        What::Decision(_) | What::Approval(_) => ("", String::new()),
        What::Gap(gap) => {
            let lost = [gap.allowed, gap.denied, gap.approval_required];
            let lost = lost.into_iter().fold(0, u64::saturating_add);
            let reason = &gap.reason;
            (
                "gap",
                format!("{lost} decisions are not in the log: {reason}"),
            )
        }
        What::CallRefused(it) => {
            let who = Some(it.caller.as_str()).filter(|caller| !caller.is_empty());
            let who = who.unwrap_or(&it.peer);
            ("refused", format!("{who}: {}: {}", it.method, it.detail))
        }
        What::PolicyActivated(it) => (
            "policies",
            format!("{:.12} came into force", it.policy_version),
        ),
        What::PolicyRejected(it) => ("policies", it.problems.join("; ")),
        What::ReplicaStarted(it) => ("started", it.incarnation.clone()),
        What::ReplicaStopped(it) => ("stopped", it.incarnation.clone()),
        What::ReplicaLost(it) => ("lost", format!("{}: {}", it.incarnation, it.reason)),
        What::Anchor(it) => (
            "anchor",
            format!("{} has {} records", it.incarnation, it.size),
        ),
        What::KeyAdded(it) => ("key", it.key.clone()),
        What::LogRead(it) => {
            let reader = it.reader.as_ref();
            let who = reader.map_or("somebody", |reader| reader.subject.as_str());
            (
                "read",
                format!("{who} read {} records: {}", it.records, it.filter),
            )
        }
        What::Pruned(it) => (
            "pruned",
            format!("{} below {}, by {}", it.incarnation, it.below, it.by),
        ),
    }
}

fn event_word(what: Option<&approval_event::What>, refusal: &str) -> String {
    use approval_event::What;
    let word = match what {
        Some(What::Opened(_)) => "opened",
        Some(What::Joined(_)) => "joined",
        Some(What::Voted(_)) => "vote",
        Some(What::Cancelled(_)) => "cancelled",
        Some(What::Revoked(_)) => "revoked",
        Some(What::Redeemed(_)) => "redeemed",
        Some(What::Superseded(_)) => "superseded",
        Some(What::Stranded(_)) => "stranded",
        Some(What::Reported(_)) => "outcome",
        Some(What::TimedOut(_)) => "timed out",
        Some(What::Reminded(_)) => "reminded",
        Some(What::Escalated(_)) => "escalated",
        None => "unknown",
    };
    if refusal.is_empty() {
        word.to_owned()
    } else {
        format!("{word} refused")
    }
}

/// The same table with each decision in its colour: the word that stands below its heading, and nothing else.
fn coloured(page: &str) -> String {
    let column = page
        .lines()
        .next()
        .and_then(|heading| heading.find("DECISION"));
    let Some(column) = column else {
        return page.to_owned();
    };
    let lines = page.lines().map(|line| {
        let Some((before, from)) = line.split_at_checked(column) else {
            return line.to_owned();
        };
        let (word, behind) = from.split_once(' ').unwrap_or((from, ""));
        let colour = match word {
            "ALLOW" => GREEN,
            "REQUIRE_APPROVAL" => YELLOW,
            "DENY" | "gap" | "lost" | "unknown" => RED,
            "" | "DECISION" => return line.to_owned(),
            _ => BLUE,
        };
        format!("{before}{colour}{word}{RESET} {behind}")
            .trim_end()
            .to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use crate::audit::control_record::encode_control;
    use crate::audit::proto::{Decision, Entity, Outcome};

    use super::*;

    fn decision(outcome: Outcome, id: &str) -> LoggedRecord {
        let what = What::Decision(Decision {
            outcome: outcome.into(),
            principal: Some(Entity {
                r#type: "User".to_owned(),
                id: id.to_owned(),
            }),
            action: "read".to_owned(),
            ..Decision::default()
        });
        LoggedRecord {
            log: "x".to_owned(),
            index: 0,
            leaf: encode_control(1_772_370_300_000_000, what),
        }
    }

    #[test]
    fn only_the_decision_is_coloured() {
        let records = [
            decision(Outcome::Allow, "DENY"),
            decision(Outcome::Deny, "ALLOW \u{1b}[32m"),
        ];
        let page = rows(&records, &WallClock::here(), 120);
        let lines: Vec<&str> = page.lines().collect();
        assert!(lines[0].starts_with("TIME"), "{page}");
        assert!(lines[1].contains(&format!("{GREEN}ALLOW{RESET}")), "{page}");
        assert!(lines[2].contains(&format!("{RED}DENY{RESET}")), "{page}");
        assert_eq!(page.matches(RESET).count(), 2, "{page}");
    }

    #[test]
    fn what_is_no_record_is_shown_by_its_place() {
        let broken = LoggedRecord {
            log: "x".to_owned(),
            index: 7,
            leaf: vec![0xff],
        };
        let page = rows(&[broken], &WallClock::here(), 120);
        assert!(page.contains("unknown") && page.contains("x 7"), "{page}");
    }
}
