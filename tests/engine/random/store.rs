//! Random stores of entities.

use countersign::model::{EntityRef, Record};
use serde_json::json;

use super::schema::{GROUPS, IDS, NEW_ID, REGIONS, Schema};
use super::values::{any_value, random_record, random_value, record_json};
use super::{Dice, to_json};

/// An entity of the store.
#[derive(Clone, Debug)]
pub(crate) struct StoredEntity {
    pub(crate) uid: EntityRef,
    pub(crate) attributes: Record,
    pub(crate) parents: Vec<EntityRef>,
    pub(crate) tags: Record,
}

impl StoredEntity {
    /// The entity in Cedar's JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let uid = |uid: &EntityRef| json!({"type": uid.type_name, "id": uid.id});
        let mut entity = json!({
            "uid": uid(&self.uid),
            "attrs": record_json(&self.attributes),
            "parents": self.parents.iter().map(uid).collect::<Vec<_>>(),
        });
        if !self.tags.is_empty() {
            let tags = self
                .tags
                .iter()
                .map(|(name, value)| (name.to_owned(), to_json(value)));
            entity["tags"] = tags.collect::<serde_json::Map<_, _>>().into();
        }
        entity
    }
}

/// Every entity there could be, each stored or not. In a wild world attributes may be of other types, and actions are stored.
pub(crate) fn random_store(dice: &mut Dice, schema: &Schema, wild: bool) -> Vec<StoredEntity> {
    let mut store = Vec::new();
    for (position, known) in schema.types.iter().enumerate() {
        let ids: &[&str] = if !known.is_enumerated {
            &IDS
        } else if wild {
            &REGIONS
        } else {
            &[]
        };
        for id in ids {
            if dice.percent(96) {
                let uid = EntityRef::new(known.name, *id);
                store.push(random_entity(dice, schema, position, uid, wild));
            }
        }
    }
    if wild {
        store_actions(dice, schema, &mut store);
    }
    store
}

/// An entity that fits its type, or in a wild world nearly.
pub(crate) fn random_entity(
    dice: &mut Dice,
    schema: &Schema,
    position: usize,
    uid: EntityRef,
    wild: bool,
) -> StoredEntity {
    let known = &schema.types[position];
    let mut attributes = random_record(dice, schema, &known.fields, false);
    let mut tags = Record::default();
    if let Some(tag_type) = &known.tags {
        for name in dice.some(&["a", "b", ""], 50) {
            tags.insert(name.to_owned(), random_value(dice, schema, tag_type, false));
        }
    }
    if wild && dice.percent(20) {
        attributes.insert("name".to_owned(), any_value(dice, schema));
    }
    StoredEntity {
        parents: random_parents(dice, schema, position, &uid),
        uid,
        attributes,
        tags,
    }
}

/// Parents that close no circle: of a type further up, or of the same type with a later id.
fn random_parents(
    dice: &mut Dice,
    schema: &Schema,
    position: usize,
    uid: &EntityRef,
) -> Vec<EntityRef> {
    let mut parents = Vec::new();
    for parent_type in &schema.types[position].parents {
        let mut parent = schema.random_uid(dice, *parent_type);
        if dice.percent(15) {
            parent.id = NEW_ID.to_owned();
        }
        let is_later = || rank(&parent.id) > rank(&uid.id);
        if dice.percent(60) && (*parent_type != position || is_later()) {
            parents.push(parent);
        }
    }
    parents
}

fn rank(id: &str) -> Option<usize> {
    IDS.iter().position(|known| *known == id)
}

fn store_actions(dice: &mut Dice, schema: &Schema, store: &mut Vec<StoredEntity>) {
    let all = "Action::\"all\"";
    let actions = schema
        .actions
        .iter()
        .map(|action| (action.uid, action.groups.clone()));
    let groups = [(GROUPS[0], vec![]), (GROUPS[1], vec![all])];
    for (uid, parents) in actions.chain(groups) {
        if dice.percent(60) {
            let to_uid = |text: &str| crate::support::uid(text);
            store.push(StoredEntity {
                uid: to_uid(uid),
                attributes: Record::default(),
                parents: parents.into_iter().map(to_uid).collect(),
                tags: Record::default(),
            });
        }
    }
}
