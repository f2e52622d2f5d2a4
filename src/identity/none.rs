//! Where nobody can sign in.

use crate::approval::Person;
use crate::usecase::ports::{Credentials, UnknownCredential};

/// Knows nobody: no way of signing in is configured.
#[derive(Clone, Copy, Debug)]
pub struct NoLogins;

impl Credentials for NoLogins {
    fn person(&self, _token: &str) -> Result<Person, UnknownCredential> {
        Err(UnknownCredential(
            "nobody can sign in here: set `identity.development_logins` for trying things out on loopback".to_owned(),
        ))
    }
}
