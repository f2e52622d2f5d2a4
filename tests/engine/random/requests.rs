//! Random requests.

use countersign::model::{EntityDescription, EntityRef, Record, Request, Value};

use super::schema::{IDS, NEW_ID, Schema, Type, UNREAD};
use super::store::random_entity;
use super::values::{any_value, random_record, random_value};
use super::{Dice, StoredEntity};

/// A request. With a schema it fits, in a wild world without one it may hold anything.
pub(crate) fn random_request(
    dice: &mut Dice,
    schema: &Schema,
    store: &[StoredEntity],
    has_schema: bool,
) -> Request {
    let action = dice.pick(&schema.actions);
    let side = |dice: &mut Dice, allowed: &[usize]| {
        let position = if has_schema || dice.percent(85) {
            *dice.pick(allowed)
        } else {
            dice.below(schema.types.len())
        };
        let mut uid = schema.random_uid(dice, position);
        if !schema.types[position].is_enumerated && dice.percent(20) {
            uid.id = NEW_ID.to_owned();
        }
        uid
    };
    let principal = side(dice, &action.principals);
    let resource = side(dice, &action.resources);
    let mut context = random_record(dice, schema, &action.context, has_schema);
    if action.context.iter().any(|field| field.name == "now") && dice.percent(50) {
        // The server supplies it.
        context = without(context, "now");
    }
    if !has_schema && dice.percent(30) {
        context.insert("level".to_owned(), any_value(dice, schema));
    }
    let mut request = Request::new(principal, action.uid, resource, context);
    if !has_schema && dice.percent(5) {
        request.principal = crate::support::uid(action.uid);
    }
    describe_some(dice, schema, store, has_schema, &mut request);
    request
}

/// Describes some of the entities that are not stored: principal and resource more often than others.
fn describe_some(
    dice: &mut Dice,
    schema: &Schema,
    store: &[StoredEntity],
    has_schema: bool,
    request: &mut Request,
) {
    let mut candidates = vec![request.principal.clone(), request.resource.clone()];
    for _ in 0..dice.below(3) {
        let position = dice.below(schema.types.len());
        let name = schema.types[position].name;
        candidates.push(EntityRef::new(name, *dice.pick(&[NEW_ID, IDS[0]])));
    }
    for uid in candidates {
        let is_known = store.iter().any(|stored| stored.uid == uid)
            || request.entities.iter().any(|known| known.uid == uid);
        if !is_known && dice.percent(85) {
            describe(dice, schema, has_schema, request, uid);
        }
    }
}

fn describe(
    dice: &mut Dice,
    schema: &Schema,
    has_schema: bool,
    request: &mut Request,
    uid: EntityRef,
) {
    let Some(position) = schema.position(&uid.type_name) else {
        return;
    };
    if schema.types[position].is_enumerated {
        return;
    }
    let entity = random_entity(dice, schema, position, uid, !has_schema);
    request.entities.push(EntityDescription {
        uid: entity.uid,
        attributes: entity.attributes,
        parents: entity.parents,
    });
}

/// The same request but for one thing, which may or may not matter.
pub(crate) fn vary(
    dice: &mut Dice,
    schema: &Schema,
    store: &[StoredEntity],
    has_schema: bool,
    request: &Request,
) -> Request {
    let mut request = request.clone();
    let action = schema
        .actions
        .iter()
        .find(|action| action.uid == request.action)
        .unwrap_or(&schema.actions[0]);
    match dice.below(12) {
        0 => {
            let position = schema.position(&request.principal.type_name).unwrap_or(0);
            request.principal = schema.random_uid(dice, position);
        }
        1 => request.entities.reverse(),
        2 | 3 if !request.entities.is_empty() => {
            let at = dice.below(request.entities.len());
            let described = &mut request.entities[at];
            let position = schema.position(&described.uid.type_name).unwrap_or(0);
            let uid = described.uid.clone();
            described.attributes =
                random_entity(dice, schema, position, uid, !has_schema).attributes;
        }
        4 => describe_some(dice, schema, store, has_schema, &mut request),
        5..=7 => {
            let trace = random_value(dice, schema, &Type::String, has_schema);
            request.context.insert(UNREAD.to_owned(), trace);
        }
        _ => {
            let field = dice.pick(&action.context);
            if !field.required && dice.percent(40) {
                request.context = without(request.context, field.name);
            } else {
                let value = random_value(dice, schema, &field.field_type, has_schema);
                request.context.insert(field.name.to_owned(), value);
            }
        }
    }
    request
        .entities
        .retain(|described| store.iter().all(|stored| stored.uid != described.uid));
    request
}

fn without(record: Record, name: &str) -> Record {
    record
        .into_iter()
        .filter(|(known, _)| known != name)
        .collect::<Vec<(String, Value)>>()
        .into_iter()
        .collect()
}

/// Whether the request leaves a clock to the server.
pub(crate) fn needs_clock(schema: &Schema, request: &Request) -> bool {
    let declares = schema.actions.iter().any(|action| {
        action.uid == request.action
            && action
                .context
                .iter()
                .any(|field| field.name == "now" && field.field_type == Type::Datetime)
    });
    declares && request.context.get("now").is_none()
}
