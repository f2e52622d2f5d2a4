//! Who may never approve a request, whatever the policies say: whoever asks for it, and everybody behind them.
//!
//! INVARIANT (no self-approval): the requester, those on whose behalf it acts, the owners of all of these and every account of the
//! same persons are members. What cannot be read for certain is an error, and then nobody may approve.
//! Never: a policy's say. These are floors.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::model::{EntityRef, Request, RequestProblem};

use super::cedar::Entity;
use super::convert::{as_references, from_uid, to_entity, to_uid};
use super::persons::Links;
use super::prepare::check_descriptions;
use super::snapshot::Snapshot;

/// Why somebody may not approve a request. Its text goes on from the member's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ClosureReason {
    /// It made the request.
    #[error("made the request")]
    Requester,
    /// The request is made on its behalf.
    #[error("is whom the request is made on behalf of")]
    OnBehalfOf,
    /// It answers for another member.
    #[error("owns the agent `{0}`")]
    OwnerOf(EntityRef),
    /// It is another account of the same person as another member.
    #[error("is the same person as `{0}`")]
    SamePersonAs(EntityRef),
}

/// Why it cannot be told who may not approve; then nobody may.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClosureProblem {
    /// An identity has an empty id, which could be anybody's.
    #[error("`{entity}` has an empty id, so nobody may approve")]
    EmptyId {
        /// Which identity.
        entity: EntityRef,
    },
    /// An identity has a type or id that cannot exist.
    #[error("`{entity}` cannot exist, so nobody may approve: {message}")]
    Impossible {
        /// Which identity.
        entity: EntityRef,
        /// What is wrong with it.
        message: String,
    },
    /// An identity is neither stored nor described, so its owners are not known.
    #[error("`{entity}` is neither stored nor described, so nobody may approve")]
    Missing {
        /// Which identity.
        entity: EntityRef,
    },
    /// An attribute that the schema requires is not there.
    #[error("`{entity}` has no `{attribute}`, so nobody may approve")]
    AttributeMissing {
        /// Whose attribute.
        entity: EntityRef,
        /// Its name.
        attribute: String,
    },
    /// An attribute that names owners or accounts holds something else.
    #[error(
        "`{attribute}` of `{entity}` is neither an entity nor a set of entities, so nobody may approve"
    )]
    NotAReference {
        /// Whose attribute.
        entity: EntityRef,
        /// Its name.
        attribute: String,
    },
    /// What the request describes cannot be read.
    #[error("what the request describes cannot be read, so nobody may approve")]
    Description(#[source] RequestProblem),
}

/// The persons and agents who may never approve one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequesterClosure {
    /// Each with the first reason found.
    pub members: BTreeMap<EntityRef, ClosureReason>,
}

impl RequesterClosure {
    /// Why `reviewer` may not approve; none if it is not a member.
    pub fn contains(&self, reviewer: &EntityRef) -> Option<&ClosureReason> {
        self.members.get(reviewer)
    }
}

impl Snapshot {
    /// Finds everybody who may never approve `asked`.
    ///
    /// Owners are followed through as many agents as there are, and accounts through all links, those that the request describes
    /// included.
    ///
    /// # Errors
    /// The first identity that cannot be read; then nobody may approve.
    pub fn requester_closure(&self, asked: &Request) -> Result<RequesterClosure, ClosureProblem> {
        let mut search = Search {
            snapshot: self,
            described: self.described(asked)?,
            links: Links::new(),
            members: BTreeMap::new(),
            open: VecDeque::new(),
        };
        search.note_described_links()?;
        search.add(&asked.principal, ClosureReason::Requester)?;
        for person in &asked.on_behalf_of {
            search.add(person, ClosureReason::OnBehalfOf)?;
        }
        while let Some(uid) = search.open.pop_front() {
            search.follow_owners(&uid)?;
            search.follow_accounts(&uid)?;
        }
        Ok(RequesterClosure {
            members: search.members,
        })
    }

