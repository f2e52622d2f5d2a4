//! Takes the entities one decision needs out of the store.
//!
//! The slice starts at principal, resource and the entities that relevant context attributes refer to, and follows the attributes
//! in the footprint as deep as the policies can look. An entity that policies could look into and that is nowhere is *missing*:
//! Cedar would answer silently false about it, so strict posture denies instead.
//! INVARIANT (closed): deciding on the slice gives what deciding on the whole store gives.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::model::EntityRef;

use super::cedar::{
    Context, Entities, Entity, EntityUID, Extensions, NoEntitiesSchema, PartialValue, TCComputation,
};
use super::convert::{from_uid, to_entity, to_uid};
use super::footprint::references_in;
use super::prepare::Prepared;
use super::snapshot::Snapshot;

/// How many entities one decision may need.
const MAX_ENTITIES: usize = 10_000;

/// The entities of one decision.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) entities: Entities,
    /// What policies could look into and is neither stored nor described, sorted.
    pub(super) missing: Vec<EntityRef>,
}

/// Collects the slice of `prepared`.
///
/// # Errors
/// A sentence, when the entities cannot be built or are too many.
pub(super) fn collect(
    snapshot: &Snapshot,
    prepared: &Prepared,
    principal: &EntityUID,
    resource: &EntityUID,
    context: &Context,
) -> Result<Slice, String> {
    let mut collector = Collector {
        snapshot,
        prepared,
        described: describe(snapshot, prepared)?,
        found: vec![Arc::clone(&prepared.action.entity)],
        seen: HashSet::from_iter([prepared.action.uid.clone()]),
        missing: Vec::new(),
        queue: VecDeque::new(),
    };
    collector.enter(principal.clone(), 0);
    collector.enter(resource.clone(), 0);
    collector.enter_context(context);
    collector.enter_literals();
    collector.run()?;
    let Collector {
        found, mut missing, ..
    } = collector;
    missing.sort();
    missing.dedup();
    let entities = Entities::new()
        .add_entities(
            found,
            None::<&NoEntitiesSchema>,
            // Stored entities were closed when they were loaded, described ones by `describe`.
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .map_err(|error| super::diagnostics::full_message(&error))?;
    Ok(Slice { entities, missing })
}

type Described = HashMap<EntityUID, Arc<Entity>>;

struct Collector<'s> {
    snapshot: &'s Snapshot,
    prepared: &'s Prepared,
    described: Described,
    found: Vec<Arc<Entity>>,
    seen: HashSet<EntityUID, foldhash::fast::RandomState>,
    missing: Vec<EntityRef>,
    queue: VecDeque<(EntityUID, u32)>,
}

impl Collector<'_> {
    fn enter(&mut self, uid: EntityUID, depth: u32) {
        if self.seen.insert(uid.clone()) {
            self.queue.push_back((uid, depth));
        }
    }

    fn enter_context(&mut self, context: &Context) {
        let Context::Value(fields) = context else {
            return;
        };
        let footprint = &self.prepared.action.footprint;
        let mut references = Vec::new();
        for (name, value) in fields.iter() {
            if footprint.whole_context || footprint.context.contains(name.as_str()) {
                references_in(value, &mut references);
            }
        }
        for uid in references {
            self.enter(uid, 0);
        }
    }

    /// Policies that passed level validation do not look into the entities they name; others may.
    fn enter_literals(&mut self) {
        if !self.snapshot.is_level_validated {
            let literals = &self.prepared.action.footprint.literals;
            for uid in literals {
                self.enter(uid.clone(), 0);
            }
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let level = self.prepared.action.footprint.level;
        while let Some((uid, depth)) = self.queue.pop_front() {
            if depth >= level {
                continue;
            }
            if self.found.len() >= MAX_ENTITIES {
                return Err(format!("deciding needs more than {MAX_ENTITIES} entities"));
            }
            match self.find(&uid) {
                Some(entity) => {
                    self.follow(&entity, depth.saturating_add(1));
                    self.check_ancestors(&entity);
                    self.found.push(entity);
                }
                None => self.note_missing(&uid),
            }
        }
        Ok(())
    }

    /// An ancestor that is nowhere could itself be in groups nobody knows of, so what the entity is in is not known.
    fn check_ancestors(&mut self, entity: &Entity) {
        if !self.prepared.action.footprint.hierarchy {
            return;
        }
        for ancestor in entity.ancestors() {
            let is_known = self.described.contains_key(ancestor)
                || self.snapshot.store.get(ancestor).is_some();
            if !is_known && !ancestor.entity_type().is_action() {
                let ancestor = from_uid(ancestor);
                if self.snapshot.types.can_be_in_groups(&ancestor.type_name) {
                    self.missing.push(ancestor);
                }
            }
        }
    }

    fn find(&self, uid: &EntityUID) -> Option<Arc<Entity>> {
        if let Some(described) = self.described.get(uid) {
            return Some(Arc::clone(described));
        }
        if let Some(stored) = self.snapshot.store.get(uid) {
            return Some(self.with_described_ancestors(stored));
        }
        self.snapshot.actions.entity(uid).map(Arc::clone)
    }

    /// A stored entity may be in one that is not stored but described; then it is also in what that one is in.
    fn with_described_ancestors(&self, stored: &Arc<Entity>) -> Arc<Entity> {
        let above = self
            .described
            .iter()
            .filter(|(uid, _)| stored.is_descendant_of(uid));
        let further: HashSet<&EntityUID> = above
            .flat_map(|(_, described)| described.ancestors())
            .filter(|uid| !stored.is_descendant_of(uid))
            .collect();
        if further.is_empty() {
            return Arc::clone(stored);
        }
        let mut entity = stored.as_ref().clone();
        for uid in further {
            entity.add_indirect_ancestor(uid.clone());
        }
        Arc::new(entity)
    }

    fn follow(&mut self, entity: &Entity, depth: u32) {
        let footprint = &self.prepared.action.footprint;
        let mut references = Vec::new();
        let attributes = entity
            .attrs()
            .filter(|(name, _)| footprint.reads_attribute(name));
        let tags = entity.tags().filter(|_| footprint.tags);
        for (_, value) in attributes.chain(tags) {
            if let PartialValue::Value(value) = value {
                references_in(value, &mut references);
            }
        }
        for uid in references {
            self.enter(uid, depth);
        }
    }

    fn note_missing(&mut self, uid: &EntityUID) {
        // Without a schema actions need no description, as in Cedar.
        let is_action = uid.entity_type().is_action();
        let uid = from_uid(uid);
        if !is_action && !self.snapshot.types.is_bare(&uid.type_name) {
            self.missing.push(uid);
        }
    }
}

