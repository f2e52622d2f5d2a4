//! Which accounts belong to the same person, as the stored entities say.
//!
//! An account names others of its person in a link attribute. The relation goes both ways and on: where one of two accounts names
//! the other, both are the same person, and so is every account that either is linked to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{EntityRef, PolicyProblem};

use super::cedar::Entity;
use super::compile::CompileOptions;
use super::convert::{as_references, from_uid};
use super::entities::EntityStore;
use super::snapshot::Snapshot;

/// Accounts, each with those that it is linked to, in both directions.
pub(super) type Links = BTreeMap<EntityRef, BTreeSet<EntityRef>>;

/// The people among the stored entities.
#[derive(Debug, Default)]
pub(super) struct Persons {
    reviewer_types: BTreeSet<String>,
    link_attributes: Vec<String>,
    /// For each linked account, the smallest account of its person.
    smallest: HashMap<EntityRef, EntityRef, foldhash::fast::RandomState>,
    /// By that smallest account, all of the person's.
    groups: Links,
}

impl Persons {
    /// Groups the accounts in `store`. A link that cannot be read is a problem: whom it means is not known, so everybody could be.
    pub(super) fn of(
        store: &EntityStore,
        options: &CompileOptions,
        problems: &mut Vec<PolicyProblem>,
    ) -> Self {
        let mut persons = Self {
            reviewer_types: options.reviewer_types.iter().cloned().collect(),
            link_attributes: options.link_attributes.clone(),
            ..Self::default()
        };
        let mut links = Links::new();
        for entity in store.iter() {
            if let Err(attribute) = persons.note_links(entity, &mut links) {
                let message = format!(
                    "`{attribute}` of `{}` is neither an entity nor a set of entities",
                    entity.uid()
                );
                problems.push(PolicyProblem::error("entities", message).with_help(
                    "the attribute names other accounts of the same person (`policy.link_attributes`)",
                ));
            }
        }
        persons.group(&links);
        persons
    }

    /// Whether entities of this type are people who may review.
    pub(super) fn are_people(&self, type_name: &str) -> bool {
        self.reviewer_types.contains(type_name)
    }

    /// Adds what `account` is linked to, if it is a person's.
    ///
    /// # Errors
    /// The attribute whose value names no entities.
    pub(super) fn note_links(&self, account: &Entity, links: &mut Links) -> Result<(), String> {
        let uid = from_uid(account.uid());
        if !self.are_people(&uid.type_name) {
            return Ok(());
        }
        for attribute in &self.link_attributes {
            let Some(value) = account.get(attribute) else {
                continue;
            };
            for other in as_references(value).ok_or_else(|| attribute.clone())? {
                links.entry(other.clone()).or_default().insert(uid.clone());
                links.entry(uid.clone()).or_default().insert(other);
            }
        }
        Ok(())
    }

    /// The accounts of the person whose account `account` is, itself included; none if it is linked to none.
    pub(super) fn accounts_of(&self, account: &EntityRef) -> impl Iterator<Item = &EntityRef> {
        let group = self
            .smallest
            .get(account)
            .and_then(|smallest| self.groups.get(smallest));
        group.into_iter().flatten()
    }

    /// Finds the parts of `links` that hang together. They are walked in order, so each is met first at its smallest account.
    fn group(&mut self, links: &Links) {
        for first in links.keys() {
            if self.smallest.contains_key(first) {
                continue;
            }
            let mut group = BTreeSet::new();
            let mut open = vec![first];
            while let Some(account) = open.pop() {
                if group.insert(account.clone()) {
                    self.smallest.insert(account.clone(), first.clone());
                    open.extend(links.get(account).into_iter().flatten());
                }
            }
            self.groups.insert(first.clone(), group);
        }
    }
}

impl Snapshot {
    /// The one account that stands for the person whose account this is: the smallest of those that the store links.
    pub fn person_of(&self, account: &EntityRef) -> EntityRef {
        let smallest = self.persons.smallest.get(account);
        smallest.unwrap_or(account).clone()
    }

    /// Whether the store says that two accounts are the same person's.
    pub fn is_same_person(&self, one: &EntityRef, other: &EntityRef) -> bool {
        let smallest = |account| self.persons.smallest.get(account).unwrap_or(account);
        smallest(one) == smallest(other)
    }
}
