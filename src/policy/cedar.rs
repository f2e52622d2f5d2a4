//! Everything this crate takes from Cedar, in one place.
//!
//! `cedar-policy-core` is the same engine one level down. It is used where the public API costs too much on the hot path or hides
//! what we must know (the expression of a condition, shared entities); both crates are pinned to one exact version.
//! Never: behaviour of our own.

pub(super) use cedar_policy::ValidationResult;
pub(super) use cedar_policy_core::ast::{
    ActionConstraint, Annotation, AnyId, Context, Effect, Eid, Entity, EntityReference, EntityType,
    EntityUID, EntityUIDEntry, Expr, ExprKind, Literal, Name, PartialValue, Policy, PolicyID,
    PolicySet, PrincipalOrResourceConstraint, Request, SlotEnv, SlotId, StaticallyTyped, Template,
    Value, ValueKind,
};
pub(super) use cedar_policy_core::ast::{BinaryOp, Var};
pub(super) use cedar_policy_core::authorizer::{AuthorizationError, Authorizer};
pub(super) use cedar_policy_core::entities::{
    Entities, EntityJsonParser, NoEntitiesSchema, TCComputation,
};
pub(super) use cedar_policy_core::evaluator::Evaluator;
pub(super) use cedar_policy_core::extensions::Extensions;
pub(super) use cedar_policy_core::parser::{Loc, parse_policyset};
pub(super) use cedar_policy_core::validator::types::{Attributes, EntityKind, Type};
pub(super) use cedar_policy_core::validator::{
    CoreSchema, ValidationMode, Validator, ValidatorEntityTypeKind, ValidatorSchema,
};
