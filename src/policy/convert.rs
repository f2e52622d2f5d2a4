//! Turns the words of a request into Cedar's.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::model::{EntityDescription, EntityRef, Record, Value};

use super::cedar::{
    Context, Eid, Entity, EntityUID, Literal, Name, PartialValue, Value as CedarValue, ValueKind,
};
use super::schema::EntityTypes;
use super::shape::construct;

/// Cedar's form of an entity's name; none if its type cannot exist.
pub(super) fn to_uid(uid: &EntityRef, types: &EntityTypes) -> Option<EntityUID> {
    let entity_type = types.resolve(&uid.type_name)?;
    Some(EntityUID::from_components(
        entity_type,
        Eid::new(uid.id.as_str()),
        None,
    ))
}

/// The name that Cedar's form stands for.
pub(super) fn from_uid(uid: &EntityUID) -> EntityRef {
    EntityRef::new(
        uid.entity_type().to_string(),
        AsRef::<str>::as_ref(uid.eid()),
    )
}

/// The entities that an attribute names, one or a set of them; none if its value is anything else.
pub(super) fn as_references(value: &PartialValue) -> Option<Vec<EntityRef>> {
    let PartialValue::Value(value) = value else {
        return None;
    };
    match value.value_kind() {
        ValueKind::Set(set) => set.iter().map(as_reference).collect(),
        ValueKind::Lit(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_) => {
            as_reference(value).map(|uid| vec![uid])
        }
    }
}

fn as_reference(value: &CedarValue) -> Option<EntityRef> {
    match value.value_kind() {
        ValueKind::Lit(Literal::EntityUID(uid)) => Some(from_uid(uid)),
        ValueKind::Lit(Literal::Bool(_) | Literal::Long(_) | Literal::String(_))
        | ValueKind::Set(_)
        | ValueKind::Record(_)
        | ValueKind::ExtensionValue(_) => None,
    }
}

/// Cedar's form of a context.
///
/// # Errors
/// A sentence about the first value that has no such form.
pub(super) fn to_context(record: &Record, types: &EntityTypes) -> Result<Context, String> {
    Ok(Context::Value(Arc::new(to_fields(record, types)?)))
}

/// Cedar's form of a described entity; `ancestors` are those of its parents.
///
/// # Errors
/// A sentence about the first attribute that has no such form.
pub(super) fn to_entity(
    description: &EntityDescription,
    uid: EntityUID,
    parents: HashSet<EntityUID>,
    ancestors: HashSet<EntityUID>,
    types: &EntityTypes,
) -> Result<Entity, String> {
    let attributes = to_fields(&description.attributes, types)?;
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name, value.into()));
    Ok(Entity::new_with_attr_partial_value(
        uid,
        attributes,
        ancestors,
        parents,
        [],
    ))
}

fn to_fields(
    record: &Record,
    types: &EntityTypes,
) -> Result<BTreeMap<smol_str::SmolStr, CedarValue>, String> {
    record
        .iter()
        .map(|(name, value)| {
            Ok((
                name.into(),
                to_value(value, types).map_err(|problem| format!("`{name}`: {problem}"))?,
            ))
        })
        .collect()
}

fn to_value(value: &Value, types: &EntityTypes) -> Result<CedarValue, String> {
    Ok(match value {
        Value::Bool(flag) => CedarValue::from(*flag),
        Value::Long(number) => CedarValue::from(*number),
        Value::String(text) => CedarValue::from(text.as_str()),
        Value::Set(values) => {
            let values = values
                .iter()
                .map(|value| to_value(value, types))
                .collect::<Result<Vec<_>, _>>()?;
            CedarValue::set(values, None)
        }
        Value::Record(record) => CedarValue::record_arc(Arc::new(to_fields(record, types)?), None),
        Value::Entity(uid) => {
            CedarValue::from(to_uid(uid, types).ok_or_else(|| types.unknown(&uid.type_name))?)
        }
        Value::Extension { function, argument } => {
            let constructor = constructor(function)
                .ok_or_else(|| format!("`{function}` is not a constructor of an extension"))?;
            construct(constructor, argument)?
        }
    })
}

/// Cedar's name of an extension constructor. Parsing the name anew for each call would cost 3 µs.
pub(super) fn constructor(function: &str) -> Option<&'static Name> {
    static NAMES: std::sync::LazyLock<Vec<(&str, Name)>> = std::sync::LazyLock::new(|| {
        ["ip", "decimal", "datetime", "duration"]
            .into_iter()
            .filter_map(|function| Some((function, function.parse().ok()?)))
            .collect()
    });
    NAMES
        .iter()
        .find(|(known, _)| *known == function)
        .map(|(_, name)| name)
}
