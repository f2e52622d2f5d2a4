//! The actions a snapshot knows, each with all that a request for it needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::model::{RequestFault, RequestProblem};

use super::cedar::{Entity, EntityType, EntityUID, ValidatorSchema};
use super::entities::EntityStore;
use super::footprint::Footprint;
use super::policies::{ActionScope, CompiledPolicy};
use super::schema::Schema;
use super::shape::ContextShape;

/// The context attribute that the server supplies when the schema declares it as a datetime and the caller leaves it out.
pub(super) const CLOCK_ATTRIBUTE: &str = "now";

/// One action.
#[derive(Debug)]
pub(super) struct ActionInfo {
    pub(super) uid: EntityUID,
    /// The UID as text, `Ns::Action::"Deploy"`.
    pub(super) name: String,
    /// The action's short name, unique or not.
    pub(super) id: String,
    /// The action with the groups it is in.
    pub(super) entity: Arc<Entity>,
    /// What the schema declares; none without a schema.
    pub(super) declared: Option<Declared>,
    /// What the policies that apply to the action can read.
    pub(super) footprint: Footprint,
}

/// What the schema declares of an action.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) context: ContextShape,
    /// The types it applies to; few, so they are looked through.
    pub(super) principals: Vec<String>,
    pub(super) resources: Vec<String>,
    /// Whether the context has a `now` that the server can supply.
    pub(super) has_clock: bool,
}

impl ActionInfo {
    /// Whether the context has a `now` that the server can supply.
    pub(super) fn has_clock(&self) -> bool {
        self.declared
            .as_ref()
            .is_some_and(|declared| declared.has_clock)
    }

    /// Whether an applicable policy can read the server's clock.
    pub(super) fn reads_clock(&self) -> bool {
        self.has_clock()
            && (self.footprint.whole_context || self.footprint.context.contains(CLOCK_ATTRIBUTE))
    }
}

/// Every action by each of its names.
#[derive(Debug)]
pub(super) struct ActionTable {
    by_name: HashMap<String, Named, foldhash::fast::RandomState>,
    /// For an action that no schema declares: what any policy can read.
    undeclared: Option<Footprint>,
}

#[derive(Debug)]
enum Named {
    One(Arc<ActionInfo>),
    /// A short name that several namespaces use: their full names.
    Several(Vec<String>),
}

impl ActionTable {
    /// Works out every action's footprint.
    pub(super) fn compile(schema: Option<&Schema>, policies: &[CompiledPolicy]) -> Self {
        let parts: Vec<Footprint> = policies.iter().map(part_of).collect();
        let Some(schema) = schema else {
            return Self {
                by_name: HashMap::default(),
                undeclared: Some(union(policies, &parts, |_| true)),
            };
        };
        let mut table = Self {
            by_name: HashMap::default(),
            undeclared: None,
        };
        let Ok(entities) = schema.validator.action_entities() else {
            return table;
        };
        for entity in entities.iter() {
            let groups: HashSet<&EntityUID> = entity.ancestors().chain([entity.uid()]).collect();
            let footprint = union(policies, &parts, |scope| {
                applies(scope, entity.uid(), &groups)
            });
            table.insert(Arc::new(ActionInfo {
                uid: entity.uid().clone(),
                name: entity.uid().to_string(),
                id: AsRef::<str>::as_ref(entity.uid().eid()).to_owned(),
                entity: Arc::new(entity.clone()),
                declared: declared(&schema.validator, entity.uid()),
                footprint,
            }));
        }
        table
    }

    fn insert(&mut self, info: Arc<ActionInfo>) {
        let full_name = info.name.clone();
        let short = Named::One(Arc::clone(&info));
        match self.by_name.remove(&info.id) {
            None => self.by_name.insert(info.id.clone(), short),
            Some(Named::One(other)) => {
                let names = vec![other.name.clone(), full_name.clone()];
                self.by_name.insert(info.id.clone(), Named::Several(names))
            }
            Some(Named::Several(mut names)) => {
                names.push(full_name.clone());
                self.by_name.insert(info.id.clone(), Named::Several(names))
            }
        };
        self.by_name.insert(full_name, Named::One(info));
    }

