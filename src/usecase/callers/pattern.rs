//! Which names a binding means.

use std::str::FromStr;

use crate::model::EntityRef;

/// A name, or the beginning of one where it ends with `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextPattern {
    /// This name and no other.
    Exactly(String),
    /// Every name that begins so.
    BeginningWith(String),
}

impl TextPattern {
    /// The pattern that `text` writes. A star anywhere but at the end is a star.
    pub fn read(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::BeginningWith(beginning.to_owned()),
            None => Self::Exactly(text.to_owned()),
        }
    }

    /// Whether it means `name`.
    pub fn means(&self, name: &str) -> bool {
        match self {
            Self::Exactly(exact) => exact == name,
            Self::BeginningWith(beginning) => name.starts_with(beginning),
        }
    }
}

/// Which principals: all, those of a type, or those with certain ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalPattern {
    /// Every principal.
    Anyone,
    /// Every principal of the type.
    OfType(String),
    /// Principals of the type whose ids fit.
    Named(String, TextPattern),
}

/// A text that names no principals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no principals: write a type such as `Agent`, one of them as `Agent::\"deploy-bot\"`, some of them as `Agent::\"deploy-*\"`, or `*` for all"
)]
pub struct BadPattern(pub String);

impl PrincipalPattern {
    /// Whether it means `principal`.
    pub fn means(&self, principal: &EntityRef) -> bool {
        match self {
            Self::Anyone => true,
            Self::OfType(type_name) => *type_name == principal.type_name,
            Self::Named(type_name, id) => {
                *type_name == principal.type_name && id.means(&principal.id)
            }
        }
    }
}

impl FromStr for PrincipalPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        let bad = || BadPattern(text.to_owned());
        let (type_name, id) = match text.split_once("::\"") {
            None => (text, None),
            Some((type_name, rest)) => {
                let id = rest.strip_suffix('"').ok_or_else(bad)?;
                (type_name, Some(unescaped(id).ok_or_else(bad)?))
            }
        };
        let is_type = type_name.split("::").all(is_identifier);
        match (is_type, id) {
            (false, _) => Err(bad()),
            (true, None) => Ok(Self::OfType(type_name.to_owned())),
            (true, Some(id)) => Ok(Self::Named(type_name.to_owned(), TextPattern::read(&id))),
        }
    }
}

fn is_identifier(word: &str) -> bool {
    let mut letters = word.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// `id` without its escapes: a quote and a backslash are written behind a backslash, and nothing else is.
fn unescaped(id: &str) -> Option<String> {
    let mut text = String::with_capacity(id.len());
    let mut letters = id.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return None,
            '\\' => text.push(letters.next().filter(|next| matches!(next, '"' | '\\'))?),
            _ => text.push(letter),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, meant: &[(&str, &str)], not_meant: &[(&str, &str)]) {
        let pattern: PrincipalPattern = pattern.parse().unwrap();
        for (type_name, id) in meant {
            assert!(
                pattern.means(&EntityRef::new(*type_name, *id)),
                "{type_name} {id}"
            );
        }
        for (type_name, id) in not_meant {
            assert!(
                !pattern.means(&EntityRef::new(*type_name, *id)),
                "{type_name} {id}"
            );
        }
    }

    #[test]
    fn principals_are_meant_by_type_and_id() {
        check("*", &[("Agent", "a"), ("Acme::User", "")], &[]);
        check(
            "Agent",
            &[("Agent", "a"), ("Agent", "")],
            &[("AgentX", "a"), ("Acme::Agent", "a")],
        );
        check(
            "Acme::Agent::\"deploy-bot\"",
            &[("Acme::Agent", "deploy-bot")],
            &[("Acme::Agent", "deploy-bot2"), ("Agent", "deploy-bot")],
        );
        check(
            "Agent::\"deploy-*\"",
            &[("Agent", "deploy-"), ("Agent", "deploy-bot")],
            &[("Agent", "deploy"), ("User", "deploy-bot")],
        );
        check("Agent::\"\"", &[("Agent", "")], &[("Agent", "a")]);
        check(r#"Agent::"a\"b\\""#, &[("Agent", "a\"b\\")], &[]);
    }

    #[test]
    fn what_names_no_principals_is_refused() {
        for text in [
            "",
            "Agent::",
            "::\"a\"",
            "Agent::\"a",
            "a b",
            "Agent::\"a\"b\"",
            r#"A::"\n""#,
            "A*",
        ] {
            assert_eq!(
                text.parse::<PrincipalPattern>(),
                Err(BadPattern(text.to_owned()))
            );
        }
    }
}
