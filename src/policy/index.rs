//! Finds the policies whose scope can fit a request.
//!
//! A policy is filed under one anchor: the principal or the resource it names, whichever fewer policies name, or else the pair of
//! types it asks for; within that under the actions it names. A request looks under its principal and resource, their
//! ancestors and types, with its action and the action's groups.
//!
//! Under one anchor and action, policies whose condition begins with a comparison such as `principal.department == "sales"` are
//! filed under the literal (see `literals`).
//!
//! Leaving the others out is sound: a policy whose scope is false is neither satisfied nor in error, because Cedar evaluates the
//! scope first and a scope cannot err (proved in Lean by Cedar's authors: `isAuthorized_eq_for_scope_based_policy_slice`). The
//! comparison comes next, and one that is false ends the evaluation.
//! INVARIANT (complete): every policy that is satisfied or errs is among the candidates.

use std::collections::HashMap;
use std::sync::Arc;

use super::cedar::{Context, Entity, EntityType, EntityUID};
use super::literals::Bucket;
use super::policies::{ActionScope, CompiledPolicy, Scope};

/// A type that a scope asks for; none if it asks for none.
type TypeKey = Option<Arc<EntityType>>;
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The policies under one anchor, by position in the snapshot's list.
#[derive(Debug, Default)]
struct Shelf {
    any_action: Bucket,
    by_action: Map<Arc<EntityUID>, Bucket>,
}

/// The index over one snapshot's policies.
#[derive(Debug, Default)]
pub(super) struct ScopeIndex {
    principals: Map<Arc<EntityUID>, Shelf>,
    resources: Map<Arc<EntityUID>, Shelf>,
    /// By the principal's type, then the resource's; none where the scope asks for no type.
    types: Map<TypeKey, Map<TypeKey, Shelf>>,
}

/// What a request gives the index to look with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'r> {
    pub(super) principal: Side<'r>,
    pub(super) action: &'r Entity,
    pub(super) resource: Side<'r>,
    pub(super) context: &'r Context,
}

/// One side of a request: the entity asked about, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'r> {
    pub(super) uid: &'r EntityUID,
    /// None if it is neither stored nor described; then it has no ancestors.
    pub(super) entity: Option<&'r Entity>,
}

impl<'r> Side<'r> {
    fn with_ancestors(self) -> impl Iterator<Item = &'r EntityUID> {
        std::iter::once(self.uid).chain(self.entity.into_iter().flat_map(Entity::ancestors))
    }

    fn is_in(self, group: &EntityUID) -> bool {
        self.uid == group
            || self
                .entity
                .is_some_and(|entity| entity.is_descendant_of(group))
    }
}

impl ScopeIndex {
    /// Files every policy.
    pub(super) fn build(policies: &[CompiledPolicy]) -> Self {
        let principals = popularity(policies, |policy| &policy.principal);
        let resources = popularity(policies, |policy| &policy.resource);
        let mut index = Self::default();
        for (position, policy) in policies.iter().enumerate() {
            let Ok(position) = u32::try_from(position) else {
                break;
            };
            index
                .shelf_for(policy, &principals, &resources)
                .file(position, policy);
        }
        index
    }

    fn shelf_for(
        &mut self,
        policy: &CompiledPolicy,
        principals: &Map<&EntityUID, usize>,
        resources: &Map<&EntityUID, usize>,
    ) -> &mut Shelf {
        let count = |counts: &Map<&EntityUID, usize>, uid: &Arc<EntityUID>| {
            counts.get(uid.as_ref()).copied().unwrap_or(0)
        };
        match (anchor(&policy.principal), anchor(&policy.resource)) {
            (Some(principal), Some(resource))
                if count(principals, principal) <= count(resources, resource) =>
            {
                self.principals.entry(Arc::clone(principal)).or_default()
            }
            (_, Some(resource)) => self.resources.entry(Arc::clone(resource)).or_default(),
            (Some(principal), None) => self.principals.entry(Arc::clone(principal)).or_default(),
            (None, None) => self
                .types
                .entry(type_of(&policy.principal))
                .or_default()
                .entry(type_of(&policy.resource))
                .or_default(),
        }
    }

