//! What a policy can read: the ground of cache keys and entity slices.
//!
//! The analysis walks a condition and notes every context attribute, entity attribute, tag and hierarchy test in it. It may note
//! more than an evaluation reads, never less. Attributes of entities are noted by name, whatever entity they are read from.
//! INVARIANT (over-approximation): an evaluation reads nothing that the footprint does not hold. The match over Cedar's expressions
//! is exhaustive, so a construct that a new Cedar adds does not compile until it has an arm here.

use std::collections::BTreeSet;

use super::cedar::{BinaryOp, EntityUID, Expr, ExprKind, Literal, Value, Var};

/// What some policies can read.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own about what can be read"
)]
pub(super) struct Footprint {
    /// Whether the whole context is used as a value, as in `context == {..}`.
    pub(super) whole_context: bool,
    /// The top-level context attributes that can be read.
    pub(super) context: BTreeSet<String>,
    /// The names of entity attributes that can be read.
    pub(super) attributes: BTreeSet<String>,
    /// Whether every attribute of every entity must be taken as read.
    pub(super) all_attributes: bool,
    /// Whether tags can be read.
    pub(super) tags: bool,
    /// How many entities deep an evaluation can look: 0 if it looks into none, 1 for `principal.team`, 2 for `principal.team.lead`.
    pub(super) level: u32,
    /// Whether it is tested what entities are in.
    pub(super) hierarchy: bool,
    /// The entities that conditions name.
    pub(super) literals: BTreeSet<EntityUID>,
}

impl Footprint {
    /// What a condition can read.
    pub(super) fn of(condition: &Expr) -> Self {
        let mut footprint = Self::default();
        footprint.visit(condition);
        footprint
    }

    /// Adds what `other` can read.
    pub(super) fn merge(&mut self, other: &Self) {
        self.whole_context |= other.whole_context;
        self.all_attributes |= other.all_attributes;
        self.tags |= other.tags;
        self.hierarchy |= other.hierarchy;
        self.level = self.level.max(other.level);
        merge_missing(&mut self.context, &other.context);
        merge_missing(&mut self.attributes, &other.attributes);
        merge_missing(&mut self.literals, &other.literals);
    }

    /// Notes that an entity found after following `depth` references is looked into.
    pub(super) fn look_into(&mut self, depth: u32) -> u32 {
        let deeper = depth.saturating_add(1);
        self.level = self.level.max(deeper);
        deeper
    }

    /// Whether attribute `name` of an entity can be read.
    pub(super) fn reads_attribute(&self, name: &str) -> bool {
        self.all_attributes || self.attributes.contains(name)
    }

    /// Notes what evaluating `expr` can read; answers how many references its value lies behind.
    fn visit(&mut self, expr: &Expr) -> u32 {
        match expr.expr_kind() {
            ExprKind::Lit(literal) => self.visit_literal(literal),
            ExprKind::Var(Var::Context) => {
                self.whole_context = true;
                0
            }
            ExprKind::Var(Var::Principal | Var::Action | Var::Resource) | ExprKind::Slot(_) => 0,
            // Never built by the parser; if it were, anything could stand in its place.
            ExprKind::Unknown(_) => {
                self.whole_context = true;
                self.all_attributes = true;
                self.tags = true;
                self.hierarchy = true;
                self.look_into(u32::MAX)
            }
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => {
                self.visit(test_expr);
                let then_depth = self.visit(then_expr);
                then_depth.max(self.visit(else_expr))
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                self.visit(left);
                self.visit(right);
                0
            }
            ExprKind::UnaryApp { arg, .. } => {
                self.visit(arg);
                0
            }
            ExprKind::BinaryApp { op, arg1, arg2 } => self.visit_binary(*op, arg1, arg2),
            ExprKind::ExtensionFunctionApp { args, .. } => self.visit_all(args.iter()),
            ExprKind::GetAttr { expr, attr } => self.visit_attribute(expr, attr),
            ExprKind::HasAttr { expr, attr } => {
                self.visit_attribute(expr, attr);
                0
            }
            ExprKind::ExtHasAttr { expr, attrs } => {
                let mut depth = self.visit_attribute(expr, attrs.first());
                for attr in attrs.tail() {
                    self.attributes.insert(attr.to_string());
                    depth = self.look_into(depth);
                }
                0
            }
            ExprKind::Like { expr, .. } | ExprKind::Is { expr, .. } => {
                self.visit(expr);
                0
            }
            ExprKind::Set(elements) => self.visit_all(elements.iter()),
            ExprKind::Record(fields) => self.visit_all(fields.values()),
        }
    }

