//! Messages that decode to far more than their size, each within the size that is let in.

use countersign::grpc::proto::{Entity, Struct};
use prost::Message;
use prost_types::Value;
use prost_types::value::Kind;

use crate::{ENTITIES, workload};

const BYTES: usize = 60_000;
/// Field 5, `entities`, of length 0.
const EMPTY_ENTITY: [u8; 2] = [5 << 3 | 2, 0];
/// Field 15, which there is not, of length 0.
const UNKNOWN: [u8; 2] = [15 << 3 | 2, 0];

/// 30,000 entities of two bytes each.
pub(crate) fn empty_messages() -> Vec<u8> {
    EMPTY_ENTITY.repeat(BYTES / 2)
}

/// 30,000 fields that the message does not have.
pub(crate) fn unknown_fields() -> Vec<u8> {
    let mut bytes = workload::request(1, ENTITIES).encode_to_vec();
    bytes.extend(UNKNOWN.repeat((BYTES - bytes.len()) / 2));
    bytes
}

/// 30 levels of records: just what the decoder lets pass; then as many of them as fit.
pub(crate) fn deep_struct() -> Vec<u8> {
    let deep = (0..30).fold(text("x"), |inner, _| record([("k".to_owned(), inner)]));
    let Some(Kind::StructValue(attributes)) = deep.kind else {
        return Vec::new();
    };
    let entity = Entity {
        r#type: "User".to_owned(),
        id: "u".to_owned(),
        attributes: Some(attributes),
        parents: Vec::new(),
    };
    let mut request = workload::request(1, ENTITIES);
    let count = BYTES / (entity.encoded_len() + 4);
    request.entities = vec![entity; count];
    request.encode_to_vec()
}

/// 5,000 keys in the context.
pub(crate) fn many_fields() -> Vec<u8> {
    let mut request = workload::request(1, ENTITIES);
    let keys = (0..5_000).map(|number| (format!("{number}"), Value { kind: None }));
    request.context = Some(Struct {
        fields: keys.collect(),
    });
    request.encode_to_vec()
}

fn record(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    let fields = Struct {
        fields: fields.into_iter().collect(),
    };
    Value {
        kind: Some(Kind::StructValue(fields)),
    }
}

fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}
