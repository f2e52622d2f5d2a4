//! Code points that a reviewer could not see, or would see as something else.

use unicode_normalization::char::canonical_combining_class;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Opens a code point that is made visible.
pub(super) const OPEN: char = '\u{27E8}';
/// Closes it.
pub(super) const CLOSE: char = '\u{27E9}';

/// Unicode's `Default_Ignorable_Code_Point`, reserved ones included: fonts draw nothing for them.
const IGNORABLE: [(char, char); 17] = [
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{202A}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFF8}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

/// Blank by design although letters, symbols or marks: the blank Braille pattern, the object replacement character, the null
/// notehead, the Egyptian blanks, the Khitan filler.
const BLANK: [char; 6] = [
    '\u{2800}',
    '\u{FFFC}',
    '\u{1D159}',
    '\u{13441}',
    '\u{13442}',
    '\u{16FE4}',
];

/// The brackets of an escape, and those that look like them: a text must not fake an escape.
const BRACKETS: [char; 8] = [
    OPEN, CLOSE, '\u{3008}', '\u{3009}', '\u{276C}', '\u{276D}', '\u{29FC}', '\u{29FD}',
];

/// Whether `c` is never shown as itself, wherever it stands. The space is not of these.
pub(super) fn is_hidden(c: char) -> bool {
    let is_of_hidden_category = match c.general_category_group() {
        // Control, format, private use, unassigned.
        GeneralCategoryGroup::Other => true,
        GeneralCategoryGroup::Separator => c != ' ',
        GeneralCategoryGroup::Letter
        | GeneralCategoryGroup::Mark
        | GeneralCategoryGroup::Number
        | GeneralCategoryGroup::Punctuation
        | GeneralCategoryGroup::Symbol => false,
    };
    is_of_hidden_category
        || is_ignorable(c)
        || BLANK.contains(&c)
        || BRACKETS.contains(&c)
        || is_overlay(c)
}

/// Whether `c` is drawn onto the character before it.
pub(super) fn is_mark(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Mark
}

fn is_ignorable(c: char) -> bool {
    IGNORABLE
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&c))
}

/// Marks that strike a character through or put a sign around it: `not` struck out reads as its contrary.
fn is_overlay(c: char) -> bool {
    const OVERLAY: u8 = 1;
    canonical_combining_class(c) == OVERLAY
        || c.general_category() == GeneralCategory::EnclosingMark
}
