//! What a reviewer is shown: built once, for every channel alike.
//!
//! Everything in it is safe to show, complete, and covered by its digest. What changes while it waits (votes, deadlines) is not
//! part of it, so that a vote can say which view it was cast on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{EntityDescription, EntityRef, Record, Request, Value};

use super::digest::{Canonical, Digest};
use super::safe_text::SafeText;
use super::state::FrozenRequirement;

/// The version of what is built here; one more with every change that a reviewer could see.
const TEMPLATE: u64 = 1;

/// What a reviewer is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Which version of the template built it.
    pub template: u64,
    /// What will be done to what, in one line.
    pub headline: SafeText,
    /// Who asks.
    pub requester: SafeText,
    /// For whom, nearest first.
    pub on_behalf_of: Vec<SafeText>,
    /// The requester's side, each with the reason: they cannot approve.
    pub requesters_side: Vec<Fact>,
    /// What will be done: the action's full name.
    pub action: SafeText,
    /// To what.
    pub resource: SafeText,
    /// The circumstances: every value of the context, by its path.
    pub facts: Vec<Fact>,
    /// What the caller says of entities that the server does not know.
    pub described: Vec<Fact>,
    /// Why a human is asked.
    pub reasons: Vec<Reason>,
    /// The requester's own words. Nobody has verified them.
    pub justification: Option<SafeText>,
    /// What approving grants.
    pub grants: String,
}

/// A name with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The path, such as `provenance.commit`.
    pub name: SafeText,
    /// The value, in Cedar's notation.
    pub value: SafeText,
}

/// A gate that asked for approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The rule's title.
    pub title: SafeText,
    /// The policy's id.
    pub policy: SafeText,
    /// The policy's sentence for people; the rule's title if it has none.
    pub sentence: SafeText,
}

/// What a view is built of.
#[derive(Clone, Copy, Debug)]
pub struct ViewWords<'a> {
    /// The request.
    pub request: &'a Request,
    /// The action's full name.
    pub action: &'a str,
    /// What it takes.
    pub requirements: &'a [FrozenRequirement],
    /// The gates' descriptions, by policy id.
    pub descriptions: &'a BTreeMap<String, String>,
    /// The requester's side, with the reasons.
    pub barred: &'a BTreeMap<EntityRef, String>,
}

impl View {
    /// Builds the view.
    pub fn of(words: &ViewWords<'_>) -> Self {
        let request = words.request;
        let entity = |uid: &EntityRef| SafeText::of(&uid.to_string());
        let mut facts = Vec::new();
        flatten("", &request.context, &mut facts);
        let mut described = Vec::new();
        for description in &request.entities {
            describe(description, &mut described);
        }
        let side = words.barred.iter().map(|(uid, why)| Fact {
            name: entity(uid),
            value: SafeText::of(why),
        });
        Self {
            template: TEMPLATE,
            headline: SafeText::of(&format!("{} on {}", request.action, request.resource)),
            requester: entity(&request.principal),
            on_behalf_of: request.on_behalf_of.iter().map(entity).collect(),
            requesters_side: side.collect(),
            action: SafeText::of(words.action),
            resource: entity(&request.resource),
            facts,
            described,
            reasons: reasons(words),
            justification: request.justification.as_deref().map(SafeText::lines_of),
            grants: grants(words.requirements),
        }
    }

    /// Whether some text mixes scripts, as names do that want to be taken for others.
    pub fn mixes_scripts(&self) -> bool {
        let facts = [&self.requesters_side, &self.facts, &self.described];
        let facts = facts
            .into_iter()
            .flatten()
            .flat_map(|fact| [&fact.name, &fact.value]);
        let texts = [
            &self.headline,
            &self.requester,
            &self.action,
            &self.resource,
        ];
        texts
            .into_iter()
            .chain(&self.on_behalf_of)
            .chain(&self.justification)
            .chain(facts)
            .any(SafeText::is_mixed_script)
    }

