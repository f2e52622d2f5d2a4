//! Entities and values in records, with those left out that policies keep out.

use crate::model::{EntityDescription, EntityRef, Record, Redaction, Value};

use super::encode::Fields;
use super::redaction::{Redactor, Spot};

/// `Value.kind`.
const BOOL: u32 = 1;
const LONG: u32 = 2;
const STRING: u32 = 3;
const SET: u32 = 4;
const RECORD: u32 = 5;
const ENTITY: u32 = 6;
const EXTENSION: u32 = 7;
const DROPPED: u32 = 8;
const HMAC: u32 = 9;

/// An `Entity`.
pub(super) fn entity(fields: &mut Fields<'_>, tag: u32, uid: &EntityRef) {
    fields.message(tag, |inner| {
        inner.text(1, &uid.type_name);
        inner.text(2, &uid.id);
    });
}

/// Several of them.
pub(super) fn entities(fields: &mut Fields<'_>, tag: u32, uids: &[EntityRef]) {
    for uid in uids {
        entity(fields, tag, uid);
    }
}

/// A `DescribedEntity`.
pub(super) fn described(
    fields: &mut Fields<'_>,
    tag: u32,
    description: &EntityDescription,
    redactor: &Redactor<'_>,
) {
    let spot = redactor.below(&description.uid.type_name);
    fields.message(tag, |inner| {
        entity(inner, 1, &description.uid);
        attributes(inner, 2, &description.attributes, spot);
        entities(inner, 3, &description.parents);
    });
}

/// The attributes of a record.
pub(super) fn attributes(fields: &mut Fields<'_>, tag: u32, record: &Record, spot: Spot<'_>) {
    for (name, value) in record.iter() {
        fields.message(tag, |inner| {
            inner.text(1, name);
            let spot = spot.step(name);
            match spot.here() {
                None => inner.message(2, |kind| write(kind, value, spot)),
                Some(Redaction::Drop) => inner.message(2, |kind| kind.member(DROPPED, &[])),
                Some(Redaction::Hmac) => {
                    let mut whole = Vec::new();
                    write(&mut Fields(&mut whole), value, spot);
                    let hash = spot.hash(&whole);
                    inner.message(2, |kind| kind.member(HMAC, &hash));
                }
            }
        });
    }
}

/// The fields of a `Value`. A path leads through sets: what is said of it holds for each member.
fn write(kind: &mut Fields<'_>, value: &Value, spot: Spot<'_>) {
    match value {
        Value::Bool(flag) => kind.varint(BOOL, u64::from(*flag)),
        Value::Long(number) => kind.varint(LONG, zigzag(*number)),
        Value::String(text) => kind.member(STRING, text.as_bytes()),
        Value::Set(values) => kind.message(SET, |set| {
            for value in values {
                set.message(1, |kind| write(kind, value, spot));
            }
        }),
        Value::Record(record) => {
            kind.message(RECORD, |inner| attributes(inner, 1, record, spot));
        }
        Value::Entity(uid) => entity(kind, ENTITY, uid),
        Value::Extension { function, argument } => kind.message(EXTENSION, |inner| {
            inner.text(1, function);
            inner.text(2, argument);
        }),
    }
}

/// A number of type `sint64`.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}
