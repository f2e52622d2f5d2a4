//! Writes to the terminal.

use std::fmt::Write as _;
use std::io::Write;

use clap::Command;

use crate::approval::SafeText;

/// The narrowest and the widest that anything is laid out for.
const NARROWEST: usize = 40;
const WIDEST: usize = 120;

/// Data, on standard output. A reader that went away is no failure of ours.
pub(super) fn print(text: &str) {
    writeln!(anstream::stdout(), "{text}").ok();
}

/// Data for programs: JSON in which nothing hidden reaches a terminal.
pub(super) fn print_json(text: &str) {
    print(&visible_json(text));
}

/// Talk, on standard error.
pub(super) fn say(text: &str) {
    writeln!(anstream::stderr(), "{text}").ok();
}

/// What went wrong, on standard error.
pub(super) fn complain(text: &str) {
    say(&format!("{RED}error:{RESET} {text}"));
}

/// A text from outside as it may reach a terminal: everything hidden is written out, line breaks stay.
///
/// What the server has made safe already stays as it is, brackets included.
pub(super) fn visible(text: &str) -> String {
    SafeText::lines_of(text)
        .as_str()
        .replace("⟨U+27E8⟩", "⟨")
        .replace("⟨U+27E9⟩", "⟩")
}

/// The same for one line.
pub(super) fn visible_line(text: &str) -> String {
    visible(text).replace('\n', "⟨U+000A⟩")
}

/// The same JSON, with escapes for what a terminal would obey or not show.
fn visible_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let is_plain = c == '\n' || (' '..='~').contains(&c) || matches!(c, '⟨' | '⟩');
        if is_plain || !SafeText::of(c.encode_utf8(&mut [0; 4])).is_altered() {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            write!(shown, "\\u{unit:04x}").ok();
        }
    }
    shown
}

/// How many columns to lay out for: those of the terminal, or else of `COLUMNS`, or else 100.
pub(super) fn width() -> usize {
    // clap measures the terminal for its help, so a text that it wraps shows how wide that is.
    let help = Command::new("width")
        .max_term_width(WIDEST)
        .help_template("{about}")
        .about("x ".repeat(2 * WIDEST))
        .render_help();
    let widest = help.to_string().lines().map(str::len).max();
    widest.unwrap_or(WIDEST).clamp(NARROWEST, WIDEST)
}

pub(super) const RED: &str = "\u{1b}[1;31m";
pub(super) const GREEN: &str = "\u{1b}[1;32m";
pub(super) const YELLOW: &str = "\u{1b}[1;33m";
pub(super) const BLUE: &str = "\u{1b}[1;34m";
pub(super) const BOLD: &str = "\u{1b}[1m";
pub(super) const DIM: &str = "\u{1b}[2m";
pub(super) const RESET: &str = "\u{1b}[0m";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(
            visible("a\u{1b}[2J\u{9b}1m\rb"),
            "a⟨U+001B⟩[2J⟨U+009B⟩1m⟨U+000D⟩b"
        );
        assert_eq!(visible("two\nlines"), "two\nlines");
        assert_eq!(visible_line("two\nlines"), "two⟨U+000A⟩lines");
    }

    #[test]
    fn json_says_the_same_without_hidden_characters() {
        let text = serde_json::to_string("a\u{7f}\u{202e}\u{e0041}é⟨U+202E⟩\n").unwrap();
        let shown = visible_json(&text);
        assert_eq!(shown, r#""a\u007f\u202e\udb40\udc41é⟨U+202E⟩\n""#);
        let read: String = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, "a\u{7f}\u{202e}\u{e0041}é⟨U+202E⟩\n");
    }

    proptest! {
        #[test]
        fn what_is_safe_stays_as_it_is(text in any::<String>()) {
            let lines = SafeText::lines_of(&text);
            prop_assert_eq!(visible(lines.as_str()), lines.as_str());
            let line = SafeText::of(&text);
            prop_assert_eq!(visible_line(line.as_str()), line.as_str());
        }

        #[test]
        fn no_control_character_passes(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