    fn visit_all<'e>(&mut self, exprs: impl Iterator<Item = &'e Expr>) -> u32 {
        exprs.fold(0, |depth, expr| depth.max(self.visit(expr)))
    }

    fn visit_literal(&mut self, literal: &Literal) -> u32 {
        match literal {
            Literal::EntityUID(uid) => {
                self.literals.insert(uid.as_ref().clone());
            }
            Literal::Bool(_) | Literal::Long(_) | Literal::String(_) => {}
        }
        0
    }

    fn visit_attribute(&mut self, expr: &Expr, attr: &str) -> u32 {
        if matches!(expr.expr_kind(), ExprKind::Var(Var::Context)) {
            self.context.insert(attr.to_owned());
            return 0;
        }
        let depth = self.visit(expr);
        self.attributes.insert(attr.to_owned());
        self.look_into(depth)
    }

    fn visit_binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> u32 {
        let depth = self.visit(left);
        self.visit(right);
        match op {
            BinaryOp::In => {
                self.hierarchy = true;
                self.look_into(depth);
                0
            }
            BinaryOp::GetTag | BinaryOp::HasTag => {
                self.tags = true;
                self.look_into(depth)
            }
            BinaryOp::Eq
            | BinaryOp::Less
            | BinaryOp::LessEq
            | BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Contains
            | BinaryOp::ContainsAll
            | BinaryOp::ContainsAny => 0,
        }
    }
}

/// Inserts what is not there yet, without copying what is.
fn merge_missing<T: Ord + Clone>(into: &mut BTreeSet<T>, from: &BTreeSet<T>) {
    for item in from {
        if !into.contains(item) {
            into.insert(item.clone());
        }
    }
}

/// The entities that a value refers to.
pub(super) fn references_in(value: &Value, found: &mut Vec<EntityUID>) {
    use super::cedar::ValueKind;
    match value.value_kind() {
        ValueKind::Lit(Literal::EntityUID(uid)) => found.push(uid.as_ref().clone()),
        ValueKind::Lit(Literal::Bool(_) | Literal::Long(_) | Literal::String(_))
        | ValueKind::ExtensionValue(_) => {}
        ValueKind::Set(set) => set.iter().for_each(|element| references_in(element, found)),
        ValueKind::Record(fields) => fields
            .values()
            .for_each(|field| references_in(field, found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: &str, context: &[&str], attributes: &[&str], level: u32) {
        let expr: Expr = condition.parse().unwrap();
        let footprint = Footprint::of(&expr);
        let names = |set: &BTreeSet<String>| {
            set.iter()
                .map(String::as_str)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&footprint.context), context, "context of {condition}");
        assert_eq!(
            names(&footprint.attributes),
            attributes,
            "attributes of {condition}"
        );
        assert_eq!(footprint.level, level, "level of {condition}");
    }

    #[test]
    fn attributes_are_noted_where_they_are_read() {
        check("context.a == 1", &["a"], &[], 0);
        check("context has b && context.b.c", &["b"], &["c"], 1);
        check("principal.team.lead == resource", &[], &["lead", "team"], 2);
        check("principal in resource.owners", &[], &["owners"], 1);
        check("principal has team.lead", &[], &["lead", "team"], 2);
        check(
            "(if context.x then principal else resource).name == \"\"",
            &["x"],
            &["name"],
            1,
        );
        check("{u: principal}.u.v == 1", &[], &["u", "v"], 2);
        check("principal == User::\"a\"", &[], &[], 0);
        check("principal.hasTag(context.k)", &["k"], &[], 1);
        check("ip(\"10.0.0.1\").isInRange(context.net)", &["net"], &[], 0);
    }

    #[test]
    fn the_context_as_a_value_is_all_of_it() {
        for condition in [
            "context == {a: 1}",
            "[context].contains({})",
            "(if true then context else {}).a",
            "{c: context}.c.a",
        ] {
            let expr: Expr = condition.parse().unwrap();
            assert!(Footprint::of(&expr).whole_context, "{condition}");
        }
    }
}
