//! Requests that the sample policies have an answer for.

use countersign::grpc::json;
use countersign::grpc::proto::{AuthorizeRequest, AuthorizeResponse, Entity, EntityRef, Struct};
use prost_types::Value;
use prost_types::value::Kind;
use serde_json::json;

/// Reads a request from its JSON form.
pub(crate) fn ask(form: &serde_json::Value) -> AuthorizeRequest {
    json::read("AuthorizeRequest", &form.to_string()).unwrap()
}

/// An agent starts two small machines in dev: allowed.
pub(crate) fn small_start() -> AuthorizeRequest {
    ask(&json!({
        "principal": { "type": "Agent", "id": "capacity-bot" },
        "action": "StartInstances",
        "resource": { "type": "Environment", "id": "dev" },
        "context": {
            "instance_type": "t3.small", "count": 2, "hourly_cost_cents": 4,
            "region": "eu-central-1", "public_ip": false,
        },
    }))
}

/// An agent deploys to production: needs approval by rule `prod-deploy`.
pub(crate) fn agent_deployment() -> AuthorizeRequest {
    ask(&json!({
        "principal": { "type": "Agent", "id": "deploy-bot" },
        "action": "Deploy",
        "resource": { "type": "Service", "id": "payments-api" },
        "context": {
            "version": "2.4.0", "migration": false,
            "provenance": { "builder": "github-actions", "commit": "9f2c1d7" },
        },
    }))
}

/// A person runs a reviewed script on two hosts: allowed.
pub(crate) fn script() -> AuthorizeRequest {
    ask(&json!({
        "principal": { "type": "User", "id": "sam" },
        "action": "RunScript",
        "resource": { "type": "HostGroup", "id": "web-prod" },
        "context": {
            "script_sha256": "5f0c7e1a", "reviewed": true, "as_root": false, "destructive": false,
            "hosts": ["web-prod-1", "web-prod-2"], "host_count": 2,
        },
    }))
}

/// An agent gives a role to a person for an hour: needs approval by rule `access`. The request describes its resource.
pub(crate) fn role_grant() -> AuthorizeRequest {
    ask(&json!({
        "principal": { "type": "Agent", "id": "helpdesk-bot" },
        "action": "GrantRole",
        "resource": {
            "type": "RoleAssignment",
            "id": "lee-reads-logs",
            "attributes": {
                "role": { "type": "Role", "id": "log-reader" },
                "beneficiary": { "type": "User", "id": "lee" },
            },
        },
        "context": { "valid_for": "1h" },
    }))
}

/// The small start, with entities that it describes.
pub(crate) fn described(entities: impl IntoIterator<Item = Entity>) -> AuthorizeRequest {
    AuthorizeRequest {
        entities: entities.into_iter().collect(),
        ..small_start()
    }
}

pub(crate) fn entity(type_name: &str, id: &str) -> Entity {
    Entity {
        r#type: type_name.to_owned(),
        id: id.to_owned(),
        ..Entity::default()
    }
}

pub(crate) fn reference(type_name: &str, id: &str) -> EntityRef {
    EntityRef {
        r#type: type_name.to_owned(),
        id: id.to_owned(),
    }
}

/// The ids of the policies that a decision rests on.
pub(crate) fn determining(response: &AuthorizeResponse) -> Vec<&str> {
    response
        .determining
        .iter()
        .map(|policy| policy.id.as_str())
        .collect()
}

/// The names of the rules that must be fulfilled.
pub(crate) fn rules(response: &AuthorizeResponse) -> Vec<&str> {
    let requirements = response
        .approval
        .iter()
        .flat_map(|approval| &approval.requirements);
    requirements
        .map(|requirement| requirement.rule.as_str())
        .collect()
}

/// Changes requests in place.
pub(crate) trait Change {
    /// Sets an attribute of the context.
    fn context(self, name: &str, value: Value) -> Self;
    /// Takes an attribute out of the context.
    fn without(self, name: &str) -> Self;
}

impl Change for AuthorizeRequest {
    fn context(mut self, name: &str, value: Value) -> Self {
        self.context
            .get_or_insert_default()
            .fields
            .insert(name.to_owned(), value);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.context.as_mut().unwrap().fields.remove(name).unwrap();
        self
    }
}

pub(crate) fn text(value: &str) -> Value {
    of_kind(Kind::StringValue(value.to_owned()))
}

pub(crate) fn number(value: f64) -> Value {
    of_kind(Kind::NumberValue(value))
}

pub(crate) fn flag(value: bool) -> Value {
    of_kind(Kind::BoolValue(value))
}

pub(crate) fn null() -> Value {
    of_kind(Kind::NullValue(0))
}

pub(crate) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    of_kind(Kind::ListValue(prost_types::ListValue {
        values: values.into_iter().collect(),
    }))
}

pub(crate) fn record<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    of_kind(Kind::StructValue(fields_of(fields)))
}

pub(crate) fn fields_of<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Struct {
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Struct {
        fields: fields.collect(),
    }
}

fn of_kind(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
