//! What is wrong with a file of the policy directory, and where.

use std::fmt;

/// How serious a problem is. Errors sort before warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policies cannot be loaded.
    Error,
    /// The policies can be loaded, and somebody should look.
    Warning,
}

/// Something wrong with the policy directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyProblem {
    /// How serious it is.
    pub severity: Severity,
    /// The file, relative to the policy directory; empty if it is about the directory.
    pub file: String,
    /// The line, from 1; 0 if it is about the whole file.
    pub line: u32,
    /// The column in characters, from 1; 0 if it is about the whole line.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
    /// The offending line as it stands in the file; may be empty.
    pub source_line: String,
}

impl PolicyProblem {
    /// An error about a whole file, or with an empty `file` about the directory.
    pub fn error(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, file, message)
    }

    /// A warning about a whole file, or with an empty `file` about the directory.
    pub fn warning(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, file, message)
    }

    fn new(severity: Severity, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity,
            file: file.into(),
            line: 0,
            column: 0,
            message: message.into(),
            help: String::new(),
            source_line: String::new(),
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Points at the byte `offset` of the file's `text`.
    #[must_use]
    pub fn at_offset(mut self, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before
            .rfind('\n')
            .map_or(0, |newline| newline.saturating_add(1));
        let lines_before = before.bytes().filter(|byte| *byte == b'\n').count();
        let columns_before = before.get(line_start..).unwrap_or("").chars().count();
        let rest = text.get(line_start..).unwrap_or("");
        self.line = to_position(lines_before);
        self.column = to_position(columns_before);
        self.source_line = rest
            .lines()
            .next()
            .unwrap_or("")
            .chars()
            .take(400)
            .collect();
        self
    }

    /// Points at a line and column that somebody else counted, both from 1.
    #[must_use]
    pub fn at_line(mut self, text: &str, line: u32, column: u32) -> Self {
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        self.line = line;
        self.column = column;
        self.source_line = text
            .lines()
            .nth(index)
            .unwrap_or("")
            .chars()
            .take(400)
            .collect();
        self
    }

    /// Whether it keeps the policies from being loaded.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

fn to_position(count_before: usize) -> u32 {
    u32::try_from(count_before)
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

impl fmt::Display for PolicyProblem {
    /// One line: `file:line:column: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
            }
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_becomes_line_and_column_in_characters() {
        let problem = PolicyProblem::error("a.cedar", "bad").at_offset("one\näöü x\n", 11);
        assert_eq!((problem.line, problem.column), (2, 5));
        assert_eq!(problem.source_line, "äöü x");
        assert_eq!(problem.to_string(), "a.cedar:2:5: bad");
    }
}
