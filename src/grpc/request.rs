//! From the wire to the model: every limit is kept here, and every refusal names its field.

use prost::Message;
use prost_types::Struct;
use prost_types::value::Kind;

use crate::model::{
    EntityDescription, EntityRef, Mode, Record, Request, RequestFault, RequestLimits,
    RequestProblem, Value,
};

use super::proto;

const LIMITS: RequestLimits = RequestLimits::DEFAULT;
/// The integers that a JSON number carries exactly: up to 2^53 - 1 on both sides of zero.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_991.0;

/// The bytes are no request that this server accepts.
#[derive(Debug, thiserror::Error)]
pub enum DecodeRequestError {
    /// They are not the protobuf form of an `AuthorizeRequest`.
    #[error("not an `AuthorizeRequest`")]
    Malformed(#[from] prost::DecodeError),
    /// The first field that has no acceptable value.
    #[error(transparent)]
    Refused(#[from] RequestProblem),
}

/// Decodes and reads an `AuthorizeRequest` as the server does, for those who have its bytes and no connection.
///
/// # Errors
/// Why the server would not decide it.
pub fn decode_request(bytes: &[u8]) -> Result<Request, DecodeRequestError> {
    Ok(read(proto::AuthorizeRequest::decode(bytes)?)?)
}

/// Reads a request.
///
/// # Errors
/// The first field that has no acceptable value.
pub(super) fn read(request: proto::AuthorizeRequest) -> Result<Request, RequestProblem> {
    let mut reader = Reader {
        values: 0,
        entities: Vec::new(),
    };
    let principal = reader.subject("principal", request.principal)?;
    let resource = reader.subject("resource", request.resource)?;
    if request.action.is_empty() {
        return Err(missing(
            "action",
            "name what the principal wants to do, such as `Deploy`",
        ));
    }
    check_bytes(
        "action",
        &request.action,
        LIMITS.type_bytes.saturating_add(LIMITS.id_bytes),
    )?;
    let context = match request.context {
        Some(context) => reader.record(&Path::Root("context"), context, 0)?,
        None => Record::default(),
    };
    check_count("entities", request.entities.len(), LIMITS.entities)?;
    for (index, entity) in request.entities.into_iter().enumerate() {
        reader.entity(&format!("entities[{index}]"), entity, Described::Always)?;
    }
    check_count(
        "on_behalf_of",
        request.on_behalf_of.len(),
        LIMITS.on_behalf_of,
    )?;
    let on_behalf_of = references("on_behalf_of", request.on_behalf_of)?;
    check_bytes("request_id", &request.request_id, LIMITS.request_id_bytes)?;
    check_bytes(
        "justification",
        &request.justification,
        LIMITS.justification_bytes,
    )?;
    check_count("labels", request.labels.len(), LIMITS.labels)?;
    for (name, value) in &request.labels {
        check_bytes("labels", name, LIMITS.label_bytes)?;
        check_bytes("labels", value, LIMITS.label_bytes)?;
    }
    Ok(Request {
        caller: String::new(),
        principal,
        action: request.action,
        resource,
        context,
        entities: reader.entities,
        on_behalf_of,
        mode: mode(request.mode)?,
        approval_id: some(request.approval_id),
        request_id: some(request.request_id),
        justification: some(request.justification),
        min_policy_version: some(request.min_policy_version),
        labels: request.labels,
        is_chain_verified: false,
        trace: None,
    })
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn mode(number: i32) -> Result<Mode, RequestProblem> {
    match proto::Mode::try_from(number) {
        Ok(proto::Mode::Unspecified | proto::Mode::Enforce) => Ok(Mode::Enforce),
        Ok(proto::Mode::Check) => Ok(Mode::Check),
        Err(_) => {
            let message =
                format!("{number} is not a mode; this server knows ENFORCE (1) and CHECK (2)");
            Err(RequestProblem::new(RequestFault::Invalid, "mode", message))
        }
    }
}

fn missing(field: &str, message: &str) -> RequestProblem {
    RequestProblem::new(
        RequestFault::Invalid,
        field,
        format!("is required: {message}"),
    )
}

fn check_bytes(field: &str, text: &str, limit: usize) -> Result<(), RequestProblem> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(exceeded(
        field,
        format!("has {} bytes, more than {limit}", text.len()),
    ))
}

fn check_count(field: &str, count: usize, limit: usize) -> Result<(), RequestProblem> {
    if count <= limit {
        return Ok(());
    }
    Err(exceeded(
        field,
        format!("has {count} entries, more than {limit}"),
    ))
}

fn exceeded(field: &str, message: String) -> RequestProblem {
    RequestProblem::new(RequestFault::LimitExceeded, field, message)
}

fn check_name(field: &str, type_name: &str, id: &str) -> Result<(), RequestProblem> {
    if type_name.is_empty() {
        return Err(missing(
            &format!("{field}.type"),
            "name the entity's type, such as `User`",
        ));
    }
    if type_name.len() > LIMITS.type_bytes {
        check_bytes(&format!("{field}.type"), type_name, LIMITS.type_bytes)?;
    }
    if id.len() > LIMITS.id_bytes {
        check_bytes(&format!("{field}.id"), id, LIMITS.id_bytes)?;
    }
    Ok(())
}

fn references(
    field: &str,
    references: Vec<proto::EntityRef>,
) -> Result<Vec<EntityRef>, RequestProblem> {
    let read = |(index, reference): (usize, proto::EntityRef)| {
        check_name(
            &format!("{field}[{index}]"),
            &reference.r#type,
            &reference.id,
        )?;
        Ok(EntityRef {
            type_name: reference.r#type,
            id: reference.id,
        })
    };
    references.into_iter().enumerate().map(read).collect()
}

/// Whether an entity without attributes and parents is described all the same.
#[derive(Clone, Copy, PartialEq)]
enum Described {
    Always,
    IfItSaysSomething,
}

/// Where a value stands, written out only when something is wrong with it.
enum Path<'p> {
    Root(&'p str),
    Name(&'p Self, &'p str),
    Item(&'p Self, usize),
}

impl Path<'_> {
    fn write(&self) -> String {
        match self {
            Path::Root(name) => (*name).to_owned(),
            Path::Name(parent, name) => format!("{}.{name}", parent.write()),
            Path::Item(parent, index) => format!("{}[{index}]", parent.write()),
        }
    }
}

struct Reader {
    /// Values read so far.
    values: usize,
    /// Entities described so far.
    entities: Vec<EntityDescription>,
}

impl Reader {
    fn subject(
        &mut self,
        field: &str,
        entity: Option<proto::Entity>,
    ) -> Result<EntityRef, RequestProblem> {
        let entity = entity.ok_or_else(|| missing(field, "it has a `type` and an `id`"))?;
        self.entity(field, entity, Described::IfItSaysSomething)
    }

    fn entity(
        &mut self,
        field: &str,
        entity: proto::Entity,
        described: Described,
    ) -> Result<EntityRef, RequestProblem> {
        check_name(field, &entity.r#type, &entity.id)?;
        let uid = EntityRef {
            type_name: entity.r#type,
            id: entity.id,
        };
        let says_something = entity.attributes.is_some() || !entity.parents.is_empty();
        if says_something || described == Described::Always {
            check_count(
                &format!("{field}.parents"),
                entity.parents.len(),
                LIMITS.parents,
            )?;
            let attributes = match entity.attributes {
                Some(attributes) => {
                    let root = format!("{field}.attributes");
                    self.record(&Path::Root(&root), attributes, 0)?
                }
                None => Record::default(),
            };
            self.entities.push(EntityDescription {
                uid: uid.clone(),
                attributes,
                parents: references(&format!("{field}.parents"), entity.parents)?,
            });
        }
        Ok(uid)
    }

    fn record(
        &mut self,
        path: &Path<'_>,
        fields: Struct,
        depth: usize,
    ) -> Result<Record, RequestProblem> {
        self.check_level(path, fields.fields.len(), depth)?;
        fields
            .fields
            .into_iter()
            .map(|(name, value)| {
                if name.len() > LIMITS.string_bytes {
                    return Err(exceeded(
                        &path.write(),
                        "an attribute's name is too long".to_owned(),
                    ));
                }
                let value = self.value(&Path::Name(path, &name), value, depth)?;
                Ok((name, value))
            })
            .collect()
    }

    fn value(
        &mut self,
        path: &Path<'_>,
        value: prost_types::Value,
        depth: usize,
    ) -> Result<Value, RequestProblem> {
        let invalid =
            |message: String| RequestProblem::new(RequestFault::Invalid, path.write(), message);
        match value.kind {
            Some(Kind::BoolValue(flag)) => Ok(Value::Bool(flag)),
            Some(Kind::NumberValue(number)) => to_integer(number).map(Value::Long).map_err(invalid),
            Some(Kind::StringValue(text)) => {
                if text.len() > LIMITS.string_bytes {
                    let message = format!(
                        "has {} bytes, more than {}",
                        text.len(),
                        LIMITS.string_bytes
                    );
                    return Err(exceeded(&path.write(), message));
                }
                Ok(Value::String(text))
            }
            Some(Kind::ListValue(list)) => {
                let depth = depth.saturating_add(1);
                self.check_level(path, list.values.len(), depth)?;
                let items = list.values.into_iter().enumerate();
                let values: Result<Vec<Value>, RequestProblem> = items
                    .map(|(index, value)| self.value(&Path::Item(path, index), value, depth))
                    .collect();
                values.map(Value::Set)
            }
            Some(Kind::StructValue(fields)) => {
                let record = self.record(path, fields, depth.saturating_add(1))?;
                Value::Record(record).unescaped().map_err(invalid)
            }
            Some(Kind::NullValue(_)) | None => Err(invalid(
                "null is not a value: leave the attribute out instead".to_owned(),
            )),
        }
    }

    fn check_level(
        &mut self,
        path: &Path<'_>,
        items: usize,
        depth: usize,
    ) -> Result<(), RequestProblem> {
        self.values = self.values.saturating_add(items);
        if depth > LIMITS.depth {
            return Err(exceeded(
                &path.write(),
                format!("nests deeper than {} levels", LIMITS.depth),
            ));
        }
        if items > LIMITS.items_per_level {
            return Err(exceeded(
                &path.write(),
                format!("has {items} items, more than {}", LIMITS.items_per_level),
            ));
        }
        if self.values > LIMITS.values {
            return Err(exceeded(
                &path.write(),
                format!("the request has more than {} values", LIMITS.values),
            ));
        }
        Ok(())
    }
}

/// A JSON number as Cedar's integer; nothing is rounded.
fn to_integer(number: f64) -> Result<i64, String> {
    if !number.is_finite() {
        return Err("is not a number".to_owned());
    }
    if number.fract() != 0.0 {
        return Err(format!(
            "{number} is not an integer; write a decimal as a text where the schema says `decimal`, or as \
             {{\"__extn\": {{\"fn\": \"decimal\", \"arg\": \"{number}\"}}}}"
        ));
    }
    if number.abs() > MAX_EXACT_INTEGER {
        return Err(
            "a number beyond 2^53 - 1 cannot be sent: as a JSON number it would be rounded"
                .to_owned(),
        );
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the number is whole and within 2^53, as the lines above have checked"
    )]
    let integer = number as i64;
    Ok(integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(type_name: &str, id: &str) -> proto::Entity {
        proto::Entity {
            r#type: type_name.to_owned(),
            id: id.to_owned(),
            ..proto::Entity::default()
        }
    }

    fn deploy() -> proto::AuthorizeRequest {
        proto::AuthorizeRequest {
            principal: Some(entity("Pipeline", "web")),
            action: "Deploy".to_owned(),
            resource: Some(entity("Service", "shop")),
            ..proto::AuthorizeRequest::default()
        }
    }

    #[test]
    fn bytes_become_the_request_they_encode() {
        let request = decode_request(&deploy().encode_to_vec()).unwrap();
        let expected = Request::new(
            EntityRef::new("Pipeline", "web"),
            "Deploy",
            EntityRef::new("Service", "shop"),
            Record::default(),
        );
        assert_eq!(request, expected);
    }

    #[test]
    fn a_request_cut_short_is_malformed() {
        let mut bytes = deploy().encode_to_vec();
        bytes.pop();
        assert!(matches!(
            decode_request(&bytes),
            Err(DecodeRequestError::Malformed(_))
        ));
    }

    #[test]
    fn a_field_without_an_acceptable_value_is_named() {
        let bytes = proto::AuthorizeRequest {
            mode: 7,
            ..deploy()
        }
        .encode_to_vec();
        let Err(DecodeRequestError::Refused(problem)) = decode_request(&bytes) else {
            panic!("mode 7 does not exist");
        };
        assert_eq!(problem.field, "mode");
    }
}