    /// The positions of the policies whose scope fits, in no order, each once.
    pub(super) fn candidates(
        &self,
        policies: &[CompiledPolicy],
        question: &Question<'_>,
    ) -> Vec<u32> {
        let Question {
            principal,
            action,
            resource,
            ..
        } = *question;
        let mut found = Vec::new();
        for (shelves, side) in [(&self.principals, principal), (&self.resources, resource)] {
            if shelves.is_empty() {
                continue;
            }
            for uid in side.with_ancestors() {
                if let Some(shelf) = shelves.get(uid) {
                    shelf.collect(question, &mut found);
                }
            }
        }
        // The types are looked up by value; the two clones are of a name, which is shared.
        let principal_type = Some(Arc::new(principal.uid.entity_type().clone()));
        let resource_type = Some(Arc::new(resource.uid.entity_type().clone()));
        for by_resource_type in [&None, &principal_type]
            .into_iter()
            .filter_map(|key| self.types.get(key))
        {
            for shelf in [&None, &resource_type]
                .into_iter()
                .filter_map(|key| by_resource_type.get(key))
            {
                shelf.collect(question, &mut found);
            }
        }
        found.retain(|position| {
            usize::try_from(*position)
                .ok()
                .and_then(|position| policies.get(position))
                .is_some_and(|policy| fits(policy, principal, action, resource))
        });
        // A policy that names an action and a group it is in was filed under both.
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Shelf {
    fn file(&mut self, position: u32, policy: &CompiledPolicy) {
        let mut file_under = |uid: &Arc<EntityUID>| {
            let bucket = self.by_action.entry(Arc::clone(uid)).or_default();
            bucket.file(position, policy.condition.as_deref());
        };
        match &policy.action {
            ActionScope::Any => self.any_action.file(position, policy.condition.as_deref()),
            ActionScope::Eq(uid) => file_under(uid),
            ActionScope::In(uids) => uids.iter().for_each(file_under),
        }
    }

    fn collect(&self, question: &Question<'_>, found: &mut Vec<u32>) {
        self.any_action.collect(question, found);
        if self.by_action.is_empty() {
            return;
        }
        let action = question.action;
        for uid in std::iter::once(action.uid()).chain(action.ancestors()) {
            if let Some(bucket) = self.by_action.get(uid) {
                bucket.collect(question, found);
            }
        }
    }
}

/// Whether the whole scope of `policy` fits.
pub(super) fn fits(
    policy: &CompiledPolicy,
    principal: Side<'_>,
    action: &Entity,
    resource: Side<'_>,
) -> bool {
    side_fits(&policy.principal, principal)
        && action_fits(&policy.action, action)
        && side_fits(&policy.resource, resource)
}

/// Whether one side of a scope fits.
pub(super) fn side_fits(scope: &Scope, side: Side<'_>) -> bool {
    match scope {
        Scope::Any => true,
        Scope::Eq(uid) => uid.as_ref() == side.uid,
        Scope::In(uid) => side.is_in(uid),
        Scope::Is(entity_type) => entity_type.as_ref() == side.uid.entity_type(),
        Scope::IsIn(entity_type, uid) => {
            entity_type.as_ref() == side.uid.entity_type() && side.is_in(uid)
        }
    }
}

/// Whether the action's part of a scope fits.
pub(super) fn action_fits(scope: &ActionScope, action: &Entity) -> bool {
    match scope {
        ActionScope::Any => true,
        ActionScope::Eq(uid) => uid.as_ref() == action.uid(),
        ActionScope::In(uids) => uids
            .iter()
            .any(|uid| uid.as_ref() == action.uid() || action.is_descendant_of(uid)),
    }
}

fn anchor(scope: &Scope) -> Option<&Arc<EntityUID>> {
    match scope {
        Scope::Eq(uid) | Scope::In(uid) | Scope::IsIn(_, uid) => Some(uid),
        Scope::Any | Scope::Is(_) => None,
    }
}

fn type_of(scope: &Scope) -> Option<Arc<EntityType>> {
    match scope {
        Scope::Is(entity_type) | Scope::IsIn(entity_type, _) => Some(Arc::clone(entity_type)),
        Scope::Any | Scope::Eq(_) | Scope::In(_) => None,
    }
}

fn popularity(
    policies: &[CompiledPolicy],
    side: impl Fn(&CompiledPolicy) -> &Scope,
) -> Map<&EntityUID, usize> {
    let mut counts: Map<&EntityUID, usize> = Map::default();
    for uid in policies.iter().filter_map(|policy| anchor(side(policy))) {
        let count = counts.entry(uid.as_ref()).or_default();
        *count = count.saturating_add(1);
    }
    counts
}
