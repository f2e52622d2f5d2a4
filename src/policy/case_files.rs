//! Decision cases as they are written: YAML files beside the policies that say what must hold.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::{EntityDescription, EntityRef, Record, Request, Seat, Value};

use super::cedar::EntityUID;
use super::convert::from_uid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    pub(super) suite: Option<String>,
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Option<RequestCase>,
    pub(super) approve: Option<ApproveCase>,
    pub(super) expect: Expectation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestCase {
    principal: EntityCase,
    action: String,
    resource: EntityCase,
    #[serde(default)]
    context: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    entities: Vec<EntityCase>,
    /// The server's clock, for policies that read it.
    pub(super) now: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveCase {
    /// Only a name: who may review is stored, never described by a request.
    reviewer: String,
    rule: String,
    #[serde(default)]
    slot: String,
    resource: EntityCase,
    action: String,
    requester: EntityCase,
    #[serde(default)]
    on_behalf_of: Vec<EntityCase>,
    /// Whether the approval has been escalated.
    #[serde(default)]
    escalated: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum EntityCase {
    Name(String),
    Described(Description),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    #[serde(rename = "type")]
    type_name: String,
    id: String,
    attributes: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    parents: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    pub(super) decision: Option<ExpectedDecision>,
    pub(super) rules: Option<BTreeSet<String>>,
    pub(super) determining: Option<BTreeSet<String>>,
    pub(super) reason: Option<ExpectedReason>,
    pub(super) eligible: Option<bool>,
}

impl Expectation {
    /// Refuses what would be passed over in silence: an expectation that cannot apply to the expected decision.
    pub(super) fn check_for_request(&self) -> Result<(), String> {
        let wrong = |what: &str, decision: &str| {
            Err(format!(
                "`{what}` is expected only with `decision: {decision}`"
            ))
        };
        if self.eligible.is_some() {
            return Err("`eligible` is expected only of an `approve` case".to_owned());
        }
        if self.reason.is_some() && self.decision != Some(ExpectedDecision::Deny) {
            return wrong("reason", "DENY");
        }
        if self.rules.is_some() && self.decision != Some(ExpectedDecision::RequireApproval) {
            return wrong("rules", "REQUIRE_APPROVAL");
        }
        Ok(())
    }

    /// The same for a case that asks who may approve.
    pub(super) fn check_for_approve(&self) -> Result<(), String> {
        let is_alone = self.decision.is_none()
            && self.rules.is_none()
            && self.determining.is_none()
            && self.reason.is_none();
        if is_alone {
            return Ok(());
        }
        Err("an `approve` case expects `eligible` and nothing else".to_owned())
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ExpectedDecision {
    Allow,
    Deny,
    RequireApproval,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ExpectedReason {
    Forbidden,
    NoPermit,
    PolicyError,
    EntityMissing,
}

impl RequestCase {
    pub(super) fn into_request(self) -> Result<Request, String> {
        let mut entities = Vec::new();
        let principal = self.principal.into_parts(&mut entities)?;
        let resource = self.resource.into_parts(&mut entities)?;
        for entity in self.entities {
            entity.into_parts(&mut entities)?;
        }
        let context = to_record(self.context)?;
        Ok(Request {
            entities,
            ..Request::new(principal, self.action, resource, context)
        })
    }
}

/// What an `approve` case asks.
pub(super) struct ApproveAsked {
    pub(super) asked: Request,
    pub(super) reviewer: EntityRef,
    pub(super) seat: Seat,
    pub(super) is_escalated: bool,
}

impl ApproveCase {
    pub(super) fn into_asked(self) -> Result<ApproveAsked, String> {
        let mut entities = Vec::new();
        let resource = self.resource.into_parts(&mut entities)?;
        let requester = self.requester.into_parts(&mut entities)?;
        let on_behalf_of = self
            .on_behalf_of
            .into_iter()
            .map(|entity| entity.into_parts(&mut entities))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(ApproveAsked {
            asked: Request {
                entities,
                on_behalf_of,
                ..Request::new(requester, self.action, resource, Record::default())
            },
            reviewer: parse_uid(&self.reviewer)?,
            seat: Seat {
                rule: self.rule,
                slot: self.slot,
            },
            is_escalated: self.escalated,
        })
    }
}

impl EntityCase {
    /// The entity's name; its description, if there is one, goes to `entities`.
    fn into_parts(self, entities: &mut Vec<EntityDescription>) -> Result<EntityRef, String> {
        match self {
            Self::Name(text) => parse_uid(&text),
            Self::Described(description) => {
                let uid = EntityRef::new(description.type_name, description.id);
                let is_described =
                    description.attributes.is_some() || !description.parents.is_empty();
                if is_described {
                    entities.push(EntityDescription {
                        uid: uid.clone(),
                        attributes: to_record(description.attributes.unwrap_or_default())?,
                        parents: description
                            .parents
                            .iter()
                            .map(|parent| parse_uid(parent))
                            .collect::<Result<Vec<_>, _>>()?,
                    });
                }
                Ok(uid)
            }
        }
    }
}

fn parse_uid(text: &str) -> Result<EntityRef, String> {
    parse_entity(text).ok_or_else(|| format!("`{text}` is not an entity: write `Type::\"id\"`"))
}

/// Reads an entity's name as Cedar writes it, `Type::"id"`.
pub fn parse_entity(text: &str) -> Option<EntityRef> {
    text.parse::<EntityUID>().ok().map(|uid| from_uid(&uid))
}

fn to_record(fields: serde_json::Map<String, serde_json::Value>) -> Result<Record, String> {
    fields
        .into_iter()
        .map(|(name, value)| {
            let value = to_value(value).map_err(|problem| format!("`{name}`: {problem}"))?;
            Ok((name, value))
        })
        .collect()
}

fn to_value(value: serde_json::Value) -> Result<Value, String> {
    Ok(match value {
        serde_json::Value::Null => {
            return Err("null is not a value: leave the attribute out".to_owned());
        }
        serde_json::Value::Bool(flag) => Value::Bool(flag),
        serde_json::Value::Number(number) => Value::Long(
            number
                .as_i64()
                .ok_or_else(|| format!("{number} is not an integer"))?,
        ),
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(values) => Value::Set(
            values
                .into_iter()
                .map(to_value)
                .collect::<Result<Vec<_>, _>>()?,
        ),
        serde_json::Value::Object(fields) => Value::Record(to_record(fields)?).unescaped()?,
    })
}
