//! Random schemas.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Dice;

/// A type of Cedar's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Bool,
    Long,
    String,
    /// A reference to an entity of the type at this position.
    Entity(usize),
    Set(Box<Self>),
    Record(Vec<Field>),
    Ip,
    Decimal,
    Datetime,
    Duration,
}

/// An attribute of a record, an entity or a context.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) field_type: Type,
    pub(crate) required: bool,
}

/// An entity type.
#[derive(Clone, Debug)]
pub(crate) struct EntityType {
    pub(crate) name: &'static str,
    pub(crate) fields: Vec<Field>,
    pub(crate) tags: Option<Type>,
    pub(crate) parents: Vec<usize>,
    pub(crate) is_enumerated: bool,
}

/// An action that can be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    /// The full UID.
    pub(crate) uid: &'static str,
    pub(crate) groups: Vec<&'static str>,
    pub(crate) principals: Vec<usize>,
    pub(crate) resources: Vec<usize>,
    pub(crate) context: Vec<Field>,
}

/// Entity types and actions.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) types: Vec<EntityType>,
    pub(crate) actions: Vec<Action>,
}

/// The ids of entities; nearly all are stored.
pub(crate) const IDS: [&str; 4] = ["a", "b", "", "odd \"id\"\n"];
/// The id of entities that are never stored, so that requests can describe them.
pub(crate) const NEW_ID: &str = "new";
pub(crate) const REGIONS: [&str; 3] = ["eu", "us", ""];
pub(crate) const GROUPS: [&str; 4] = [
    "Ops::Action::\"reads\"",
    "Action::\"writes\"",
    "Action::\"all\"",
    "Ns::Action::\"ops\"",
];
/// A context attribute that no path of a policy leads to; only the context as a whole holds it.
pub(crate) const UNREAD: &str = "trace";
const NAMES: [&str; 12] = [
    "name", "level", "owner", "team", "flags", "net", "score", "since", "meta", "ok", "peers",
    "odd name",
];
const TEAM: usize = 2;
const ORG: usize = 3;
const FOLDER: usize = 5;
const REGION: usize = 7;

impl Schema {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let mut types: Vec<EntityType> = [
            ("User", vec![TEAM]),
            ("Agent", vec![TEAM]),
            ("Team", vec![TEAM, ORG]),
            ("Org", vec![]),
            ("Doc", vec![FOLDER]),
            ("Folder", vec![FOLDER]),
            ("Ns::Host", vec![FOLDER]),
            ("Region", vec![]),
            ("Tier", vec![]),
        ]
        .into_iter()
        .map(|(name, parents)| EntityType {
            name,
            fields: Vec::new(),
            tags: None,
            parents,
            is_enumerated: name == "Region",
        })
        .collect();
        for described in types.iter_mut().take(REGION) {
            if !dice.percent(20) {
                described.fields = random_fields(dice, 5, 2);
            }
            if dice.percent(30) {
                described.tags = Some(random_type(dice, 1));
            }
        }
        let actions = [
            ("Ops::Action::\"read\"", vec![GROUPS[0]]),
            ("Action::\"list\"", vec![GROUPS[0], GROUPS[1]]),
            ("Action::\"write\"", vec![GROUPS[1]]),
            ("Ns::Action::\"read\"", vec![GROUPS[3]]),
            ("Action::\"stop\"", vec![]),
        ];
        let mut actions: Vec<Action> = actions
            .map(|(uid, groups)| random_action(dice, uid, groups))
            .into();
        // Few actions, so that several policies apply to each.
        while actions.len() > 3 {
            actions.swap_remove(dice.below(actions.len()));
        }
        Self { types, actions }
    }

    /// The schema in Cedar's syntax.
    pub(crate) fn text(&self) -> String {
        // By namespace; the first one has no name.
        let mut texts = BTreeMap::from([
            (
                "",
                "action \"all\";\naction \"writes\" in [\"all\"];\n".to_owned(),
            ),
            ("Ns", "action \"ops\";\n".to_owned()),
            ("Ops", "action \"reads\";\n".to_owned()),
        ]);
        for declared in &self.types {
            let (namespace, name) = split(declared.name);
            self.write_entity(texts.entry(namespace).or_default(), name, declared);
        }
        for action in &self.actions {
            let (namespace, name) = split(action.uid);
            self.write_action(texts.entry(namespace).or_default(), name, action);
        }
        let blocks = texts.into_iter().map(|(namespace, text)| match namespace {
            "" => text,
            _ => format!("namespace {namespace} {{\n{text}}}\n"),
        });
        blocks.collect()
    }

    fn write_entity(&self, out: &mut String, name: &str, declared: &EntityType) {
        if declared.is_enumerated {
            let _ = writeln!(out, "entity {name} enum {REGIONS:?};");
            return;
        }
        let parents = self.names(&declared.parents);
        let fields = self.fields_text(&declared.fields);
        let _ = write!(out, "entity {name}");
        if !parents.is_empty() {
            let _ = write!(out, " in [{parents}]");
        }
        let _ = write!(out, " {fields}");
        if let Some(tags) = &declared.tags {
            let _ = write!(out, " tags {}", self.type_text(tags));
        }
        out.push_str(";\n");
    }

    fn write_action(&self, out: &mut String, uid: &str, action: &Action) {
        let _ = write!(out, "action {uid}");
        if !action.groups.is_empty() {
            let _ = write!(out, " in [{}]", action.groups.join(", "));
        }
        let principals = self.names(&action.principals);
        let resources = self.names(&action.resources);
        let context = self.fields_text(&action.context);
        let _ = writeln!(
            out,
            " appliesTo {{ principal: [{principals}], resource: [{resources}], context: {context} }};"
        );
    }

    fn names(&self, types: &[usize]) -> String {
        let names: Vec<&str> = types.iter().map(|at| self.types[*at].name).collect();
        names.join(", ")
    }

    pub(crate) fn fields_text(&self, fields: &[Field]) -> String {
        let field = |field: &Field| {
            let mark = if field.required { "" } else { "?" };
            format!(
                "{:?}{mark}: {}",
                field.name,
                self.type_text(&field.field_type)
            )
        };
        let fields: Vec<String> = fields.iter().map(field).collect();
        format!("{{ {} }}", fields.join(", "))
    }

    fn type_text(&self, shown: &Type) -> String {
        match shown {
            Type::Bool => "Bool".to_owned(),
            Type::Long => "Long".to_owned(),
            Type::String => "String".to_owned(),
            Type::Entity(at) => self.types[*at].name.to_owned(),
            Type::Set(element) => format!("Set<{}>", self.type_text(element)),
            Type::Record(fields) => self.fields_text(fields),
            Type::Ip => "ipaddr".to_owned(),
            Type::Decimal => "decimal".to_owned(),
            Type::Datetime => "datetime".to_owned(),
            Type::Duration => "duration".to_owned(),
        }
    }

    /// The position of the type called `name`.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.types.iter().position(|known| known.name == name)
    }

    /// Whether entities of the type need not be stored.
    pub(crate) fn is_bare(&self, name: &str) -> bool {
        self.position(name).is_some_and(|at| {
            let known = &self.types[at];
            known.fields.is_empty() && known.tags.is_none() && known.parents.is_empty()
        })
    }
}

