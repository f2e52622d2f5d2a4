//! Cuts what is shown, and says so.

use std::fmt;

use unicode_segmentation::UnicodeSegmentation;

use super::code_points::{CLOSE, OPEN};

/// A grapheme of more code points than this counts as so many: one of Hangul or Indic letters can be of any length.
const MAX_GRAPHEME_CHARS: usize = 16;

/// The beginning of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortened {
    /// What is left.
    pub text: String,
    /// How many graphemes were cut off; 0 if it is the whole.
    pub hidden: usize,
}

impl fmt::Display for Shortened {
    /// Writes what is left, and how much is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.hidden {
            0 => Ok(()),
            1 => f.write_str("… 1 more character"),
            hidden => write!(f, "… {hidden} more characters"),
        }
    }
}

/// Cuts `text` behind at most `max_graphemes` graphemes: not through a letter with its accents, nor through an escape of
/// [`SafeText`](super::SafeText), of which a part would say something else.
pub fn shorten(text: &str, max_graphemes: usize) -> Shortened {
    let parts: Vec<&str> = text.graphemes(true).flat_map(within_limit).collect();
    let (kept, hidden) = parts.split_at(cut_outside_escape(&parts, max_graphemes));
    Shortened {
        text: kept.concat(),
        hidden: hidden.len(),
    }
}

/// Where to cut: at `max`, or in front of the escape that this would cut through.
fn cut_outside_escape(parts: &[&str], max: usize) -> usize {
    let Some((kept, _)) = parts
        .split_at_checked(max)
        .filter(|(_, cut)| !cut.is_empty())
    else {
        return parts.len();
    };
    let is_bracket = |part: &&str| part.contains([OPEN, CLOSE]);
    match kept.iter().rposition(is_bracket) {
        Some(at) if kept.get(at).is_some_and(|part| part.contains(OPEN)) => at,
        Some(_) | None => max,
    }
}

/// The grapheme, or its code points if it has too many.
fn within_limit(grapheme: &str) -> Vec<&str> {
    if grapheme.chars().nth(MAX_GRAPHEME_CHARS).is_none() {
        return vec![grapheme];
    }
    grapheme.split("").filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::SafeText;

    #[track_caller]
    fn check(text: &str, max_graphemes: usize, shown: &str) {
        assert_eq!(shorten(text, max_graphemes).to_string(), shown);
    }

    #[test]
    fn a_short_text_is_whole() {
        check("", 0, "");
        check("abc", 3, "abc");
        check("abc", 100, "abc");
    }

    #[test]
    fn a_cut_is_never_silent() {
        check("abcd", 3, "abc… 1 more character");
        check("abcdef", 3, "abc… 3 more characters");
        check("abc", 0, "… 3 more characters");
    }

    #[test]
    fn a_letter_keeps_its_marks_and_an_emoji_its_parts() {
        check(
            "q\u{301}q\u{301}q\u{301}",
            2,
            "q\u{301}q\u{301}… 1 more character",
        );
        check("👍🏽🇩🇪x", 1, "👍🏽… 2 more characters");
        check("👍🏽🇩🇪x", 2, "👍🏽🇩🇪… 1 more character");
    }

    #[test]
    fn an_escape_is_cut_off_whole() {
        let safe = SafeText::of("ab\u{202E}cd");
        for max_graphemes in 2..10 {
            assert_eq!(shorten(safe.as_str(), max_graphemes).text, "ab");
        }
        assert_eq!(shorten(safe.as_str(), 10).text, "ab⟨U+202E⟩");
        assert_eq!(shorten(safe.as_str(), 11).text, "ab⟨U+202E⟩c");
    }

    #[test]
    fn one_endless_grapheme_is_cut_too() {
        let shortened = shorten(&"\u{1100}".repeat(10_000), 100);
        assert_eq!(shortened.text.chars().count(), 100);
        assert_eq!(shortened.hidden, 9_900);
    }
}
