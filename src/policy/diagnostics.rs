//! Turns Cedar's diagnostics into problems with file, line and column.

use miette::Diagnostic;

use crate::model::{PolicyProblem, Severity};

use super::cedar::Loc;

/// Where the lines of a text begin, so that many places in it can be told without counting each from the start.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    /// The lines of `text`.
    pub(super) fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    /// The line of the byte `offset`, from 1.
    pub(super) fn line_at(&self, offset: usize) -> u32 {
        let before = self.0.partition_point(|newline| *newline < offset);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// How many problems of one severity are worth telling. To find the places of a hundred thousand takes minutes, and nobody reads them.
const MAX_PROBLEMS: usize = 1_000;

/// Adds what `problem` makes, unless there are enough of its severity already; then it changes nothing.
pub(super) fn add(
    problems: &mut Vec<PolicyProblem>,
    severity: Severity,
    problem: impl FnOnce() -> PolicyProblem,
) {
    let alike = problems
        .iter()
        .filter(|problem| problem.severity == severity);
    if alike.count() < MAX_PROBLEMS {
        problems.push(problem());
    }
}

/// A problem for each error that `diagnostic` holds: itself, then those related to it; if they are too many, only the first.
pub(super) fn problems_of(
    file: &str,
    text: &str,
    diagnostic: &dyn Diagnostic,
) -> Vec<PolicyProblem> {
    let mut problems = vec![problem_of(file, text, diagnostic)];
    if let Some(related) = diagnostic.related() {
        let first = related.take(MAX_PROBLEMS);
        problems.extend(first.map(|error| problem_of(file, text, error)));
    }
    problems
}

/// A problem at the diagnostic's first label.
pub(super) fn problem_of(file: &str, text: &str, diagnostic: &dyn Diagnostic) -> PolicyProblem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let mut message = full_message(diagnostic);
    if let Some(hint) = label.as_ref().and_then(miette::LabeledSpan::label)
        && !message.contains(hint)
    {
        message.push_str(": ");
        message.push_str(hint);
    }
    let mut problem = PolicyProblem::error(file, message);
    if let Some(label) = label {
        problem = problem.at_offset(text, label.offset());
    }
    match diagnostic.help() {
        Some(help) => problem.with_help(help.to_string()),
        None => problem,
    }
}

/// The diagnostic's message with those of its causes, none said twice.
pub(super) fn full_message(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = source.source();
    }
    message
}

/// Points `problem` at a place that Cedar remembers.
pub(super) fn at_location(problem: PolicyProblem, loc: Option<&Loc>) -> PolicyProblem {
    match loc {
        Some(loc) => problem.at_offset(&loc.src, loc.start()),
        None => problem,
    }
}