    fn described(
        &self,
        asked: &Request,
    ) -> Result<HashMap<EntityRef, Arc<Entity>>, ClosureProblem> {
        if asked.entities.is_empty() {
            return Ok(HashMap::new());
        }
        let mut checked = asked.clone();
        check_descriptions(self, &mut checked).map_err(ClosureProblem::Description)?;
        let mut described = HashMap::with_capacity(checked.entities.len());
        for description in &checked.entities {
            let impossible = |message| ClosureProblem::Impossible {
                entity: description.uid.clone(),
                message,
            };
            let uid = to_uid(&description.uid, &self.types)
                .ok_or_else(|| impossible(self.types.unknown(&description.uid.type_name)))?;
            let name = from_uid(&uid);
            let (no_parents, no_ancestors) = (HashSet::new(), HashSet::new());
            let entity = to_entity(description, uid, no_parents, no_ancestors, &self.types)
                .map_err(impossible)?;
            described.insert(name, Arc::new(entity));
        }
        Ok(described)
    }
}

struct Search<'s> {
    snapshot: &'s Snapshot,
    described: HashMap<EntityRef, Arc<Entity>>,
    /// Between accounts, as far as the request describes them.
    links: Links,
    members: BTreeMap<EntityRef, ClosureReason>,
    /// Members whose owners and accounts are still to be found.
    open: VecDeque<EntityRef>,
}

impl Search<'_> {
    fn note_described_links(&mut self) -> Result<(), ClosureProblem> {
        for (uid, entity) in &self.described {
            let persons = &self.snapshot.persons;
            persons
                .note_links(entity, &mut self.links)
                .map_err(|attribute| ClosureProblem::NotAReference {
                    entity: uid.clone(),
                    attribute,
                })?;
        }
        Ok(())
    }

    /// Adds a member under the one spelling of its name that Cedar would give it.
    fn add(&mut self, member: &EntityRef, reason: ClosureReason) -> Result<(), ClosureProblem> {
        if member.id.is_empty() {
            let entity = member.clone();
            return Err(ClosureProblem::EmptyId { entity });
        }
        let types = &self.snapshot.types;
        let impossible = |message| ClosureProblem::Impossible {
            entity: member.clone(),
            message,
        };
        types.check_reference(member).map_err(impossible)?;
        let uid =
            to_uid(member, types).ok_or_else(|| impossible(types.unknown(&member.type_name)))?;
        let uid = from_uid(&uid);
        if !self.members.contains_key(&uid) {
            self.members.insert(uid.clone(), reason);
            self.open.push_back(uid);
        }
        Ok(())
    }

    fn follow_owners(&mut self, uid: &EntityRef) -> Result<(), ClosureProblem> {
        let Some(entity) = self.find(uid)? else {
            return Ok(());
        };
        let shape = self.snapshot.types.get(&uid.type_name);
        for attribute in &self.snapshot.owner_attributes {
            let Some(value) = entity.get(attribute) else {
                let is_required = shape
                    .and_then(|info| info.shape.get(attribute))
                    .is_some_and(|declared| declared.required);
                if is_required {
                    return Err(ClosureProblem::AttributeMissing {
                        entity: uid.clone(),
                        attribute: attribute.clone(),
                    });
                }
                continue;
            };
            let owners = as_references(value).ok_or_else(|| ClosureProblem::NotAReference {
                entity: uid.clone(),
                attribute: attribute.clone(),
            })?;
            for owner in owners {
                self.add(&owner, ClosureReason::OwnerOf(uid.clone()))?;
            }
        }
        Ok(())
    }

    fn follow_accounts(&mut self, uid: &EntityRef) -> Result<(), ClosureProblem> {
        let stored = self.snapshot.persons.accounts_of(uid);
        let described = self.links.get(uid).into_iter().flatten();
        let accounts: Vec<EntityRef> = stored.chain(described).cloned().collect();
        for account in accounts {
            self.add(&account, ClosureReason::SamePersonAs(uid.clone()))?;
        }
        Ok(())
    }

    /// What is known of `uid`; nothing if its type holds nothing to know.
    fn find(&self, uid: &EntityRef) -> Result<Option<Arc<Entity>>, ClosureProblem> {
        if let Some(described) = self.described.get(uid) {
            return Ok(Some(Arc::clone(described)));
        }
        let types = &self.snapshot.types;
        let stored = to_uid(uid, types).and_then(|uid| self.snapshot.store.get(&uid).cloned());
        match stored {
            Some(entity) => Ok(Some(entity)),
            None if types.is_bare(&uid.type_name) => Ok(None),
            None => Err(ClosureProblem::Missing {
                entity: uid.clone(),
            }),
        }
    }
}
