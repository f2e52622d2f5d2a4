//! Files policies under the literal that their condition begins by comparing with.
//!
//! Sets that say who may do what by attributes name no entities, so their scopes narrow nothing; their conditions begin with
//! `principal.department == "sales"`. Such a policy can only be satisfied or err if the attribute has that very value or is
//! missing: Cedar evaluates a conjunction from the left, `==` never errs, and a missing attribute does.
//! INVARIANT (first): only the leftmost part of a condition is used; what stands before nothing cannot be kept from being evaluated.

use std::collections::HashMap;

use super::cedar::{
    BinaryOp, Context, Entity, Expr, ExprKind, Literal, PartialValue, Value, ValueKind, Var,
};
use super::index::{Question, Side};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Where a compared value stands: `principal.department`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attribute {
    of: Owner,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Principal,
    Resource,
    Context,
}

/// Policies under one anchor and action, by position in the snapshot's list.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Those that must always be evaluated.
    always: Vec<u32>,
    by_attribute: Vec<(Attribute, Map<Literal, Vec<u32>>)>,
}

impl Bucket {
    /// Files the policy at `position`.
    pub(super) fn file(&mut self, position: u32, condition: Option<&Expr>) {
        let Some((attribute, literal)) = condition.and_then(first_comparison) else {
            self.always.push(position);
            return;
        };
        if !self
            .by_attribute
            .iter()
            .any(|(known, _)| *known == attribute)
        {
            self.by_attribute.push((attribute.clone(), Map::default()));
        }
        let shelf = self
            .by_attribute
            .iter_mut()
            .find(|(known, _)| *known == attribute);
        if let Some((_, by_literal)) = shelf {
            by_literal.entry(literal).or_default().push(position);
        }
    }

    /// Adds the positions of the policies that could be satisfied or err.
    pub(super) fn collect(&self, question: &Question<'_>, found: &mut Vec<u32>) {
        found.extend(&self.always);
        for (attribute, by_literal) in &self.by_attribute {
            match attribute.value(question) {
                // Reading it is an error, which every one of these policies would meet.
                None => by_literal
                    .values()
                    .for_each(|positions| found.extend(positions)),
                Some(ValueKind::Lit(literal)) => {
                    found.extend(by_literal.get(literal).into_iter().flatten());
                }
                // Equal to no literal.
                Some(ValueKind::Set(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_)) => {}
            }
        }
    }
}

impl Attribute {
    /// The attribute's value for a request; none if it cannot be read.
    fn value<'r>(&self, question: &Question<'r>) -> Option<&'r ValueKind> {
        match self.of {
            Owner::Principal => self.of_entity(question.principal),
            Owner::Resource => self.of_entity(question.resource),
            Owner::Context => match question.context {
                Context::Value(fields) => fields.get(self.name.as_str()).map(Value::value_kind),
                Context::RestrictedResidual(_) => None,
            },
        }
    }

    fn of_entity<'r>(&self, side: Side<'r>) -> Option<&'r ValueKind> {
        match side
            .entity
            .and_then(|entity: &'r Entity| entity.get(&self.name))?
        {
            PartialValue::Value(value) => Some(value.value_kind()),
            PartialValue::Residual(_) => None,
        }
    }
}

/// The comparison with a literal that a condition begins with, if it does.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not a comparison is filed under always"
)]
fn first_comparison(condition: &Expr) -> Option<(Attribute, Literal)> {
    match condition.expr_kind() {
        ExprKind::And { left, .. } => first_comparison(left),
        ExprKind::BinaryApp {
            op: BinaryOp::Eq,
            arg1,
            arg2,
        } => match (attribute(arg1), literal(arg2)) {
            (Some(attribute), Some(literal)) => Some((attribute, literal)),
            // A literal cannot err, so it may stand on the left as well.
            _ => Some((attribute(arg2)?, literal(arg1)?)),
        },
        _ => None,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not an attribute is filed under always"
)]
fn attribute(expr: &Expr) -> Option<Attribute> {
    let ExprKind::GetAttr { expr, attr } = expr.expr_kind() else {
        return None;
    };
    let of = match expr.expr_kind() {
        ExprKind::Var(Var::Principal) => Owner::Principal,
        ExprKind::Var(Var::Resource) => Owner::Resource,
        ExprKind::Var(Var::Context) => Owner::Context,
        _ => return None,
    };
    Some(Attribute {
        of,
        name: attr.to_string(),
    })
}

fn literal(expr: &Expr) -> Option<Literal> {
    if let ExprKind::Lit(literal) = expr.expr_kind() {
        return Some(literal.clone());
    }
    None
}
