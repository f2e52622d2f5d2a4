//! Refuses policy text that could overflow the parser's stack, before any parser sees it.
//!
//! Cedar's parser recurses: about 130 nested brackets abort a process on a 2 MiB stack. Compilation runs on a large stack
//! (`usecase::loading`), and this scan bounds how deep anything it reads can nest.
//! Never: a judgement about what the text means.

use crate::model::PolicyProblem;

/// How deep brackets may nest.
const MAX_NESTING: usize = 64;
/// How many tokens one policy may have; the longest chain of operators is shorter than that.
const MAX_POLICY_TOKENS: usize = 8_192;
/// How many `if`s one policy may have: they nest without brackets.
const MAX_POLICY_IFS: usize = 128;

/// Which of Cedar's grammars a text is in.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Grammar {
    /// Where `<` and `>` compare.
    Policies,
    /// Where `<` and `>` enclose, as in `Set<String>`.
    Schema,
}

/// Checks the text of policies or of a schema.
///
/// # Errors
/// A problem that points at the first place that nests too deep, or at a policy that is too long.
pub(super) fn check_text(file: &str, text: &str, grammar: Grammar) -> Result<(), PolicyProblem> {
    let mut scan = Scan::default();
    for (offset, token) in Tokens::new(text, grammar) {
        if let Err(excess) = scan.take(token) {
            return Err(PolicyProblem::error(file, excess.message())
                .at_offset(text, offset)
                .with_help(excess.help()));
        }
    }
    Ok(())
}

enum Excess {
    Nesting,
    Tokens,
    Ifs,
}

impl Excess {
    fn message(&self) -> String {
        match self {
            Self::Nesting => format!("brackets nest deeper than {MAX_NESTING} levels"),
            Self::Tokens => {
                format!("a policy or declaration is longer than {MAX_POLICY_TOKENS} tokens")
            }
            Self::Ifs => format!("a policy has more than {MAX_POLICY_IFS} `if`s"),
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Self::Nesting => "write the condition flatter, or split the policy",
            Self::Tokens => {
                "split the policy, or test membership in a set or a group instead of listing"
            }
            Self::Ifs => "split the policy",
        }
    }
}

#[derive(Default)]
struct Scan {
    depth: usize,
    tokens: usize,
    ifs: usize,
}

