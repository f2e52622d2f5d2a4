//! Untrusted text made safe to show to a reviewer, on every channel.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use unicode_normalization::is_nfc;
use unicode_security::mixed_script::AugmentedScriptSet;

use super::code_points::{CLOSE, OPEN, is_hidden, is_mark};

/// How many marks one character may carry.
const MAX_MARKS: usize = 3;
/// How many line breaks may follow each other: one empty line.
const MAX_BREAKS: usize = 2;

/// A text in which everything can be seen.
///
/// INVARIANT (injective): two texts that differ are shown differently. What cannot be seen, or would be seen as something else,
/// stands as its code point in brackets, `⟨U+202E⟩`, and repeated as `⟨U+200B×12⟩`: control, format (bidi, zero width, tags) and
/// separator characters, private use, unassigned and default-ignorable code points, the brackets themselves, spaces that lead,
/// trail or repeat, marks without a base, marks that strike out, a fourth mark on one character. What is shown is in Unicode's
/// normal form C, so that two spellings of `é` differ too, and a channel that normalises changes nothing.
///
/// At most twelve times as many bytes as the text: limit the text before, and [`shorten`](super::shorten()) what is shown.
///
/// It is plain text. A channel still escapes its own markup, and isolates it where letters from right to left could reorder what
/// stands beside them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SafeText {
    text: String,
    is_altered: bool,
    is_mixed_script: bool,
}

impl SafeText {
    /// A text for one line: a name, an id, a value. Line breaks and tabs are made visible too.
    pub fn of(text: &str) -> Self {
        Self::shown(text, Form::OneLine, is_mixed_script(text))
    }

    /// A text of several lines: what a person or an agent says. Keeps `\n`, with at most one empty line between others, and treats
    /// the edges of each line as those of the text.
    ///
    /// Scripts are looked at word by word, so that a sentence may name a thing in another script.
    pub fn lines_of(text: &str) -> Self {
        let is_mixed_script = text.split_whitespace().any(is_mixed_script);
        Self::shown(text, Form::Lines, is_mixed_script)
    }

    /// What to show.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether something was made visible that would not have been, so that this is not the text itself.
    pub fn is_altered(&self) -> bool {
        self.is_altered
    }

    /// Whether letters of several scripts stand together, as when a Cyrillic letter poses as a Latin one.
    ///
    /// Asks for a single script (UTS 39, 5.1); Latin may stand beside Chinese, Japanese or Korean (5.2, "Highly Restrictive").
    pub fn is_mixed_script(&self) -> bool {
        self.is_mixed_script
    }

    fn shown(text: &str, form: Form, is_mixed_script: bool) -> Self {
        let runs = runs_of(text);
        let mut writer = Writer::new(form);
        let mut before = None;
        let mut rest = runs.iter();
        while let Some(run) = rest.next() {
            let after = rest.as_slice().first().map(|next| next.c);
            writer.write(run, before, after);
            before = Some(run.c);
        }
        Self {
            text: writer.shown,
            is_altered: writer.is_altered,
            is_mixed_script,
        }
    }
}

impl fmt::Display for SafeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl AsRef<str> for SafeText {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    OneLine,
    Lines,
}

/// The same character, so many times.
struct Run {
    c: char,
    count: usize,
}

fn runs_of(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for c in text.chars() {
        match runs.last_mut() {
            Some(run) if run.c == c => run.count = run.count.saturating_add(1),
            _ => runs.push(Run { c, count: 1 }),
        }
    }
    runs
}

struct Writer {
    form: Form,
    shown: String,
    is_altered: bool,
    /// The last character that can carry marks, and its marks; empty behind anything else.
    cluster: String,
    marks: usize,
}

impl Writer {
    fn new(form: Form) -> Self {
        Self {
            form,
            shown: String::new(),
            is_altered: false,
            cluster: String::new(),
            marks: 0,
        }
    }

    fn write(&mut self, run: &Run, before: Option<char>, after: Option<char>) {
        let is_at_edge = |c: Option<char>| c.is_none_or(|c| c == '\n');
        let kept = match run.c {
            ' ' if run.count > 1 || is_at_edge(before) || is_at_edge(after) => 0,
            ' ' => self.keep_apart(run, 1),
            '\n' if self.form == Form::OneLine || before.is_none() || after.is_none() => 0,
            '\n' => self.keep_apart(run, MAX_BREAKS),
            c if is_hidden(c) => 0,
            _ => self.keep(run),
        };
        match run.count.saturating_sub(kept) {
            0 => {}
            escaped => self.escape(run.c, escaped),
        }
    }

