//! Compares what a store says that was asked and shown with the log, as far as policies did not keep it out of the log.

use std::collections::BTreeMap;

use crate::audit::proto::{ApprovalOpened, Attribute, Value, value::Kind};

/// What stands in the log for a line that policies keep out of it.
const NOT_RECORDED: &str = "(not recorded)";

/// Whether `stored`, in which nothing is kept out, says what `logged` says.
pub(super) fn is_shown_so(logged: &ApprovalOpened, stored: &ApprovalOpened) -> bool {
    let is_entity = |(logged, stored): (&_, &_)| is_same_entity(logged, stored);
    let is_line = |(logged, stored): (&crate::audit::proto::ShownLine, &_)| {
        let hidden = crate::audit::proto::ShownLine {
            text: NOT_RECORDED.to_owned(),
            ..crate::audit::proto::ShownLine::clone(stored)
        };
        logged == stored || *logged == hidden
    };
    are_same(&logged.context, &stored.context)
        && logged.entities.len() == stored.entities.len()
        && logged.entities.iter().zip(&stored.entities).all(is_entity)
        && logged.shown.len() == stored.shown.len()
        && logged.shown.iter().zip(&stored.shown).all(is_line)
}

fn is_same_entity(
    logged: &crate::audit::proto::DescribedEntity,
    stored: &crate::audit::proto::DescribedEntity,
) -> bool {
    logged.entity == stored.entity
        && logged.parents == stored.parents
        && are_same(&logged.attributes, &stored.attributes)
}

fn are_same(logged: &[Attribute], stored: &[Attribute]) -> bool {
    let by_name = |attributes: &[Attribute]| -> BTreeMap<String, Option<Value>> {
        let pairs = attributes
            .iter()
            .map(|each| (each.name.clone(), each.value.clone()));
        pairs.collect()
    };
    let (logged, stored) = (by_name(logged), by_name(stored));
    logged.len() == stored.len()
        && logged.iter().zip(&stored).all(|(logged, stored)| {
            logged.0 == stored.0
                && match (logged.1, stored.1) {
                    (Some(logged), Some(stored)) => is_same(logged, stored),
                    (logged, stored) => logged == stored,
                }
        })
}

/// Whether both values are one, where the log holds the value.
fn is_same(logged: &Value, stored: &Value) -> bool {
    match (&logged.kind, &stored.kind) {
        (Some(Kind::Dropped(_) | Kind::Hmac(_)), _) => true,
        (Some(Kind::Set(logged)), Some(Kind::Set(stored))) => {
            let mut pairs = logged.values.iter().zip(&stored.values);
            logged.values.len() == stored.values.len()
                && pairs.all(|(logged, stored)| is_same(logged, stored))
        }
        (Some(Kind::Record(logged)), Some(Kind::Record(stored))) => {
            are_same(&logged.attributes, &stored.attributes)
        }
        (logged, stored) => logged == stored,
    }
}
