//! Writes to the terminal.

use std::io::Write;

/// Data, on standard output. A reader that went away is no failure of ours.
pub(super) fn print(text: &str) {
    writeln!(anstream::stdout(), "{text}").ok();
}

/// Talk, on standard error.
pub(super) fn say(text: &str) {
    writeln!(anstream::stderr(), "{text}").ok();
}

/// What went wrong, on standard error.
pub(super) fn complain(text: &str) {
    say(&format!("{RED}error:{RESET} {text}"));
}

pub(super) const RED: &str = "\u{1b}[1;31m";
pub(super) const GREEN: &str = "\u{1b}[1;32m";
pub(super) const YELLOW: &str = "\u{1b}[1;33m";
pub(super) const BLUE: &str = "\u{1b}[1;34m";
pub(super) const BOLD: &str = "\u{1b}[1m";
pub(super) const DIM: &str = "\u{1b}[2m";
pub(super) const RESET: &str = "\u{1b}[0m";
