//! Lays out texts for the terminal: labels, lists and quotes, wrapped and never cut.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};

use crate::cli::output::{RESET, visible, visible_line};

/// The column behind the labels.
const LABEL: usize = 20;

/// A page under way. Every text that is put on it is made visible first; styles are for whole lines.
#[derive(Debug)]
pub(in crate::cli) struct Sheet {
    width: usize,
    lines: Vec<String>,
}

impl Sheet {
    /// An empty page of so many columns.
    pub(in crate::cli) fn new(width: usize) -> Self {
        Self {
            width,
            lines: Vec::new(),
        }
    }

    /// A paragraph in one style.
    pub(in crate::cli) fn paragraph(&mut self, style: &str, text: &str) {
        let lines = wrap(&visible(text), self.width);
        self.lines
            .extend(lines.iter().map(|line| styled(style, line)));
    }

    /// A line of our own that is to be copied, so it is not wrapped.
    pub(in crate::cli) fn command(&mut self, label: &str, words: &str) {
        self.put(label, &[visible_line(words)]);
    }

    /// An empty line.
    pub(in crate::cli) fn gap(&mut self) {
        self.lines.push(String::new());
    }

    /// A text behind its label.
    pub(in crate::cli) fn field(&mut self, label: &str, text: &str) {
        let lines = wrap(&visible_line(text), self.inner());
        self.put(label, &lines);
    }

    /// Names with their values behind a label, aligned; a dash begins each, so that no wrapped line can pose as another one.
    pub(in crate::cli) fn facts<'a>(
        &mut self,
        label: &str,
        facts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let mut table = bare(self.inner());
        for (name, value) in facts {
            table.add_row(["-".to_owned(), visible_line(name), visible_line(value)]);
        }
        if table.is_empty() {
            return;
        }
        pad(&mut table, &[1, 2, 0]);
        if let Some(names) = table.column_mut(1) {
            names.set_constraint(ColumnConstraint::UpperBoundary(Width::Percentage(50)));
        }
        self.put(label, &lines_of(&table));
    }

    /// Texts behind a label, each begun by a dash.
    pub(in crate::cli) fn items(&mut self, label: &str, items: impl IntoIterator<Item = String>) {
        let mut table = bare(self.inner());
        for item in items {
            table.add_row(["-".to_owned(), visible_line(&item)]);
        }
        if table.is_empty() {
            return;
        }
        pad(&mut table, &[1, 0]);
        self.put(label, &lines_of(&table));
    }

    /// Somebody's own words: a bar begins every line of them.
    pub(in crate::cli) fn quote(&mut self, label: &str, text: &str) {
        let lines = wrap(&visible(text), self.inner().saturating_sub(2));
        let quoted: Vec<String> = lines.iter().map(|line| format!("│ {line}")).collect();
        self.put(label, &quoted);
    }

    /// The page.
    pub(in crate::cli) fn finish(self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(|line| line.trim_end()).collect();
        lines.join("\n")
    }

    fn inner(&self) -> usize {
        self.width.saturating_sub(LABEL)
    }

    fn put(&mut self, label: &str, lines: &[String]) {
        for (at, line) in lines.iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            self.lines.push(format!("  {label:<17} {line}"));
        }
    }
}

/// A table with a heading; the columns that people copy from are never wrapped.
pub(in crate::cli) fn table(
    width: usize,
    heading: &[&str],
    rows: Vec<Vec<String>>,
    copied: &[usize],
) -> String {
    let mut table = bare(width);
    table.set_header(heading.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|text| visible(text)).collect::<Vec<_>>());
    }
    pad(&mut table, &vec![2; heading.len()]);
    for column in copied {
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    lines_of(&table).join("\n")
}

fn styled(style: &str, line: &str) -> String {
    if style.is_empty() {
        line.to_owned()
    } else {
        format!("{style}{line}{RESET}")
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut table = bare(width);
    table.add_row([text]);
    pad(&mut table, &[0]);
    lines_of(&table)
}

fn bare(width: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table
}

/// Sets the space behind each column.
fn pad(table: &mut Table, behind: &[u16]) {
    for (column, space) in table.column_iter_mut().zip(behind) {
        column.set_padding((0, *space));
    }
}

fn lines_of(table: &Table) -> Vec<String> {
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_wrapped_and_not_cut() {
        let long = "word ".repeat(60) + &"x".repeat(200);
        let mut sheet = Sheet::new(60);
        sheet.field("grants", &long);
        sheet.quote("says", &long);
        let page = sheet.finish();
        assert!(
            page.lines().all(|line| line.chars().count() <= 60),
            "{page}"
        );
        assert_eq!(page.matches('x').count(), 400);
        assert_eq!(page.matches("word").count(), 120);
    }

    #[test]
    fn a_wrapped_value_cannot_pose_as_another_fact() {
        let mut sheet = Sheet::new(60);
        let value = format!("{} environment dev", "a".repeat(90));
        sheet.facts("context", [("path.to.name", value.as_str()), ("b", "1")]);
        let page = sheet.finish();
        let dashes = page.lines().filter(|line| line.contains(" - ")).count();
        assert_eq!(dashes, 2, "{page}");
    }

    #[test]
    fn a_quote_cannot_leave_its_block() {
        let mut sheet = Sheet::new(60);
        sheet.quote("says", "fine\n  status  APPROVED\u{1b}[2J");
        assert!(sheet.finish().lines().all(|line| line.contains('│')));
    }

    #[test]
    fn a_field_is_one_line_of_the_text() {
        let mut sheet = Sheet::new(80);
        sheet.field("requester", "a\nb\u{1b}c");
        assert_eq!(sheet.finish(), "  requester         a⟨U+000A⟩b⟨U+001B⟩c");
    }
}
