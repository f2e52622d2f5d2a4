//! What a server can be told about who may call what, and for whom.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::usecase::callers::{
    Binding, BindingLimits, MethodSet, PrincipalPattern, TextPattern, Who,
};

use super::issuers::IssuerConfig;

/// Who callers and people are.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Whether everybody who reaches the server may call everything and speak for everybody, without a credential.
    pub unauthenticated_callers: bool,
    /// Whether whoever says a name is believed: for trying things out, on loopback only.
    pub development_logins: bool,
}

/// What some callers may do: `[caller.NAME]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct CallerConfig {
    /// Services with a client certificate of this SPIFFE id; of all that begin so where it ends with `*`.
    pub spiffe: Option<String>,
    /// Processes that run as this user and come by the unix socket.
    pub unix_user: Option<u32>,
    /// Whoever shows a token of this issuer: the NAME of an `[issuer.NAME]`.
    pub issuer: Option<String>,
    /// With `issuer`: the subject of the token, or the actor where one acts for the subject; all that begin so where it ends with `*`.
    pub subject: Option<String>,
    /// With `issuer`: one of these roles must be in the token.
    pub roles: Vec<String>,
    /// What they may call: services such as `AuthorizationService`, or methods such as `ApprovalService/GetApproval`.
    pub services: Vec<String>,
    /// For which principals they may speak: types such as `Agent`, one such as `Agent::"deploy-bot"`, or `*`.
    pub speaks_for: Vec<String>,
    /// Calls a second of one caller, on average.
    pub calls_per_second: Option<NonZeroU32>,
    /// Calls of one caller that may come at once above that.
    pub burst: Option<NonZeroU32>,
    /// Calls of one caller under way at a time.
    pub concurrent_calls: Option<NonZeroU32>,
}

impl CallerConfig {
    /// The binding that it stands for.
    ///
    /// # Errors
    /// The key at fault, and why.
    pub fn binding(&self, name: &str) -> Result<Binding, (&'static str, String)> {
        let methods = MethodSet::named(&self.services);
        let methods = methods.map_err(|error| ("services", error.to_string()))?;
        if self.services.is_empty() {
            let message = "names no service, so there is nothing that this caller may do";
            return Err(("services", message.to_owned()));
        }
        let speaks_for = self.speaks_for.iter().map(|text| text.parse());
        let speaks_for: Result<Vec<PrincipalPattern>, _> = speaks_for.collect();
        Ok(Binding {
            name: name.to_owned(),
            who: self.who()?,
            methods,
            speaks_for: speaks_for.map_err(|error| ("speaks_for", error.to_string()))?,
            limits: BindingLimits {
                calls_per_second: self.calls_per_second,
                burst: self.burst,
                concurrent_calls: self.concurrent_calls,
            },
        })
    }

    fn who(&self) -> Result<Who, (&'static str, String)> {
        let has_token_words = self.subject.is_some() || !self.roles.is_empty();
        match (&self.spiffe, self.unix_user, &self.issuer) {
            (Some(id), None, None) if !has_token_words => {
                if id.starts_with("spiffe://") {
                    Ok(Who::Spiffe(TextPattern::read(id)))
                } else {
                    let message = format!("`{id}` does not begin with `spiffe://`");
                    Err(("spiffe", message))
                }
            }
            (None, Some(user), None) if !has_token_words => Ok(Who::LocalUser(user)),
            (None, None, Some(issuer)) => Ok(Who::Token {
                issuer: issuer.clone(),
                subject: self.subject.as_deref().map(TextPattern::read),
                roles: self.roles.clone(),
            }),
            (None, None, None) => Err((
                "spiffe",
                "is missing: say who calls, by one of `spiffe`, `unix_user` and `issuer`"
                    .to_owned(),
            )),
            (Some(_) | None, Some(_) | None, Some(_) | None) => Err((
                "spiffe",
                "say who calls by one of `spiffe`, `unix_user`, and `issuer` (with `subject` and `roles`), not by several".to_owned(),
            )),
        }
    }
}

/// Checks `[caller.NAME]`, for each name.
///
/// # Errors
/// The first key with a value that cannot be used, and why.
pub(super) fn check(
    callers: &BTreeMap<String, CallerConfig>,
    issuers: &BTreeMap<String, IssuerConfig>,
) -> Result<(), String> {
    for (name, caller) in callers {
        caller
            .binding(name)
            .map_err(|(key, message)| format!("`caller.{name}.{key}`: {message}"))?;
        if let Some(issuer) = &caller.issuer
            && !issuers.contains_key(issuer)
        {
            return Err(format!(
                "`caller.{name}.issuer`: there is no `[issuer.{issuer}]`"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(toml: &str, words: &str) {
        let config: CallerConfig = toml::from_str(toml).unwrap();
        let (key, message) = config.binding("x").unwrap_err();
        let said = format!("{key}: {message}");
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_binding_says_who_what_and_for_whom() {
        let toml = "spiffe = \"spiffe://example.org/ci/*\"\nservices = [\"AuthorizationService\"]\nspeaks_for = [\"Agent\"]\ncalls_per_second = 5\n";
        let config: CallerConfig = toml::from_str(toml).unwrap();
        let binding = config.binding("ci").unwrap();
        assert_eq!(
            binding.who,
            Who::Spiffe(TextPattern::BeginningWith(
                "spiffe://example.org/ci/".to_owned()
            ))
        );
        assert_eq!(binding.limits.calls_per_second, NonZeroU32::new(5));
    }

    #[test]
    fn what_is_wrong_with_a_binding_is_named() {
        refused("spiffe = \"spiffe://a/b\"", "services: names no service");
        refused("services = [\"AuditService\"]", "spiffe: is missing");
        refused(
            "spiffe = \"spiffe://a/b\"\nunix_user = 1\nservices = [\"AuditService\"]",
            "not by several",
        );
        refused(
            "spiffe = \"spiffe://a/b\"\nroles = [\"a\"]\nservices = [\"AuditService\"]",
            "not by several",
        );
        refused(
            "spiffe = \"https://a/b\"\nservices = [\"AuditService\"]",
            "does not begin with `spiffe://`",
        );
        refused(
            "unix_user = 1\nservices = [\"Authorise\"]",
            "services: `Authorise` is neither",
        );
        refused(
            "unix_user = 1\nservices = [\"AuditService\"]\nspeaks_for = [\"A B\"]",
            "speaks_for: `A B` names no principals",
        );
    }
}
