//! Policies, taken apart for the index.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{Effect, Rule};

use super::cedar::{
    ActionConstraint, EntityReference, EntityType, EntityUID, Expr, Policy, PolicyID, PolicySet,
    PrincipalOrResourceConstraint,
};

/// What a scope asks of principal or resource.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    Any,
    Eq(Arc<EntityUID>),
    In(Arc<EntityUID>),
    Is(Arc<EntityType>),
    IsIn(Arc<EntityType>, Arc<EntityUID>),
}

impl Scope {
    /// None if a template's slot is still open, which a linked policy's never is.
    pub(super) fn of(constraint: PrincipalOrResourceConstraint) -> Option<Self> {
        let filled = |reference| match reference {
            EntityReference::EUID(uid) => Some(uid),
            EntityReference::Slot(_) => None,
        };
        Some(match constraint {
            PrincipalOrResourceConstraint::Any => Self::Any,
            PrincipalOrResourceConstraint::Eq(reference) => Self::Eq(filled(reference)?),
            PrincipalOrResourceConstraint::In(reference) => Self::In(filled(reference)?),
            PrincipalOrResourceConstraint::Is(entity_type) => Self::Is(entity_type),
            PrincipalOrResourceConstraint::IsIn(entity_type, reference) => {
                Self::IsIn(entity_type, filled(reference)?)
            }
        })
    }

    /// Whether it tests the hierarchy.
    pub(super) fn uses_hierarchy(&self) -> bool {
        matches!(self, Self::In(_) | Self::IsIn(..))
    }
}

/// What a scope asks of the action.
#[derive(Clone, Debug)]
pub(super) enum ActionScope {
    Any,
    Eq(Arc<EntityUID>),
    In(Vec<Arc<EntityUID>>),
}

impl ActionScope {
    pub(super) fn of(constraint: &ActionConstraint) -> Self {
        match constraint {
            ActionConstraint::Any => Self::Any,
            ActionConstraint::Eq(uid) => Self::Eq(Arc::clone(uid)),
            ActionConstraint::In(uids) => Self::In(uids.clone()),
        }
    }

    /// Whether it names `action` itself, and not merely a group that it is in.
    pub(super) fn names(&self, action: &EntityUID) -> bool {
        match self {
            Self::Any => false,
            Self::Eq(uid) => uid.as_ref() == action,
            Self::In(uids) => uids.iter().any(|uid| uid.as_ref() == action),
        }
    }
}

/// A policy, taken apart for the index.
#[derive(Clone, Debug)]
pub(super) struct CompiledPolicy {
    pub(super) id: String,
    pub(super) effect: Effect,
    pub(super) principal: Scope,
    pub(super) action: ActionScope,
    pub(super) resource: Scope,
    pub(super) condition: Option<Arc<Expr>>,
    pub(super) annotations: Arc<BTreeMap<String, String>>,
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) file: Arc<str>,
    /// Where it begins, from 1.
    pub(super) line: u32,
    /// Cedar's own form, for the reference engine.
    pub(super) cedar: Policy,
}

impl CompiledPolicy {
    /// Whether its scope names neither an entity nor a type, so that no index can narrow it.
    pub(super) fn is_open(&self) -> bool {
        matches!((&self.principal, &self.resource), (Scope::Any, Scope::Any))
    }

    /// Where it stands, `file:line`.
    pub(super) fn location(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// All policies of a bundle.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub(super) compiled: Vec<CompiledPolicy>,
    /// The same, with templates, for the validator.
    pub(super) set: PolicySet,
    /// The file each policy or template stands in, by id.
    pub(super) files: HashMap<PolicyID, Arc<str>>,
}
