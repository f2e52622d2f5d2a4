//! Stock Cedar, through its public API and with the whole store: the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy,
    PolicyId, PolicySet, Request, Schema, SlotId, Template,
};
use countersign::model::{EntityRef, Posture};
use serde_json::json;

use crate::random::{Kind, PolicySpec, StoredEntity, to_json};

/// A policy set and a store, as Cedar takes them.
pub(crate) struct Stock {
    pub(crate) schema: Option<Schema>,
    sets: BTreeMap<&'static str, PolicySet>,
    entities: BTreeMap<String, Entity>,
    whole_store: Entities,
    rules: BTreeMap<String, &'static str>,
}

/// What stock Cedar says of each kind of policy on its own.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    satisfied: BTreeMap<&'static str, BTreeSet<String>>,
    erring: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Stock {
    pub(crate) fn new(
        schema: Option<&str>,
        policies: &[PolicySpec],
        store: &[StoredEntity],
    ) -> Self {
        let schema = schema.map(|text| Schema::from_cedarschema_str(text).unwrap().0);
        let mut entities: BTreeMap<String, Entity> = BTreeMap::new();
        let actions = schema.iter().flat_map(|schema| {
            let actions = schema.action_entities().unwrap();
            actions.iter().cloned().collect::<Vec<_>>()
        });
        for action in actions {
            entities.insert(action.uid().to_string(), action);
        }
        for stored in store {
            let entity = Entity::from_json_value(stored.json(), schema.as_ref()).unwrap();
            entities.insert(entity.uid().to_string(), entity);
        }
        let whole_store = Entities::from_entities(entities.values().cloned(), None).unwrap();
        let mut stock = Self {
            schema,
            sets: BTreeMap::new(),
            entities,
            whole_store,
            rules: BTreeMap::new(),
        };
        for policy in policies {
            stock.add(policy);
        }
        stock
    }

    fn add(&mut self, policy: &PolicySpec) {
        let sets: &[&'static str] = match policy.kind {
            Kind::Permit => &["permits", "base", "whole"],
            Kind::Forbid => &["forbids", "base", "whole"],
            Kind::Gate => &["gates", "whole"],
        };
        for name in sets {
            add_to(self.sets.entry(name).or_default(), policy);
        }
        if policy.kind == Kind::Gate {
            let ids = policy.links.iter().map(|link| &link.id).chain([&policy.id]);
            self.rules.extend(ids.map(|id| (id.clone(), policy.rule)));
        }
    }

    /// The request in Cedar's form, checked against the schema if there is one.
    pub(crate) fn request(&self, request: &countersign::model::Request) -> Result<Request, String> {
        let action = EntityUid::from_str(&request.action).map_err(|error| error.to_string())?;
        let context = to_json(&countersign::model::Value::Record(request.context.clone()));
        let with = self.schema.as_ref().map(|schema| (schema, &action));
        let context = Context::from_json_value(context, with).map_err(|error| error.to_string())?;
        Request::new(
            to_uid(&request.principal),
            action,
            to_uid(&request.resource),
            context,
            self.schema.as_ref(),
        )
        .map_err(|error| error.to_string())
    }

    /// The store with the entities that the request describes, checked against the schema if there is one.
    pub(crate) fn entities(
        &self,
        request: &countersign::model::Request,
        others: &[Entity],
    ) -> Result<Entities, String> {
        if request.entities.is_empty() && others.is_empty() {
            return Ok(self.whole_store.clone());
        }
        let mut entities: BTreeMap<String, Entity> = others
            .iter()
            .map(|entity| (entity.uid().to_string(), entity.clone()))
            .collect();
        entities.extend(self.entities.clone());
        for described in &request.entities {
            let stored = StoredEntity {
                uid: described.uid.clone(),
                attributes: described.attributes.clone(),
                parents: described.parents.clone(),
                tags: countersign::model::Record::default(),
            };
            let entity = Entity::from_json_value(stored.json(), self.schema.as_ref())
                .map_err(|error| error.to_string())?;
            entities.insert(entity.uid().to_string(), entity);
        }
        Entities::from_entities(entities.into_values(), None).map_err(|error| error.to_string())
    }

    /// What permits, forbids and gates say, each kind alone.
    pub(crate) fn sets(&self, request: &Request, entities: &Entities) -> Sets {
        let mut found = Sets::default();
        for kind in ["permits", "forbids", "gates"] {
            let Some(set) = self.sets.get(kind) else {
                continue;
            };
            let response = Authorizer::new().is_authorized(request, set, entities);
            let reasons = response.diagnostics().reason().map(ToString::to_string);
            found.satisfied.insert(kind, reasons.collect());
            let errors = response.diagnostics().errors().map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    error.policy_id().to_string()
                }
            });
            found.erring.insert(kind, errors.collect());
        }
        found
    }

    /// Cedar's answer for the `base` set (permits and forbids that are no gates) or the `whole` one.
    pub(crate) fn allows(&self, set: &str, request: &Request, entities: &Entities) -> bool {
        self.sets.get(set).is_some_and(|set| {
            let response = Authorizer::new().is_authorized(request, set, entities);
            response.decision() == Decision::Allow
        })
    }

    /// The decision that `sets` come to, in the words of [`crate::support::words`].
    pub(crate) fn words(&self, sets: &Sets, posture: Posture) -> String {
        let strict = posture == Posture::Strict;
        let satisfied = |kind| sets.satisfied.get(kind).filter(|ids| !ids.is_empty());
        let errs = |kind| sets.erring.get(kind).is_some_and(|ids| !ids.is_empty());
        let join = |ids: &BTreeSet<String>| ids.iter().cloned().collect::<Vec<_>>().join(",");
        let outcome = if let Some(forbids) = satisfied("forbids") {
            format!("DENY forbidden by {}", join(forbids))
        } else if strict && errs("forbids") {
            "DENY policy error".to_owned()
        } else if let Some(permits) = satisfied("permits") {
            if strict && errs("gates") {
                "DENY policy error".to_owned()
            } else if let Some(gates) = satisfied("gates") {
                format!("REQUIRE_APPROVAL {}", self.requirements(gates))
            } else {
                format!("ALLOW by {}", join(permits))
            }
        } else {
            "DENY no permit".to_owned()
        };
        let erring: BTreeSet<String> = sets.erring.values().flatten().cloned().collect();
        if erring.is_empty() {
            outcome
        } else {
            format!("{outcome}; errors {}", join(&erring))
        }
    }

    fn requirements(&self, gates: &BTreeSet<String>) -> String {
        let mut by_rule: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for gate in gates {
            by_rule.entry(self.rules[gate]).or_default().push(gate);
        }
        let shown: Vec<String> = by_rule
            .into_iter()
            .map(|(rule, gates)| format!("{rule}[{}]", gates.join(",")))
            .collect();
        shown.join(" ")
    }
}

