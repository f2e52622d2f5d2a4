//! Random values, and values as Cedar's JSON.

use countersign::model::{EntityRef, Record, Value};
use serde_json::json;

use super::schema::{Field, IDS, REGIONS, Schema, Type};
use super::{Dice, schema};

pub(crate) const LONGS: [i64; 7] = [0, 1, 2, -1, 5, i64::MAX, i64::MIN];
pub(crate) const TEXTS: [&str; 5] = ["", "a", "b", "prod", "10.0.0.1"];
pub(crate) const IPS: [&str; 4] = ["10.0.0.1", "10.0.0.0/8", "::1", "10.0.0.1/32"];
pub(crate) const DECIMALS: [&str; 4] = ["1.0", "1.00", "-2.5", "0.0"];
pub(crate) const DATETIMES: [&str; 4] = [
    "1970-01-01",
    "1970-01-01T00:00:00Z",
    "2024-02-29T12:00:00.500Z",
    "9999-12-31",
];
pub(crate) const DURATIONS: [&str; 4] = ["1h", "60m", "0ms", "9223372036854775807ms"];

impl Schema {
    /// The name of an entity of the type at `position`, stored or not.
    pub(crate) fn random_uid(&self, dice: &mut Dice, position: usize) -> EntityRef {
        let known = &self.types[position];
        let id = if known.is_enumerated {
            *dice.pick(&REGIONS)
        } else {
            *dice.pick(&IDS)
        };
        EntityRef::new(known.name, id)
    }
}

/// A value of type `wanted`. With `short` it may be in the short form that only a schema makes clear.
pub(crate) fn random_value(dice: &mut Dice, schema: &Schema, wanted: &Type, short: bool) -> Value {
    let short_form = short && dice.percent(50);
    let extension = |function: &str, argument: &'static str| {
        let argument = argument.to_owned();
        if short_form {
            return Value::String(argument);
        }
        Value::Extension {
            function: function.into(),
            argument,
        }
    };
    match wanted {
        Type::Bool => Value::Bool(dice.percent(50)),
        Type::Long => Value::Long(*dice.pick(&LONGS)),
        Type::String => Value::String((*dice.pick(&TEXTS)).to_owned()),
        Type::Entity(position) => {
            let uid = schema.random_uid(dice, *position);
            if short_form {
                Value::Record(reference(&uid))
            } else {
                Value::Entity(uid)
            }
        }
        Type::Set(element) => {
            let count = dice.below(4);
            Value::Set(
                (0..count)
                    .map(|_| random_value(dice, schema, element, short))
                    .collect(),
            )
        }
        Type::Record(fields) => Value::Record(random_record(dice, schema, fields, short)),
        Type::Ip => extension("ip", *dice.pick(&IPS)),
        Type::Decimal => extension("decimal", *dice.pick(&DECIMALS)),
        Type::Datetime => extension("datetime", *dice.pick(&DATETIMES)),
        Type::Duration => extension("duration", *dice.pick(&DURATIONS)),
    }
}

/// A record with `fields`; the optional ones are there half of the time.
pub(crate) fn random_record(
    dice: &mut Dice,
    schema: &Schema,
    fields: &[Field],
    short: bool,
) -> Record {
    let mut record = Record::default();
    for field in fields {
        if field.required || dice.percent(50) {
            let value = random_value(dice, schema, &field.field_type, short);
            record.insert(field.name.to_owned(), value);
        }
    }
    record
}

/// `{"type": .., "id": ..}`.
pub(crate) fn reference(uid: &EntityRef) -> Record {
    [("type", &uid.type_name), ("id", &uid.id)]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Value::String(text.clone())))
        .collect()
}

/// A value of any type.
pub(crate) fn any_value(dice: &mut Dice, schema: &Schema) -> Value {
    let fields = schema::random_fields(dice, 1, 1);
    random_value(dice, schema, &fields[0].field_type, false)
}

/// Cedar's JSON of a value.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(flag) => json!(flag),
        Value::Long(number) => json!(number),
        Value::String(text) => json!(text),
        Value::Set(values) => values.iter().map(to_json).collect(),
        Value::Record(record) => record_json(record),
        Value::Entity(uid) => json!({"__entity": {"type": uid.type_name, "id": uid.id}}),
        Value::Extension { function, argument } => {
            json!({"__extn": {"fn": function, "arg": argument}})
        }
    }
}

pub(crate) fn record_json(record: &Record) -> serde_json::Value {
    record
        .iter()
        .map(|(name, value)| (name.to_owned(), to_json(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