    /// Finds the action that a request names, by short name or full UID.
    ///
    /// # Errors
    /// When the schema has no such action, or the short name is not enough.
    pub(super) fn find(
        &self,
        name: &str,
        store: &EntityStore,
    ) -> Result<Arc<ActionInfo>, RequestProblem> {
        match self.by_name.get(name) {
            Some(Named::One(info)) => return Ok(Arc::clone(info)),
            Some(Named::Several(names)) => {
                let message = format!(
                    "`{name}` is the name of several actions: write one of {}",
                    names.join(", ")
                );
                return Err(RequestProblem::new(
                    RequestFault::UnknownAction,
                    "action",
                    message,
                ));
            }
            None => {}
        }
        let uid = parse(name).ok_or_else(|| self.unknown(name))?;
        // A UID can be written in several ways, with escapes; the table has the plain one.
        match (self.by_name.get(&uid.to_string()), &self.undeclared) {
            (Some(Named::One(info)), _) => Ok(Arc::clone(info)),
            (_, Some(footprint)) => Ok(Arc::new(undeclared(uid, footprint, store))),
            (_, None) => Err(self.unknown(name)),
        }
    }

    /// The entity of the declared action `uid`.
    pub(super) fn entity(&self, uid: &EntityUID) -> Option<&Arc<Entity>> {
        let is_declared = uid.entity_type().is_action() && !self.by_name.is_empty();
        let name = is_declared.then(|| uid.to_string())?;
        match self.by_name.get(&name)? {
            Named::One(info) if info.name == name => Some(&info.entity),
            Named::One(_) | Named::Several(_) => None,
        }
    }

    /// The actions with their footprints, for reports; each once.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<ActionInfo>> {
        self.by_name.iter().filter_map(|(name, named)| match named {
            Named::One(info) if *name == info.name => Some(info),
            Named::One(_) | Named::Several(_) => None,
        })
    }

    fn unknown(&self, name: &str) -> RequestProblem {
        let nearest = self
            .by_name
            .keys()
            .map(|known| (strsim::osa_distance(known, name), known))
            .filter(|(distance, _)| *distance <= 3)
            .min();
        let message = match nearest {
            Some((_, nearest)) => {
                format!("the schema has no action `{name}`; did you mean `{nearest}`?")
            }
            None => format!("the schema has no action `{name}`"),
        };
        RequestProblem::new(RequestFault::UnknownAction, "action", message)
    }
}

/// Reads `Ns::Action::"Deploy"`, or the bare name of an action in the default namespace.
fn parse(name: &str) -> Option<EntityUID> {
    if let Ok(uid) = name.parse::<EntityUID>() {
        return uid.entity_type().is_action().then_some(uid);
    }
    let is_plain = !name.is_empty() && !name.contains("::") && !name.contains('"');
    is_plain
        .then(|| EntityUID::with_eid_and_type("Action", name).ok())
        .flatten()
}

fn undeclared(uid: EntityUID, footprint: &Footprint, store: &EntityStore) -> ActionInfo {
    let entity = store
        .get(&uid)
        .map_or_else(|| Arc::new(Entity::with_uid(uid.clone())), Arc::clone);
    ActionInfo {
        name: uid.to_string(),
        id: AsRef::<str>::as_ref(uid.eid()).to_owned(),
        entity,
        declared: None,
        footprint: footprint.clone(),
        uid,
    }
}

fn declared(schema: &ValidatorSchema, uid: &EntityUID) -> Option<Declared> {
    let action = schema.get_action_id(uid)?;
    let context = ContextShape::compile(action.context_type());
    Some(Declared {
        has_clock: context
            .0
            .get(CLOCK_ATTRIBUTE)
            .is_some_and(|attribute| attribute.shape.is_extension("datetime")),
        context,
        principals: sorted_names(action.applies_to_principals()),
        resources: sorted_names(action.applies_to_resources()),
    })
}

fn sorted_names<'t>(types: impl Iterator<Item = &'t EntityType>) -> Vec<String> {
    let names: BTreeSet<String> = types.map(ToString::to_string).collect();
    names.into_iter().collect()
}

/// What one policy can read: its condition, and the hierarchy if its scope tests it.
fn part_of(policy: &CompiledPolicy) -> Footprint {
    let mut part = policy
        .condition
        .as_deref()
        .map(Footprint::of)
        .unwrap_or_default();
    if policy.principal.uses_hierarchy() || policy.resource.uses_hierarchy() {
        part.hierarchy = true;
        part.look_into(0);
    }
    part
}

fn union(
    policies: &[CompiledPolicy],
    parts: &[Footprint],
    keep: impl Fn(&ActionScope) -> bool,
) -> Footprint {
    let mut footprint = Footprint::default();
    for (policy, part) in policies.iter().zip(parts) {
        if keep(&policy.action) {
            footprint.merge(part);
        }
    }
    footprint
}

fn applies(scope: &ActionScope, action: &EntityUID, groups: &HashSet<&EntityUID>) -> bool {
    match scope {
        ActionScope::Any => true,
        ActionScope::Eq(uid) => uid.as_ref() == action,
        ActionScope::In(uids) => uids.iter().any(|uid| groups.contains(uid.as_ref())),
    }
}
