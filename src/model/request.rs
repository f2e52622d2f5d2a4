//! A request, as asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EntityDescription, EntityRef, Record, TraceContext};

/// Whether a request may have effects beyond its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The caller will act on the answer.
    #[default]
    Enforce,
    /// A dry run: nothing is opened, joined or redeemed.
    Check,
}

/// Asks whether `principal` may do `action` on `resource` in `context`.
///
/// Within [`super::RequestLimits`]; whether the words fit the schema is for the snapshot to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The authenticated service on the connection; empty if callers are not authenticated.
    pub caller: String,
    /// Who wants to act.
    pub principal: EntityRef,
    /// What they want to do: a short name or a full Cedar UID.
    pub action: String,
    /// What they want to act on.
    pub resource: EntityRef,
    /// The circumstances.
    pub context: Record,
    /// Entities described by the caller, principal and resource among them if they are.
    pub entities: Vec<EntityDescription>,
    /// On whose behalf the principal acts, nearest first.
    pub on_behalf_of: Vec<EntityRef>,
    /// Whether the caller will act on the answer.
    pub mode: Mode,
    /// An approval to redeem for this very request.
    pub approval_id: Option<String>,
    /// The caller's idempotency key.
    pub request_id: Option<String>,
    /// Why the action is wanted, in the requester's own, unverified words.
    pub justification: Option<String>,
    /// The policy version the caller has seen.
    pub min_policy_version: Option<String>,
    /// Copied to the log, never read by policies.
    pub labels: BTreeMap<String, String>,
    /// Whether the caller's credential says for whom it acts; otherwise `on_behalf_of` is the caller's word.
    #[serde(default)]
    pub is_chain_verified: bool,
    /// The span that the call was made from. Part of the call, not of what is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl Request {
    /// About how many bytes it takes in memory.
    pub fn approximate_bytes(&self) -> usize {
        let names = [&self.principal, &self.resource].map(EntityRef::approximate_bytes);
        let entities = self
            .entities
            .iter()
            .map(EntityDescription::approximate_bytes);
        names
            .into_iter()
            .chain(entities)
            .chain([
                self.action.len(),
                self.context.approximate_bytes(),
                size_of::<Self>(),
            ])
            .fold(0, usize::saturating_add)
    }

    /// A request with nothing but the four words policies read.
    pub fn new(
        principal: EntityRef,
        action: impl Into<String>,
        resource: EntityRef,
        context: Record,
    ) -> Self {
        Self {
            caller: String::new(),
            principal,
            action: action.into(),
            resource,
            context,
            entities: Vec::new(),
            on_behalf_of: Vec::new(),
            mode: Mode::Enforce,
            approval_id: None,
            request_id: None,
            justification: None,
            min_policy_version: None,
            labels: BTreeMap::new(),
            is_chain_verified: false,
            trace: None,
        }
    }
}

/// What kind of fault a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// A field has no acceptable value.
    Invalid,
    /// The schema has no such action.
    UnknownAction,
    /// The schema has no such entity type.
    UnknownEntityType,
    /// The action does not apply to entities of these types.
    ActionDoesNotApply,
    /// A value does not have the declared type.
    SchemaMismatch,
    /// The request describes an entity that is stored.
    EntityRedefined,
    /// The request describes one entity twice.
    DuplicateEntity,
    /// A size, count or depth is over its limit.
    LimitExceeded,
}

/// Why a request cannot be decided: the caller made a mistake.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}`: {message}")]
pub struct RequestProblem {
    /// What kind of fault it is.
    pub fault: RequestFault,
    /// The field, such as `context.hosts[2]`.
    pub field: String,
    /// What is wrong with it and what to do.
    pub message: String,
}

impl RequestProblem {
    /// A fault in `field`.
    pub fn new(fault: RequestFault, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            fault,
            field: field.into(),
            message: message.into(),
        }
    }
}
