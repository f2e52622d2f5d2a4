//! What a caller may do: one entry of the configuration.

use std::num::NonZeroU32;

use crate::model::EntityRef;

use super::method::{Method, MethodSet};
use super::pattern::{PrincipalPattern, TextPattern};

/// Who a binding is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody, known or not.
    Everybody,
    /// Services with a client certificate of this SPIFFE id.
    Spiffe(TextPattern),
    /// Processes of this machine that run as this user and came by the unix socket.
    LocalUser(u32),
    /// Whoever shows a token of an issuer.
    Token {
        /// The issuer's name in the configuration.
        issuer: String,
        /// The subject, or the actor where one acts for the subject; any if there is none.
        subject: Option<TextPattern>,
        /// One of these roles must be in the token; any token does if there are none.
        roles: Vec<String>,
    },
    /// Whoever shows a development login.
    DevelopmentLogin,
}

/// What is known of a caller, for bindings to be found by.
#[derive(Clone, Copy, Debug)]
pub enum CallerFacts<'a> {
    /// Nothing.
    Unknown,
    /// A client certificate's SPIFFE id.
    Spiffe(&'a str),
    /// The user of the process at the other end of the unix socket.
    LocalUser(u32),
    /// A token.
    Token {
        /// The issuer's name in the configuration.
        issuer: &'a str,
        /// The subject, or the actor where one acts for the subject.
        subject: &'a str,
        /// The roles.
        roles: &'a [String],
    },
    /// A development login.
    DevelopmentLogin,
}

impl Who {
    /// Whether it is for the caller that `facts` tell of.
    pub fn is(&self, facts: CallerFacts<'_>) -> bool {
        match (self, facts) {
            (Self::Everybody, _) | (Self::DevelopmentLogin, CallerFacts::DevelopmentLogin) => true,
            (Self::Spiffe(pattern), CallerFacts::Spiffe(id)) => pattern.means(id),
            (Self::LocalUser(wanted), CallerFacts::LocalUser(user)) => *wanted == user,
            (
                Self::Token {
                    issuer: wanted,
                    subject: pattern,
                    roles: wanted_roles,
                },
                CallerFacts::Token {
                    issuer,
                    subject,
                    roles,
                },
            ) => {
                wanted == issuer
                    && pattern
                        .as_ref()
                        .is_none_or(|pattern| pattern.means(subject))
                    && (wanted_roles.is_empty()
                        || wanted_roles.iter().any(|role| roles.contains(role)))
            }
            (
                Self::Spiffe(_) | Self::LocalUser(_) | Self::Token { .. } | Self::DevelopmentLogin,
                CallerFacts::Unknown
                | CallerFacts::Spiffe(_)
                | CallerFacts::LocalUser(_)
                | CallerFacts::Token { .. }
                | CallerFacts::DevelopmentLogin,
            ) => false,
        }
    }
}

/// How much a caller may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingLimits {
    /// Calls a second, on average; any number if none.
    pub calls_per_second: Option<NonZeroU32>,
    /// How many calls may come at once above that; as many as in a second if none.
    pub burst: Option<NonZeroU32>,
    /// Calls under way at a time; any number if none.
    pub concurrent_calls: Option<NonZeroU32>,
}

/// What some callers may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name in the configuration.
    pub name: String,
    /// Who it is for.
    pub who: Who,
    /// What they may call.
    pub methods: MethodSet,
    /// For whom they may speak.
    pub speaks_for: Vec<PrincipalPattern>,
    /// How much they may ask.
    pub limits: BindingLimits,
}

impl Binding {
    /// The binding of servers that ask nobody who they are: everybody may call everything, for everybody.
    pub fn for_everybody() -> Self {
        Self {
            name: "everybody".to_owned(),
            who: Who::Everybody,
            methods: MethodSet::all(),
            speaks_for: vec![PrincipalPattern::Anyone],
            limits: BindingLimits::default(),
        }
    }

    /// Whether it grants `method` for `principal`.
    pub fn grants(&self, method: Method, principal: &EntityRef) -> bool {
        self.methods.has(method)
            && self
                .speaks_for
                .iter()
                .any(|pattern| pattern.means(principal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(subject: Option<&str>, roles: &[&str]) -> Who {
        Who::Token {
            issuer: "corp".to_owned(),
            subject: subject.map(TextPattern::read),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        }
    }

    #[test]
    fn a_binding_is_for_those_who_fit_in_everything() {
        let roles = ["sre".to_owned()];
        let shown = CallerFacts::Token {
            issuer: "corp",
            subject: "yuki",
            roles: &roles,
        };
        assert!(token(None, &[]).is(shown));
        assert!(token(Some("yu*"), &["dba", "sre"]).is(shown));
        assert!(!token(Some("ada"), &["sre"]).is(shown));
        assert!(!token(Some("yuki"), &["dba"]).is(shown));
        let elsewhere = CallerFacts::Token {
            issuer: "other",
            subject: "yuki",
            roles: &roles,
        };
        assert!(!token(None, &[]).is(elsewhere));
        assert!(!token(None, &[]).is(CallerFacts::Unknown));
        assert!(Who::Everybody.is(CallerFacts::Unknown));
    }

    #[test]
    fn one_kind_of_credential_is_never_taken_for_another() {
        let spiffe = Who::Spiffe(TextPattern::read("spiffe://example.org/*"));
        assert!(spiffe.is(CallerFacts::Spiffe("spiffe://example.org/a")));
        assert!(!spiffe.is(CallerFacts::Spiffe("spiffe://example.org.evil/a")));
        let as_subject = CallerFacts::Token {
            issuer: "corp",
            subject: "spiffe://example.org/a",
            roles: &[],
        };
        assert!(!spiffe.is(as_subject));
        assert!(Who::LocalUser(0).is(CallerFacts::LocalUser(0)));
        assert!(!Who::LocalUser(0).is(CallerFacts::LocalUser(1)));
        assert!(!Who::LocalUser(0).is(CallerFacts::Unknown));
    }
}