    /// The digest of everything a reviewer is shown.
    pub fn digest(&self) -> Digest {
        let mut canonical = Canonical::new("countersign view v1");
        canonical.number(self.template);
        for text in [
            &self.headline,
            &self.requester,
            &self.action,
            &self.resource,
        ] {
            canonical.text(text.as_str());
        }
        let text = |inner: &mut Canonical, text: &SafeText| inner.text(text.as_str());
        let fact = |inner: &mut Canonical, fact: &Fact| {
            inner.text(fact.name.as_str());
            inner.text(fact.value.as_str());
        };
        canonical.list(&self.on_behalf_of, text);
        for facts in [&self.requesters_side, &self.facts, &self.described] {
            canonical.list(facts, fact);
        }
        canonical.list(&self.reasons, |inner, reason| {
            inner.text(reason.title.as_str());
            inner.text(reason.policy.as_str());
            inner.text(reason.sentence.as_str());
        });
        canonical.list(&self.justification, text);
        canonical.text(&self.grants);
        canonical.digest()
    }
}

fn reasons(words: &ViewWords<'_>) -> Vec<Reason> {
    let of = |requirement: &FrozenRequirement, gate: &String| Reason {
        title: SafeText::of(&requirement.title),
        policy: SafeText::of(gate),
        sentence: SafeText::of(words.descriptions.get(gate).unwrap_or(&requirement.title)),
    };
    words
        .requirements
        .iter()
        .flat_map(|each| each.gates.iter().map(move |gate| of(each, gate)))
        .collect()
}

fn grants(requirements: &[FrozenRequirement]) -> String {
    let within = requirements
        .iter()
        .map(|each| each.redeem_within)
        .min()
        .unwrap_or_default();
    let within = jiff::SignedDuration::try_from(within).unwrap_or(jiff::SignedDuration::MAX);
    format!("this exact action, once, within {within:#} of the deciding vote")
}

/// A name as a step of a path: in quotes unless it is an identifier, so that no two paths look alike.
pub fn path_step(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

/// Writes every value below `prefix` with its path. An empty record or set is a value too: nothing is left out.
fn flatten(prefix: &str, record: &Record, facts: &mut Vec<Fact>) {
    for (name, value) in record.iter() {
        let step = path_step(name);
        let path = if prefix.is_empty() {
            step
        } else {
            format!("{prefix}.{step}")
        };
        match value {
            Value::Record(inner) if !inner.is_empty() => flatten(&path, inner, facts),
            Value::Bool(_)
            | Value::Long(_)
            | Value::String(_)
            | Value::Set(_)
            | Value::Record(_)
            | Value::Entity(_)
            | Value::Extension { .. } => {
                facts.push(Fact {
                    name: SafeText::of(&path),
                    value: SafeText::of(&notation(value)),
                });
            }
        }
    }
}

fn describe(description: &EntityDescription, facts: &mut Vec<Fact>) {
    let name = description.uid.to_string();
    let before = facts.len();
    flatten(&name, &description.attributes, facts);
    if !description.parents.is_empty() {
        let parents: Vec<String> = description
            .parents
            .iter()
            .map(ToString::to_string)
            .collect();
        let value = SafeText::of(&format!("in {}", parents.join(", ")));
        facts.push(Fact {
            name: SafeText::of(&name),
            value,
        });
    }
    if facts.len() == before {
        facts.push(Fact {
            name: SafeText::of(&name),
            value: SafeText::of("without attributes"),
        });
    }
}

/// A value as Cedar writes it.
fn notation(value: &Value) -> String {
    let join = |values: &[Value]| values.iter().map(notation).collect::<Vec<_>>().join(", ");
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Long(number) => number.to_string(),
        Value::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        Value::Set(values) => format!("[{}]", join(values)),
        Value::Record(record) => {
            let pairs = record
                .iter()
                .map(|(name, value)| format!("{name:?}: {}", notation(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Entity(uid) => uid.to_string(),
        Value::Extension { function, argument } => format!("{function}({argument:?})"),
    }
}
