//! Which account of the policies a signed-in person has.

use std::collections::BTreeSet;

use crate::approval::{Person, Voter};
use crate::model::EntityRef;
use crate::policy::Snapshot;

/// Leads from persons to the accounts that policies know them by.
#[derive(Clone, Debug)]
pub struct Directory {
    reviewer_type: String,
    /// Issuers whose word counts no more.
    disbelieved: BTreeSet<String>,
}

impl Directory {
    /// People have accounts of the type `reviewer_type`, whose ids are the subjects that identity providers name.
    pub fn new(reviewer_type: impl Into<String>) -> Self {
        Self {
            reviewer_type: reviewer_type.into(),
            disbelieved: BTreeSet::new(),
        }
    }

    /// The same, where nobody counts whom `issuer` named: votes that were cast on its word are void.
    #[must_use]
    pub fn disbelieving(mut self, issuer: impl Into<String>) -> Self {
        self.disbelieved.insert(issuer.into());
        self
    }

    /// Whether `person` is still who they were said to be.
    pub(super) fn believes(&self, person: &Person) -> bool {
        !self.disbelieved.contains(&person.issuer)
    }

    /// The account of `person`.
    pub fn account_of(&self, person: &Person) -> EntityRef {
        EntityRef::new(self.reviewer_type.clone(), person.subject.clone())
    }

    /// `person` as the voter that `snapshot` knows.
    pub(super) fn voter(&self, snapshot: &Snapshot, person: &Person, channel: &str) -> Voter {
        let account = self.account_of(person);
        Voter {
            canonical: snapshot.person_of(&account),
            account,
            person: person.clone(),
            channel: channel.to_owned(),
        }
    }
}
