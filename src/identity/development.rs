//! Logins for development: whoever says a name is believed.

use crate::approval::Person;

/// What such a credential begins with.
const PREFIX: &str = "development:";

/// Believes every name. For loopback and for trying things out; the configuration keeps it there.
#[derive(Clone, Copy, Debug)]
pub struct DevelopmentLogins;

/// A credential that is no development login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoDevelopmentLogin;

impl DevelopmentLogins {
    /// Who is said to have named the person: nobody real, so no vote can be taken for a real one later.
    pub const ISSUER: &'static str = "development";

    /// The credential of the person called `name`.
    pub fn token(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// The person that `token` names.
    pub(super) fn person(token: &str) -> Result<Person, NoDevelopmentLogin> {
        let name = token.strip_prefix(PREFIX).map(str::trim);
        let name = name.filter(|name| !name.is_empty());
        let subject = name.ok_or(NoDevelopmentLogin)?.to_owned();
        Ok(Person {
            issuer: Self::ISSUER.to_owned(),
            subject,
        })
    }
}
