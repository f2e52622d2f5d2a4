//! Shows problems of a policy directory.

use serde_json::json;

use crate::model::{PolicyProblem, Severity};

use super::output::{BLUE, BOLD, RED, RESET, YELLOW};

/// How reports are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// One problem with the offending line and what to do.
pub(super) fn render(problem: &PolicyProblem) -> String {
    let (colour, word) = match problem.severity {
        Severity::Error => (RED, "error"),
        Severity::Warning => (YELLOW, "warning"),
    };
    let mut lines = vec![format!(
        "{colour}{word}:{RESET} {BOLD}{}{RESET}",
        problem.message
    )];
    let number = problem.line.to_string();
    let margin = " ".repeat(number.len());
    if !problem.file.is_empty() {
        let place = match (problem.line, problem.column) {
            (0, _) => problem.file.clone(),
            (line, 0) => format!("{}:{line}", problem.file),
            (line, column) => format!("{}:{line}:{column}", problem.file),
        };
        lines.push(format!("{margin}{BLUE}-->{RESET} {place}"));
    }
    if problem.line > 0 && !problem.source_line.is_empty() {
        lines.push(format!("{margin} {BLUE}|{RESET}"));
        lines.push(format!(
            "{BLUE}{number} |{RESET} {}",
            problem.source_line.replace('\t', " ")
        ));
        let indent = " ".repeat(usize::try_from(problem.column.saturating_sub(1)).unwrap_or(0));
        lines.push(format!("{margin} {BLUE}|{RESET} {indent}{colour}^{RESET}"));
    }
    if !problem.help.is_empty() {
        lines.push(format!("{margin} {BLUE}={RESET} help: {}", problem.help));
    }
    lines.join("\n")
}

/// A problem for programs.
pub(super) fn to_json(problem: &PolicyProblem) -> serde_json::Value {
    json!({
        "severity": match problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "help": problem.help,
        "source_line": problem.source_line,
    })
}

/// `1 policy`, `2 policies`.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