    /// Writes a run as it is, as far as each character can be told apart behind the one before. Answers how many were written.
    fn keep(&mut self, run: &Run) -> usize {
        let kept = (0..run.count).take_while(|_| self.fits(run.c)).count();
        self.shown.extend(std::iter::repeat_n(run.c, kept));
        kept
    }

    /// Writes at most `limit` of a run that can carry no marks. Answers how many were written.
    fn keep_apart(&mut self, run: &Run, limit: usize) -> usize {
        let kept = run.count.min(limit);
        self.shown.extend(std::iter::repeat_n(run.c, kept));
        self.cluster.clear();
        kept
    }

    /// Whether `c` can be told apart behind the cluster, which it then joins or replaces.
    fn fits(&mut self, c: char) -> bool {
        let is_mark = is_mark(c);
        if is_mark && (self.cluster.is_empty() || self.marks >= MAX_MARKS) {
            return false;
        }
        self.cluster.push(c);
        if !is_nfc(&self.cluster) {
            return false;
        }
        if is_mark {
            self.marks = self.marks.saturating_add(1);
        } else {
            self.cluster.clear();
            self.cluster.push(c);
            self.marks = 0;
        }
        true
    }

    fn escape(&mut self, c: char, count: usize) {
        let code = u32::from(c);
        // Writing to a string cannot fail.
        let _ = match count {
            1 => write!(self.shown, "{OPEN}U+{code:04X}{CLOSE}"),
            _ => write!(self.shown, "{OPEN}U+{code:04X}\u{D7}{count}{CLOSE}"),
        };
        self.is_altered = true;
        self.cluster.clear();
    }
}

