//! Random policies.

use std::fmt::Write as _;

use super::Dice;
use super::conditions::{Env, random_condition};
use super::schema::{GROUPS, Schema};

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Permit,
    Forbid,
    Gate,
}

/// A link of a template.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) id: String,
    pub(crate) principal: Option<String>,
    pub(crate) resource: Option<String>,
}

/// A policy, or a template with its links.
#[derive(Clone, Debug)]
pub(crate) struct PolicySpec {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// The rule, for a gate.
    pub(crate) rule: &'static str,
    /// Effect, scope and conditions.
    pub(crate) body: String,
    /// Empty exactly if it is no template.
    pub(crate) links: Vec<Link>,
}

pub(crate) const RULES: [&str; 3] = ["one", "two", "three"];

impl PolicySpec {
    /// The policy with its annotations.
    pub(crate) fn text(&self) -> String {
        match self.kind {
            Kind::Permit | Kind::Forbid => format!("@id(\"{}\")\n{}\n", self.id, self.body),
            Kind::Gate => format!(
                "@id(\"{}\")\n@approval(\"{}\")\n{}\n",
                self.id, self.rule, self.body
            ),
        }
    }

    /// Puts `prefix` before its names.
    pub(crate) fn rename(&mut self, prefix: &str) {
        self.id.insert_str(0, prefix);
        for link in &mut self.links {
            link.id.insert_str(0, prefix);
        }
    }

    pub(crate) fn links_json(&self) -> Vec<serde_json::Value> {
        let link = |link: &Link| {
            let mut args = serde_json::Map::new();
            for (slot, value) in [
                ("?principal", &link.principal),
                ("?resource", &link.resource),
            ] {
                if let Some(value) = value {
                    args.insert(slot.to_owned(), value.as_str().into());
                }
            }
            serde_json::json!({"template_id": self.id, "link_id": link.id, "args": args})
        };
        self.links.iter().map(link).collect()
    }
}

/// `count` policies. In a wild world they need not fit the schema.
pub(crate) fn random_policies(
    dice: &mut Dice,
    schema: &Schema,
    count: usize,
    wild: bool,
) -> Vec<PolicySpec> {
    (0..count)
        .map(|number| random_policy(dice, schema, &format!("p{number:02}"), wild))
        .collect()
}

fn random_policy(dice: &mut Dice, schema: &Schema, id: &str, wild: bool) -> PolicySpec {
    let kind = match dice.below(100) {
        0..=49 => Kind::Permit,
        50..=69 => Kind::Forbid,
        _ => Kind::Gate,
    };
    let action = dice.pick(&schema.actions);
    let env = Env {
        schema,
        principal: *dice.pick(&action.principals),
        resource: *dice.pick(&action.resources),
        action,
        wild,
    };
    let principal = random_side(dice, &env, "principal");
    let resource = random_side(dice, &env, "resource");
    let effect = if kind == Kind::Permit {
        "permit"
    } else {
        "forbid"
    };
    let mut body = format!(
        "{effect} ({principal}, {}, {resource})",
        random_action(dice, &env)
    );
    // A permit without a condition lets the forbids and gates decide.
    let clauses = match kind {
        Kind::Permit if dice.percent(60) => 0,
        Kind::Gate if dice.percent(10) => 0,
        Kind::Permit | Kind::Forbid | Kind::Gate => 1 + dice.below(2),
    };
    for _ in 0..clauses {
        let word = if dice.percent(75) { "when" } else { "unless" };
        let _ = write!(body, "\n{word} {{ {} }}", random_condition(dice, &env, 2));
    }
    body.push(';');
    let links = random_links(
        dice,
        &env,
        id,
        [&principal, &resource].map(|side| side.contains('?')),
    );
    PolicySpec {
        id: id.to_owned(),
        kind,
        rule: *dice.pick(&RULES),
        body,
        links,
    }
}

/// One side of a scope; a question mark in it is a slot.
fn random_side(dice: &mut Dice, env: &Env<'_>, side: &str) -> String {
    let position = env.position(side);
    let types = &env.schema.types;
    let known = if env.wild && dice.percent(15) {
        dice.below(types.len())
    } else {
        position
    };
    let name = types[known].name;
    let itself = env.schema.random_uid(dice, known);
    let group = match types[known].parents.as_slice() {
        [] => itself.clone(),
        parents => {
            let parent = *dice.pick(parents);
            env.schema.random_uid(dice, parent)
        }
    };
    let slot = format!("?{side}");
    match dice.below(100) {
        0..=34 => side.to_owned(),
        35..=66 => format!("{side} is {name}"),
        67..=72 => format!("{side} == {itself}"),
        73..=80 => format!("{side} in {group}"),
        81..=88 => format!("{side} is {name} in {group}"),
        89..=91 => format!("{side} == {slot}"),
        92..=96 => format!("{side} in {slot}"),
        _ => format!("{side} is {name} in {slot}"),
    }
}

fn random_action(dice: &mut Dice, env: &Env<'_>) -> String {
    let uid = env.action.uid;
    let other = dice.pick(&env.schema.actions).uid;
    let group = env.action.groups.first().copied().unwrap_or(uid);
    match dice.below(100) {
        0..=14 => "action".to_owned(),
        15..=59 => format!("action == {uid}"),
        60..=74 => format!("action in {group}"),
        75..=84 => format!("action in [{uid}, {other}]"),
        85..=89 => format!("action in [{other}, {group}]"),
        90..=93 => format!("action in {}", GROUPS[2]),
        _ => format!("action in [{uid}]"),
    }
}

fn random_links(dice: &mut Dice, env: &Env<'_>, id: &str, has_slot: [bool; 2]) -> Vec<Link> {
    if has_slot == [false, false] {
        return Vec::new();
    }
    let count = 1 + dice.below(3);
    let fill = |dice: &mut Dice, wanted: bool, side: &str| {
        wanted.then(|| {
            let position = env.position(side);
            let parents = &env.schema.types[position].parents;
            let filled = if parents.is_empty() || dice.percent(50) {
                position
            } else {
                *dice.pick(parents)
            };
            env.schema.random_uid(dice, filled).to_string()
        })
    };
    (0..count)
        .map(|number| Link {
            id: format!("{id}-link{number}"),
            principal: fill(dice, has_slot[0], "principal"),
            resource: fill(dice, has_slot[1], "resource"),
        })
        .collect()
}