impl Sets {
    /// Whether a forbid or a gate could not be evaluated.
    pub(crate) fn forbids_err(&self) -> bool {
        ["forbids", "gates"]
            .iter()
            .any(|kind| self.erring.get(kind).is_some_and(|ids| !ids.is_empty()))
    }
}

fn add_to(set: &mut PolicySet, policy: &PolicySpec) {
    let id = PolicyId::new(&policy.id);
    if policy.links.is_empty() {
        let parsed = Policy::parse(Some(id), policy.text()).unwrap();
        set.add(parsed).unwrap();
        return;
    }
    let template = Template::parse(Some(id.clone()), policy.text()).unwrap();
    set.add_template(template).unwrap();
    for link in &policy.links {
        let slots = [
            (SlotId::principal(), &link.principal),
            (SlotId::resource(), &link.resource),
        ];
        let filled = slots
            .into_iter()
            .filter_map(|(slot, uid)| Some((slot, EntityUid::from_str(uid.as_ref()?).unwrap())));
        set.link(id.clone(), PolicyId::new(&link.id), filled.collect())
            .unwrap();
    }
}

pub(crate) fn to_uid(uid: &EntityRef) -> EntityUid {
    EntityUid::from_type_name_and_id(
        EntityTypeName::from_str(&uid.type_name).unwrap(),
        EntityId::new(&uid.id),
    )
}

/// A stored entity in Cedar's form, unchecked.
pub(crate) fn to_entity(stored: &StoredEntity) -> Entity {
    Entity::from_json_value(json!(stored.json()), None).unwrap()
}
