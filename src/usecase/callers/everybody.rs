//! Where nobody is asked who they are.

use std::sync::Arc;

use crate::usecase::ports::{Authentication, NotAuthenticated, Peer, PortFuture};

use super::binding::{Binding, CallerFacts};
use super::identity::Identity;

/// Lets everybody call everything for everybody, and knows nobody's name.
#[derive(Clone, Debug)]
pub struct Everybody(Arc<Identity>);

impl Default for Everybody {
    fn default() -> Self {
        let bindings = [Arc::new(Binding::for_everybody())];
        let nobody = (String::new(), 0);
        Self(Arc::new(Identity::new(
            nobody,
            CallerFacts::Unknown,
            &bindings,
        )))
    }
}

impl Authentication for Everybody {
    fn peer(&self, _: &Peer) -> Arc<Identity> {
        Arc::clone(&self.0)
    }

    fn known(&self, _: &str) -> Option<Arc<Identity>> {
        None
    }

    fn verify<'a>(&'a self, _: &'a str) -> PortFuture<'a, Result<Arc<Identity>, NotAuthenticated>> {
        Box::pin(async {
            let message = "nobody can sign in here".to_owned();
            Err(NotAuthenticated::BadCredential(message))
        })
    }
}