impl Scan {
    fn take(&mut self, token: Token<'_>) -> Result<(), Excess> {
        self.tokens = self.tokens.saturating_add(1);
        match token {
            Token::Open => self.depth = self.depth.saturating_add(1),
            Token::Close => self.depth = self.depth.saturating_sub(1),
            // No policy and no declaration goes on behind a semicolon. The brackets of a namespace stay open.
            Token::Semicolon => (self.tokens, self.ifs) = (0, 0),
            Token::Word("if") => self.ifs = self.ifs.saturating_add(1),
            Token::Word(_) | Token::Other => {}
        }
        if self.depth > MAX_NESTING {
            Err(Excess::Nesting)
        } else if self.tokens > MAX_POLICY_TOKENS {
            Err(Excess::Tokens)
        } else if self.ifs > MAX_POLICY_IFS {
            Err(Excess::Ifs)
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy)]
enum Token<'t> {
    Open,
    Close,
    Semicolon,
    Word(&'t str),
    Other,
}

/// Splits text roughly as Cedar's lexer does: strings and comments are skipped over, words are kept together.
struct Tokens<'t> {
    text: &'t str,
    grammar: Grammar,
    offset: usize,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str, grammar: Grammar) -> Self {
        Self {
            text,
            grammar,
            offset: 0,
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.offset..).unwrap_or("")
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        let rest = self.rest();
        let length = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.offset = self.offset.saturating_add(length);
    }

    fn skip_string(&mut self) {
        let mut escaped = false;
        for (index, byte) in self.rest().bytes().enumerate().skip(1) {
            match byte {
                b'"' if !escaped => {
                    self.offset = self.offset.saturating_add(index).saturating_add(1);
                    return;
                }
                b'\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        self.offset = self.text.len();
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = (usize, Token<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.skip_while(char::is_whitespace);
            if !self.rest().starts_with("//") {
                break;
            }
            // Cedar ends a comment at either of the two.
            self.skip_while(|c| c != '\n' && c != '\r');
        }
        let start = self.offset;
        let first = self.rest().chars().next()?;
        let token = match first {
            '(' | '[' | '{' => Token::Open,
            ')' | ']' | '}' => Token::Close,
            '<' if self.grammar == Grammar::Schema => Token::Open,
            '>' if self.grammar == Grammar::Schema => Token::Close,
            ';' => Token::Semicolon,
            '"' => {
                self.skip_string();
                return Some((start, Token::Other));
            }
            _ if first.is_alphanumeric() || first == '_' => {
                self.skip_while(|c| c.is_alphanumeric() || c == '_');
                let word = self.text.get(start..self.offset).unwrap_or("");
                return Some((start, Token::Word(word)));
            }
            _ => Token::Other,
        };
        self.offset = self.offset.saturating_add(first.len_utf8());
        Some((start, token))
    }
}

#[cfg(test)]
mod tests {
    use super::Grammar::{Policies, Schema};
    use super::*;

    fn nested(depth: usize) -> String {
        format!(
            "permit(principal, action, resource) when {{ {}true{} }};",
            "(".repeat(depth),
            ")".repeat(depth)
        )
    }

    #[test]
    fn sixty_levels_pass_and_seventy_do_not() {
        assert!(check_text("a.cedar", &nested(60), Policies).is_ok());
        let problem = check_text("a.cedar", &nested(70), Policies).unwrap_err();
        assert_eq!((problem.line, problem.column), (1, 107));
        assert!(problem.message.contains("64 levels"));
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let text = format!(
            "// {}\npermit(principal, action, resource) when {{ \"\\\"{}\" == \"\" }};",
            "(".repeat(99),
            "[".repeat(99)
        );
        assert!(check_text("a.cedar", &text, Policies).is_ok());
    }

    #[test]
    fn a_schema_of_nested_sets_is_bounded() {
        let text = format!(
            "entity A {{ a: {}Long{} }};",
            "Set<".repeat(99),
            ">".repeat(99)
        );
        assert!(check_text("schema.cedarschema", &text, Schema).is_err());
    }

    #[test]
    fn a_carriage_return_ends_a_comment() {
        let text = format!("// hidden?\r{}", nested(70));
        assert!(check_text("a.cedar", &text, Policies).is_err());
    }

    #[test]
    fn a_set_ends_where_its_bracket_closes() {
        let text = "entity A { a: Set<Set<Long>> };\n".repeat(100);
        assert!(check_text("schema.cedarschema", &text, Schema).is_ok());
    }

    #[test]
    fn a_long_namespace_of_short_declarations_passes() {
        let text = format!("namespace N {{ {} }}", "entity A; ".repeat(5_000));
        assert!(check_text("schema.cedarschema", &text, Schema).is_ok());
    }

    #[test]
    fn a_name_that_ends_in_set_may_be_compared() {
        let text = "permit(principal, action, resource) when { context.offSet < 5 };".repeat(100);
        assert!(check_text("a.cedar", &text, Policies).is_ok());
    }

    #[test]
    fn comparisons_do_not_nest() {
        let text = "permit(principal, action, resource) when { 1 < 2 && 2 < 3 };".repeat(100);
        assert!(check_text("a.cedar", &text, Policies).is_ok());
    }

    #[test]
    fn a_chain_of_ifs_is_bounded() {
        let text = format!(
            "permit(principal, action, resource) when {{ {} true }};",
            "if true then true else ".repeat(200)
        );
        assert!(
            check_text("a.cedar", &text, Policies)
                .unwrap_err()
                .message
                .contains("`if`s")
        );
    }

    #[test]
    fn many_policies_of_ordinary_length_pass() {
        let text = "permit(principal, action, resource);\n".repeat(20_000);
        assert!(check_text("a.cedar", &text, Policies).is_ok());
    }
}
