//! Logins for development: whoever says a name is believed.

use crate::approval::Person;
use crate::usecase::ports::{Credentials, UnknownCredential};

/// What such a credential begins with.
const PREFIX: &str = "development:";
/// Who is said to have named the person: nobody real, so no vote can be taken for a real one later.
const ISSUER: &str = "development";

/// Believes every name. For loopback and for trying things out; the configuration keeps it there.
#[derive(Clone, Copy, Debug)]
pub struct DevelopmentLogins;

impl DevelopmentLogins {
    /// The credential of the person called `name`.
    pub fn token(name: &str) -> String {
        format!("{PREFIX}{name}")
    }
}

impl Credentials for DevelopmentLogins {
    fn person(&self, token: &str) -> Result<Person, UnknownCredential> {
        match token.strip_prefix(PREFIX).map(str::trim) {
            Some(name) if !name.is_empty() => Ok(Person {
                issuer: ISSUER.to_owned(),
                subject: name.to_owned(),
            }),
            Some(_) | None => Err(UnknownCredential(
                "the credential is not a development login, `development:NAME`".to_owned(),
            )),
        }
    }
}