/// Builds the entities that the request describes, each with all its ancestors.
fn describe(snapshot: &Snapshot, prepared: &Prepared) -> Result<Described, String> {
    let descriptions = &prepared.request.entities;
    let types = &snapshot.types;
    let mut parents: HashMap<EntityUID, HashSet<EntityUID>> =
        HashMap::with_capacity(descriptions.len());
    for description in descriptions {
        let uid = to_uid(&description.uid, types)
            .ok_or_else(|| types.unknown(&description.uid.type_name))?;
        let direct = description
            .parents
            .iter()
            .filter_map(|parent| to_uid(parent, types));
        parents.insert(uid, direct.collect());
    }
    let mut described = Described::with_capacity(descriptions.len());
    for description in descriptions {
        let uid = to_uid(&description.uid, types)
            .ok_or_else(|| types.unknown(&description.uid.type_name))?;
        let direct = parents.get(&uid).cloned().unwrap_or_default();
        let mut ancestors = ancestors_of(snapshot, &direct, &parents);
        if ancestors.contains(&uid) {
            return Err(format!("`{}` is its own ancestor", description.uid));
        }
        ancestors.retain(|ancestor| !direct.contains(ancestor));
        let entity = to_entity(description, uid.clone(), direct, ancestors, types)?;
        described.insert(uid, Arc::new(entity));
    }
    Ok(described)
}

/// Everything above `direct`, itself included: stored entities are closed already, described ones lead further.
fn ancestors_of(
    snapshot: &Snapshot,
    direct: &HashSet<EntityUID>,
    parents: &HashMap<EntityUID, HashSet<EntityUID>>,
) -> HashSet<EntityUID> {
    let mut ancestors: HashSet<EntityUID> = HashSet::new();
    // Apart from the ancestors: what a stored entity is in may be described, and must be walked all the same.
    let mut walked: HashSet<&EntityUID, foldhash::fast::RandomState> = HashSet::default();
    let mut open: Vec<&EntityUID> = direct.iter().collect();
    while let Some(uid) = open.pop() {
        if !walked.insert(uid) {
            continue;
        }
        if let Some(stored) = snapshot.store.get(uid) {
            ancestors.extend(stored.ancestors().cloned());
            open.extend(
                parents
                    .keys()
                    .filter(|known| stored.is_descendant_of(known)),
            );
        } else if let Some(further) = parents.get(uid) {
            open.extend(further);
        }
    }
    ancestors.extend(walked.into_iter().cloned());
    ancestors
}

#[cfg(test)]
mod tests {
    use crate::model::{
        DenyReason, EntityDescription, Outcome, Posture, Record, Request, ValidationMode,
    };
    use crate::policy::{Bundle, BundleFile, CompileOptions, Engine, compile};

    use super::*;

    fn file(path: &str, text: &str) -> BundleFile {
        BundleFile {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn described(uid: EntityRef, parents: &[&str]) -> EntityDescription {
        EntityDescription {
            uid,
            attributes: Record::default(),
            parents: parents
                .iter()
                .map(|id| EntityRef::new("Team", *id))
                .collect(),
        }
    }

    /// The stored team `t` is in `x`, which only the request describes; another way leads to `x` past `t`.
    #[test]
    fn an_ancestor_is_found_on_whichever_way_leads_to_it() {
        let bundle = Bundle::new([
            file(
                "a.cedar",
                r#"@id("all") permit (principal, action, resource);
                @id("not-z") forbid (principal in Team::"z", action, resource);"#,
            ),
            file(
                "entities/teams.json",
                r#"[{"uid": {"type": "Team", "id": "t"}, "attrs": {}, "parents": [{"type": "Team", "id": "x"}]}]"#,
            ),
        ]);
        let options = CompileOptions {
            validation: ValidationMode::Off,
            posture: Posture::Cedar,
            ..CompileOptions::default()
        };
        let snapshot = compile(&bundle, &options).snapshot.unwrap();
        let user = EntityRef::new("User", "u");
        let mut request = Request::new(user.clone(), "Read", user.clone(), Record::default());
        request.entities = vec![
            described(user, &["t", "y"]),
            described(EntityRef::new("Team", "y"), &["x"]),
            described(EntityRef::new("Team", "x"), &["z"]),
        ];
        // Sets are walked in another order each time.
        for _ in 0..64 {
            let prepared = snapshot.prepare(request.clone()).unwrap();
            let plan = snapshot
                .plan(&prepared, jiff::Timestamp::UNIX_EPOCH)
                .unwrap();
            let decided = plan.decide(Engine::Index);
            assert_eq!(decided.outcome, Outcome::Deny(DenyReason::Forbidden));
        }
    }
}
