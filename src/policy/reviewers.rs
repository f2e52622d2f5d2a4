//! Everybody who could approve a request, among the stored entities.
//!
//! For notifications and to see that a quorum can be reached; it is no vote's check, which is made anew for each.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::{EntityRef, Request, Seat};

use super::eligibility::{ApproveQuestion, Eligibility};
use super::snapshot::Snapshot;

/// A person who could approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PossibleReviewer {
    /// The account that stands for the person, as [`Snapshot::person_of`] gives it.
    pub reviewer: EntityRef,
    /// The seats that one of the person's accounts is eligible for.
    pub seats: BTreeSet<Seat>,
}

impl Snapshot {
    /// Finds the stored people who may approve `asked`, each once, by name; nobody if it cannot be told who is behind the request.
    ///
    /// Evaluates the policies once or twice for each stored person and seat, so it is not for a serving thread.
    pub fn possible_reviewers(
        &self,
        asked: &Request,
        seats: &[Seat],
        is_escalated: bool,
        now: Timestamp,
    ) -> Vec<PossibleReviewer> {
        let Ok(closure) = self.requester_closure(asked) else {
            return Vec::new();
        };
        let mut persons: BTreeMap<EntityRef, BTreeSet<Seat>> = BTreeMap::new();
        for account in self.stored_people() {
            if closure.contains(&account).is_some() {
                continue;
            }
            let is_eligible = |seat: &&Seat| {
                let question = ApproveQuestion {
                    asked,
                    reviewer: &account,
                    seat,
                    is_escalated,
                    now,
                };
                matches!(self.eligibility(&question), Eligibility::Eligible { .. })
            };
            let eligible: Vec<Seat> = seats.iter().filter(is_eligible).cloned().collect();
            if !eligible.is_empty() {
                let person = self.person_of(&account);
                persons.entry(person).or_default().extend(eligible);
            }
        }
        persons
            .into_iter()
            .map(|(reviewer, seats)| PossibleReviewer { reviewer, seats })
            .collect()
    }

    fn stored_people(&self) -> impl Iterator<Item = EntityRef> {
        self.stored_entities()
            .filter(|uid| self.persons.are_people(&uid.type_name))
    }
}