fn is_mixed_script(text: &str) -> bool {
    if !AugmentedScriptSet::for_str(text).is_empty() {
        return false;
    }
    let latin = AugmentedScriptSet::for_char('a');
    let mut beside_latin = AugmentedScriptSet::default();
    let scripts = text.chars().map(AugmentedScriptSet::for_char);
    for script in scripts.filter(|script| *script != latin) {
        beside_latin.intersect_with(script);
    }
    !(beside_latin.hanb || beside_latin.jpan || beside_latin.kore)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let safe = SafeText::of(text);
        assert_eq!(safe.as_str(), shown);
        assert_eq!(safe.is_altered(), text != shown);
    }

    #[track_caller]
    fn check_lines(text: &str, shown: &str) {
        let safe = SafeText::lines_of(text);
        assert_eq!(safe.as_str(), shown);
        assert_eq!(safe.is_altered(), text != shown);
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in [
            "",
            "a",
            "Deploy model fraud-v7 to production?",
            "café naïve Ångström Łódź Việt Nam",
            "模型 部署",
            "モデルを配備する",
            "한국어 모델",
            "نشر النموذج",
            "פריסת מודל",
            "развернуть модель",
            "ἀνάπτυξη μοντέλου",
            "मॉडल तैनात करें",
            "ปรับใช้ที่นี่",
            "🚀 👍🏽 🇩🇪 ✓ € ½ “quoted” — <b> & *x*",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn what_cannot_be_seen_becomes_its_code_point() {
        for (text, shown) in [
            ("file\u{202E}fdp.exe", "file⟨U+202E⟩fdp.exe"),
            ("a\u{200B}b", "a⟨U+200B⟩b"),
            ("a\u{200B}\u{200B}\u{200B}b", "a⟨U+200B×3⟩b"),
            ("\u{1B}[2Jx\0", "⟨U+001B⟩[2Jx⟨U+0000⟩"),
            ("a\tb\nc\r\n", "a⟨U+0009⟩b⟨U+000A⟩c⟨U+000D⟩⟨U+000A⟩"),
            ("a\u{85}b\u{9B}", "a⟨U+0085⟩b⟨U+009B⟩"),
            ("a\u{A0}b\u{3000}c", "a⟨U+00A0⟩b⟨U+3000⟩c"),
            ("a\u{2028}b\u{2029}c", "a⟨U+2028⟩b⟨U+2029⟩c"),
            ("x\u{E0041}\u{E007F}", "x⟨U+E0041⟩⟨U+E007F⟩"),
            ("x\u{FE0F}\u{E0100}", "x⟨U+FE0F⟩⟨U+E0100⟩"),
            (
                "\u{115F}\u{1160}\u{3164}\u{FFA0}",
                "⟨U+115F⟩⟨U+1160⟩⟨U+3164⟩⟨U+FFA0⟩",
            ),
            ("\u{E000}\u{F0000}\u{10FFFD}", "⟨U+E000⟩⟨U+F0000⟩⟨U+10FFFD⟩"),
            (
                "\u{378}\u{FFFF}\u{FFF0}\u{E0FFF}",
                "⟨U+0378⟩⟨U+FFFF⟩⟨U+FFF0⟩⟨U+E0FFF⟩",
            ),
            (
                "\u{2066}\u{2069}\u{61C}\u{AD}",
                "⟨U+2066⟩⟨U+2069⟩⟨U+061C⟩⟨U+00AD⟩",
            ),
            (
                "a\u{34F}\u{17B4}\u{180E}\u{FEFF}",
                "a⟨U+034F⟩⟨U+17B4⟩⟨U+180E⟩⟨U+FEFF⟩",
            ),
            ("\u{2800}\u{FFFC}", "⟨U+2800⟩⟨U+FFFC⟩"),
            ("👩\u{200D}💻", "👩⟨U+200D⟩💻"),
        ] {
            check(text, shown);
        }
    }

    #[test]
    fn an_escape_cannot_be_faked() {
        check("⟨U+202E⟩", "⟨U+27E8⟩U+202E⟨U+27E9⟩");
        check("〈U+202E〉", "⟨U+3008⟩U+202E⟨U+3009⟩");
        check("\u{2329}x\u{232A}", "⟨U+2329⟩x⟨U+232A⟩");
    }

    #[test]
    fn spaces_that_cannot_be_counted_are_shown() {
        check("a b c", "a b c");
        check(" a", "⟨U+0020⟩a");
        check("a ", "a⟨U+0020⟩");
        check("a  b", "a⟨U+0020×2⟩b");
        check(&format!("a{}b", " ".repeat(5_000)), "a⟨U+0020×5000⟩b");
        check(" ", "⟨U+0020⟩");
    }

    #[test]
    fn marks_need_a_character_to_stand_on() {
        check("\u{301}a", "⟨U+0301⟩a");
        check("a \u{302}b", "a ⟨U+0302⟩b");
        check("\u{202E}\u{301}", "⟨U+202E⟩⟨U+0301⟩");
        check("q\u{301}", "q\u{301}");
        check(
            "q\u{301}\u{301}\u{301}\u{301}\u{301}",
            "q\u{301}\u{301}\u{301}⟨U+0301×2⟩",
        );
        check(
            "q\u{301}\u{300}\u{302}\u{303}r",
            "q\u{301}\u{300}\u{302}⟨U+0303⟩r",
        );
    }

    #[test]
    fn marks_that_strike_out_or_enclose_are_shown() {
        check("n\u{336}o\u{336}", "n⟨U+0336⟩o⟨U+0336⟩");
        check("5\u{20E0}", "5⟨U+20E0⟩");
    }

    #[test]
    fn two_spellings_of_one_character_differ() {
        check("\u{E9}", "\u{E9}");
        check("e\u{301}", "e⟨U+0301⟩");
        check("\u{212B}", "⟨U+212B⟩");
        check("\u{1100}\u{1161}", "\u{1100}⟨U+1161⟩");
        check("q\u{301}\u{323}", "q\u{301}⟨U+0323⟩");
    }

    #[test]
    fn lines_stay_lines() {
        check_lines("a\nb\n\nc", "a\nb\n\nc");
        check_lines("a\r\nb\tc", "a⟨U+000D⟩\nb⟨U+0009⟩c");
        check_lines("a \n b", "a⟨U+0020⟩\n⟨U+0020⟩b");
        check_lines("a\n\n\n\n\nb", "a\n\n⟨U+000A×3⟩b");
        check_lines("\na\n", "⟨U+000A⟩a⟨U+000A⟩");
        check_lines("a\n\u{301}b\u{202E}", "a\n⟨U+0301⟩b⟨U+202E⟩");
        check_lines("a\u{2028}b\u{B}c", "a⟨U+2028⟩b⟨U+000B⟩c");
    }

    #[test]
    fn letters_of_another_script_among_latin_ones_are_marked() {
        for (text, is_mixed) in [
            ("User::\"alice\"", false),
            ("User::\"\u{430}lice\"", true),
            ("p\u{430}yp\u{430}l", true),
            ("\u{3BF}ffice", true),
            ("раураl", true),
            ("развернуть модель 7", false),
            ("S3 バケット", false),
            ("model 部署", false),
            ("모델 v7", false),
            ("バケット 모델", true),
            ("\u{13A0}pache", true),
            ("12:30 – 45 %", false),
        ] {
            assert_eq!(SafeText::of(text).is_mixed_script(), is_mixed, "{text}");
        }
    }

    #[test]
    fn a_sentence_may_name_a_thing_in_another_script() {
        let sentence = "развернуть fraud-v7\nсейчас";
        assert!(!SafeText::lines_of(sentence).is_mixed_script());
        assert!(SafeText::lines_of("deploy fr\u{430}ud-v7\nnow").is_mixed_script());
    }

    #[test]
    fn shown_text_has_at_most_twelve_times_the_bytes() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            let text = c.to_string();
            assert!(
                SafeText::of(&text).as_str().len() <= 12 * text.len(),
                "{c:?}"
            );
        }
    }

    #[test]
    fn each_code_point_alone_is_shown_as_itself_or_as_its_number() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            let text = c.to_string();
            let shown = SafeText::of(&text);
            assert!(
                shown.as_str() == text || shown.as_str() == format!("⟨U+{:04X}⟩", u32::from(c))
            );
        }
    }

    /// Reads what is shown back.
    fn read_back(shown: &str) -> String {
        let mut text = String::new();
        let mut rest = shown;
        while let Some((before, from_escape)) = rest.split_once(OPEN) {
            text.push_str(before);
            let (escape, behind) = from_escape.split_once(CLOSE).unwrap();
            let (code, count) = escape.split_once('\u{D7}').unwrap_or((escape, "1"));
            let code = u32::from_str_radix(code.strip_prefix("U+").unwrap(), 16).unwrap();
            let c = char::from_u32(code).unwrap();
            text.extend(std::iter::repeat_n(c, count.parse().unwrap()));
            rest = behind;
        }
        text + rest
    }

    /// Texts out of what attackers like, and of anything.
    fn nasty_text() -> impl Strategy<Value = String> {
        let nasty: Vec<char> = "ab é0×U+⟨⟩〈\t\n\r\0\u{7F}\u{85}\u{9B}\u{A0}\u{AD}\u{300}\u{301}\u{323}\u{336}\u{34F}\u{61C}\
             \u{430}\u{5D0}\u{627}\u{1100}\u{115F}\u{1161}\u{11A8}\u{180B}\u{200B}\u{200D}\u{200E}\u{2028}\u{202E}\u{2066}\
             \u{20DD}\u{212B}\u{2800}\u{3000}\u{3164}\u{AC00}\u{E000}\u{FE0F}\u{FEFF}\u{FFA0}\u{FFFD}\u{FFFF}\u{1F468}\
             \u{E0041}\u{E0100}\u{E0FFF}\u{10FFFF}"
            .chars()
            .collect();
        let c = prop_oneof![
            4 => proptest::sample::select(nasty),
            1 => Just(' '),
            1 => Just('\n'),
            1 => any::<char>(),
        ];
        proptest::collection::vec((c, prop_oneof![4 => Just(1_usize), 1 => 2..7_usize]), 0..24)
            .prop_map(|runs| {
                runs.into_iter()
                    .flat_map(|(c, count)| std::iter::repeat_n(c, count))
                    .collect()
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        // INVARIANT (injective): what can be read back cannot be the same for two texts.
        #[test]
        fn what_is_shown_can_be_read_back(text in nasty_text()) {
            for safe in [SafeText::of(&text), SafeText::lines_of(&text)] {
                prop_assert_eq!(&read_back(safe.as_str()), &text);
                prop_assert_eq!(safe.is_altered(), safe.as_str() != text);
            }
        }

        #[test]
        fn texts_that_differ_are_shown_differently(one in nasty_text(), other in nasty_text()) {
            prop_assume!(one != other);
            prop_assert_ne!(SafeText::of(&one), SafeText::of(&other));
            prop_assert_ne!(SafeText::lines_of(&one), SafeText::lines_of(&other));
        }

        #[test]
        fn nothing_hidden_is_left(text in nasty_text()) {
            let one_line = SafeText::of(&text).text;
            let lines = SafeText::lines_of(&text).text;
            prop_assert!(!one_line.contains('\n'));
            prop_assert!(!lines.contains("\n\n\n"));
            for shown in [one_line, lines] {
                let is_bracket = |c| c == OPEN || c == CLOSE;
                prop_assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n' && !is_bracket(c)));
                prop_assert!(is_nfc(&shown));
                for line in shown.lines() {
                    prop_assert!(line.trim() == line && !line.contains("  "));
                    prop_assert!(!line.starts_with(is_mark));
                }
            }
        }
    }
}
