//! Decides with Cedar's public API alone: all policies, all entities, no schema of ours.

use std::collections::HashMap;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, EntityId, EntityTypeName, EntityUid,
    PolicyId, PolicySet, Request as CedarRequest, Schema, SlotId, Template,
};
use countersign::model::{Decision, EntityDescription, EntityRef, Record, Request, Value};
use countersign::policy::{Bundle, FileKind};
use serde_json::{Value as Json, json};

/// A policy set as Cedar takes it.
pub struct Reference {
    schema: Option<Schema>,
    entities: Entities,
    /// Every policy; a gate is an ordinary forbid.
    all: PolicySet,
    /// Every policy but the gates.
    ungated: PolicySet,
}

impl Reference {
    pub fn new(bundle: &Bundle) -> Self {
        let schema = texts(bundle, FileKind::Schema).next().map(|text| {
            let (schema, _) = Schema::from_cedarschema_str(text).expect("the schema is sound");
            schema
        });
        let entities = texts(bundle, FileKind::Entities)
            .flat_map(json_list)
            .collect();
        let all = policies(bundle);
        let mut ungated = all.clone();
        for policy in all
            .policies()
            .filter(|policy| policy.annotation("approval").is_some())
        {
            ungated
                .remove_static(policy.id().clone())
                .expect("no gate of the sample is a template");
        }
        Self {
            // Stored entities refer to others without Cedar's escapes, so a schema is needed to read them.
            entities: Entities::from_json_value(Json::Array(entities), schema.as_ref())
                .expect("the entities are sound"),
            schema,
            all,
            ungated,
        }
    }

    /// What Cedar decides; described entities join the stored ones. None if Cedar's public API cannot name the action.
    pub fn decide(&self, request: &Request) -> Option<Decision> {
        let action = action(&request.action)?;
        let described = request.entities.iter().map(description).collect();
        let entities = self
            .entities
            .clone()
            .add_entities_from_json_value(Json::Array(described), self.schema.as_ref())
            .expect("Cedar accepts the described entities");
        let context = Context::from_json_value(record(&request.context), None)
            .expect("Cedar accepts the context");
        let asked = CedarRequest::new(
            uid(&request.principal),
            action,
            uid(&request.resource),
            context,
            self.schema.as_ref(),
        )
        .expect("Cedar accepts the request");
        let allows = |policies| {
            let response = Authorizer::new().is_authorized(&asked, policies, &entities);
            response.decision() == CedarDecision::Allow
        };
        Some(match (allows(&self.ungated), allows(&self.all)) {
            (false, _) => Decision::Deny,
            (true, false) => Decision::RequireApproval,
            (true, true) => Decision::Allow,
        })
    }
}

/// The sample has no namespaces, so a short name is the action's id. A full name is read only in its plain form, without escapes.
fn action(name: &str) -> Option<EntityUid> {
    if name.contains("::") || name.contains('"') {
        return name.parse().ok();
    }
    Some(uid(&EntityRef::new("Action", name)))
}

fn texts(bundle: &Bundle, kind: FileKind) -> impl Iterator<Item = &str> {
    let files = bundle
        .files()
        .iter()
        .filter(move |file| FileKind::of(&file.path) == Some(kind));
    files.map(|file| str::from_utf8(&file.bytes).expect("the sample is UTF-8"))
}

fn json_list(text: &str) -> Vec<Json> {
    serde_json::from_str(text).expect("the sample's JSON is a list")
}

fn policies(bundle: &Bundle) -> PolicySet {
    let text: String = texts(bundle, FileKind::Policies).collect();
    let mut policies = PolicySet::from_str(&text).expect("the policies are sound");
    let templates: HashMap<String, PolicyId> = policies
        .templates()
        .map(|template| (id_of(template), template.id().clone()))
        .collect();
    for link in texts(bundle, FileKind::Links).flat_map(json_list) {
        let slots = [
            ("?principal", SlotId::principal()),
            ("?resource", SlotId::resource()),
        ];
        let values = slots
            .into_iter()
            .filter_map(|(name, slot)| Some((slot, link["args"][name].as_str()?.parse().ok()?)));
        let template = link["template_id"]
            .as_str()
            .and_then(|id| templates.get(id))
            .expect("the template exists");
        let id = PolicyId::new(link["link_id"].as_str().expect("the link has an id"));
        policies
            .link(template.clone(), id, values.collect())
            .expect("the link is sound");
    }
    policies
}

fn id_of(template: &Template) -> String {
    template.annotation("id").unwrap_or_default().to_owned()
}

fn uid(entity: &EntityRef) -> EntityUid {
    let type_name = EntityTypeName::from_str(&entity.type_name)
        .expect("the engine has checked the type's name");
    EntityUid::from_type_name_and_id(type_name, EntityId::new(&entity.id))
}

fn description(entity: &EntityDescription) -> Json {
    let parents: Vec<Json> = entity.parents.iter().map(name).collect();
    json!({ "uid": name(&entity.uid), "attrs": record(&entity.attributes), "parents": parents })
}

fn name(entity: &EntityRef) -> Json {
    json!({ "type": entity.type_name, "id": entity.id })
}

fn record(record: &Record) -> Json {
    record
        .iter()
        .map(|(key, each)| (key.to_owned(), value(each)))
        .collect()
}

fn value(value_: &Value) -> Json {
    match value_ {
        Value::Bool(flag) => json!(flag),
        Value::Long(number) => json!(number),
        Value::String(text) => json!(text),
        Value::Set(values) => values.iter().map(value).collect(),
        Value::Record(fields) => record(fields),
        Value::Entity(entity) => json!({ "__entity": name(entity) }),
        Value::Extension { function, argument } => {
            json!({ "__extn": { "fn": function, "arg": argument } })
        }
    }
}
