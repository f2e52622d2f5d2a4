//! The cache key: everything that can change a decision, and nothing else.
//!
//! INVARIANT (injective): two requests with the same key bytes get the same decision from one snapshot. Every part is written with a
//! tag and its length before its bytes, so no two different sequences of parts give the same bytes.

use crate::model::{EntityDescription, EntityRef, Record, Value};

use super::footprint::Footprint;
use super::prepare::Prepared;

const ABSENT: u8 = 0;
const BOOL: u8 = 1;
const LONG: u8 = 2;
const STRING: u8 = 3;
const SET: u8 = 4;
const RECORD: u8 = 5;
const ENTITY: u8 = 6;
const EXTENSION: u8 = 7;

impl Prepared {
    /// Writes the key into `key`, which is cleared first.
    pub fn write_key(&self, key: &mut Vec<u8>) {
        key.clear();
        let footprint = &self.action.footprint;
        write_text(key, self.action.name.as_bytes());
        write_entity(key, &self.request.principal);
        write_entity(key, &self.request.resource);
        write_context(key, &self.request.context, footprint);
        write_length(key, self.request.entities.len());
        if !self.request.entities.is_empty() {
            self.write_descriptions(key, footprint);
        }
    }

    fn write_descriptions(&self, key: &mut Vec<u8>, footprint: &Footprint) {
        let mut descriptions: Vec<&EntityDescription> = self.request.entities.iter().collect();
        descriptions.sort_by(|left, right| left.uid.cmp(&right.uid));
        for description in descriptions {
            write_entity(key, &description.uid);
            write_length(key, description.parents.len());
            for parent in &description.parents {
                write_entity(key, parent);
            }
            let read = || {
                description
                    .attributes
                    .iter()
                    .filter(|(name, _)| footprint.reads_attribute(name))
            };
            write_length(key, read().count());
            for (name, value) in read() {
                write_text(key, name.as_bytes());
                write_value(key, value);
            }
        }
    }
}

/// Walks the footprint's names rather than the request's, so that a missing attribute leaves its mark too.
fn write_context(key: &mut Vec<u8>, context: &Record, footprint: &Footprint) {
    if footprint.whole_context {
        write_record(key, context);
        return;
    }
    for name in &footprint.context {
        match context.get(name) {
            Some(value) => write_value(key, value),
            None => key.push(ABSENT),
        }
    }
}

fn write_value(key: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(flag) => key.extend([BOOL, u8::from(*flag)]),
        Value::Long(number) => {
            key.push(LONG);
            key.extend(number.to_le_bytes());
        }
        Value::String(text) => {
            key.push(STRING);
            write_text(key, text.as_bytes());
        }
        Value::Set(values) => {
            key.push(SET);
            write_length(key, values.len());
            for value in values {
                write_value(key, value);
            }
        }
        Value::Record(record) => write_record(key, record),
        Value::Entity(uid) => {
            key.push(ENTITY);
            write_entity(key, uid);
        }
        Value::Extension { function, argument } => {
            key.push(EXTENSION);
            write_text(key, function.as_bytes());
            write_text(key, argument.as_bytes());
        }
    }
}

fn write_record(key: &mut Vec<u8>, record: &Record) {
    key.push(RECORD);
    write_length(key, record.len());
    for (name, value) in record.iter() {
        write_text(key, name.as_bytes());
        write_value(key, value);
    }
}

fn write_entity(key: &mut Vec<u8>, uid: &EntityRef) {
    write_text(key, uid.type_name.as_bytes());
    write_text(key, uid.id.as_bytes());
}

fn write_text(key: &mut Vec<u8>, text: &[u8]) {
    write_length(key, text.len());
    key.extend_from_slice(text);
}

/// Seven bits to a byte, the high bit where more follow.
fn write_length(key: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        key.push(rest.to_le_bytes().first().copied().unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    key.push(rest.to_le_bytes().first().copied().unwrap_or(0));
}