/// Namespace and name, without the word that every action has before its id.
fn split(name: &str) -> (&str, &str) {
    let (namespace, name) = ["Ns", "Ops"]
        .into_iter()
        .find_map(|known| Some((known, name.strip_prefix(known)?.strip_prefix("::")?)))
        .unwrap_or(("", name));
    (namespace, name.strip_prefix("Action::").unwrap_or(name))
}

fn random_action(dice: &mut Dice, uid: &'static str, groups: Vec<&'static str>) -> Action {
    let mut context = random_fields(dice, 6, 2);
    if dice.percent(40) {
        context.push(Field {
            name: "now",
            field_type: Type::Datetime,
            required: dice.percent(50),
        });
    }
    context.push(Field {
        name: UNREAD,
        field_type: Type::String,
        required: false,
    });
    let mut principals = dice.some(&[0, 1, TEAM], 35);
    if principals.is_empty() {
        principals.push(0);
    }
    let mut resources = dice.some(&[4, FOLDER, 6, REGION, 0], 30);
    if resources.is_empty() {
        resources.push(4);
    }
    Action {
        uid,
        groups,
        principals,
        resources,
        context,
    }
}

/// Up to `most` attributes with different names.
pub(crate) fn random_fields(dice: &mut Dice, most: usize, depth: usize) -> Vec<Field> {
    let count = 1 + dice.below(most);
    let mut fields: Vec<Field> = Vec::new();
    for _ in 0..count {
        let name = *dice.pick(&NAMES);
        if fields.iter().all(|field| field.name != name) {
            fields.push(Field {
                name,
                field_type: random_type(dice, depth),
                required: dice.percent(60),
            });
        }
    }
    fields
}

fn random_type(dice: &mut Dice, depth: usize) -> Type {
    let kinds = if depth == 0 { 10 } else { 14 };
    match dice.below(kinds) {
        0 => Type::Bool,
        1 => Type::Long,
        2 => Type::String,
        3..=5 => Type::Entity(dice.below(9)),
        6 => Type::Ip,
        7 => Type::Decimal,
        8 => Type::Datetime,
        9 => Type::Duration,
        10 | 11 => Type::Set(Box::new(random_type(dice, depth - 1))),
        _ => Type::Record(random_fields(dice, 3, depth - 1)),
    }
}
