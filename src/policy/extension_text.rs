//! One text for each extension value, however it was written: `1.0` and `1.00` are the same decimal.
//!
//! Digests are made over these texts, so that a request is the same request exactly where Cedar takes its values for equal.

use super::cedar::{Expr, ExprKind, Literal, ValueKind};
use super::convert::constructor;
use super::shape::construct;

/// The text that stands for the value of `function(argument)`: the same for two arguments exactly if Cedar calls the values equal.
///
/// A decimal has four places, an address its prefix, a datetime is in milliseconds since 1970 and a duration in milliseconds. None
/// if Cedar cannot read the argument or `function` is not `decimal`, `ip`, `datetime` or `duration`.
pub fn canonical_extension(function: &str, argument: &str) -> Option<String> {
    let value = construct(constructor(function)?, argument).ok()?;
    let ValueKind::ExtensionValue(value) = value.value_kind() else {
        return None;
    };
    let (_, arguments) = value.value().canonical_repr();
    let text = text_of(arguments.last()?)?;
    // Both are made of a number of milliseconds, which stands before the unit.
    match function {
        "datetime" | "duration" => text.strip_suffix("ms").map(str::to_owned),
        _ => Some(text),
    }
}

/// The text in a call: its argument, or that of its last argument. A datetime is written as a duration added to a fixed day.
fn text_of(expr: &Expr) -> Option<String> {
    let mut expr = expr;
    while let ExprKind::ExtensionFunctionApp { args, .. } = expr.expr_kind() {
        expr = args.last()?;
    }
    match expr.expr_kind() {
        ExprKind::Lit(Literal::String(text)) => Some(text.to_string()),
        ExprKind::Lit(Literal::Bool(_) | Literal::Long(_) | Literal::EntityUID(_))
        | ExprKind::Var(_)
        | ExprKind::Slot(_)
        | ExprKind::Unknown(_)
        | ExprKind::If { .. }
        | ExprKind::And { .. }
        | ExprKind::Or { .. }
        | ExprKind::UnaryApp { .. }
        | ExprKind::BinaryApp { .. }
        | ExprKind::ExtensionFunctionApp { .. }
        | ExprKind::GetAttr { .. }
        | ExprKind::HasAttr { .. }
        | ExprKind::ExtHasAttr { .. }
        | ExprKind::Like { .. }
        | ExprKind::Is { .. }
        | ExprKind::Set(_)
        | ExprKind::Record(_) => None,
    }
}
