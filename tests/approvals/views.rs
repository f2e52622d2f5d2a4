//! What a reviewer is shown: all of it, and nothing that looks like something else.

use std::collections::BTreeMap;

use countersign::approval::{Fact, FrozenRequirement, SafeText, View, ViewWords};
use countersign::model::{EntityDescription, EntityRef, Record, Request, Value};
use proptest::prelude::*;

use super::digests::requests;
use super::support::{request, rule, seconds, user};

fn view_of(request: &Request) -> View {
    let rules = [rule("r", &[("", 1)])];
    view_with(request, &rules, &BTreeMap::new(), &BTreeMap::new())
}

fn view_with(
    request: &Request,
    requirements: &[FrozenRequirement],
    descriptions: &BTreeMap<String, String>,
    barred: &BTreeMap<EntityRef, String>,
) -> View {
    View::of(&ViewWords {
        request,
        action: "Action::\"Deploy\"",
        requirements,
        descriptions,
        barred,
    })
}

fn with(context: Vec<(&str, Value)>) -> Request {
    let pairs: Vec<(String, Value)> = context
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Request {
        context: Record::from(pairs),
        ..request()
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn record(name: &str, value: Value) -> Value {
    Value::Record(Record::from(vec![(name.to_owned(), value)]))
}

/// The leaves of a record, each with the names that lead to it.
fn leaves(record: &Record) -> Vec<(Vec<String>, Value)> {
    let mut all = Vec::new();
    for (name, value) in record.iter() {
        match value {
            Value::Record(inner) if !inner.is_empty() => {
                for (mut path, leaf) in leaves(inner) {
                    path.insert(0, name.to_owned());
                    all.push((path, leaf));
                }
            }
            leaf => all.push((vec![name.to_owned()], leaf.clone())),
        }
    }
    all
}

/// The texts and numbers inside a value.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Bool(flag) => vec![flag.to_string()],
        Value::Long(number) => vec![number.to_string()],
        Value::String(text) => vec![text.clone()],
        Value::Set(values) => values.iter().flat_map(words).collect(),
        Value::Record(record) => record
            .iter()
            .flat_map(|(name, value)| [vec![name.to_owned()], words(value)].concat())
            .collect(),
        Value::Entity(uid) => vec![uid.type_name.clone(), uid.id.clone()],
        Value::Extension { function, argument } => vec![function.to_string(), argument.clone()],
    }
}

/// Whether a text is shown as it is, so that it can be looked for.
fn is_plain(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn check_shown(facts: &[Fact], record: &Record) {
    let leaves = leaves(record);
    assert_eq!(facts.len(), leaves.len(), "{facts:?}");
    for (fact, (path, leaf)) in facts.iter().zip(&leaves) {
        for name in path.iter().filter(|name| is_plain(name)) {
            assert!(
                fact.name.as_str().contains(name.as_str()),
                "{fact:?} {path:?}"
            );
        }
        for word in words(leaf).iter().filter(|word| is_plain(word)) {
            assert!(
                fact.value.as_str().contains(word.as_str()),
                "{fact:?} {leaf:?}"
            );
        }
    }
}

/// Everything that is in a view, one after the other.
fn shown(view: &View) -> Vec<&SafeText> {
    let facts = [&view.requesters_side, &view.facts, &view.described];
    let facts = facts
        .into_iter()
        .flatten()
        .flat_map(|fact| [&fact.name, &fact.value]);
    let reasons = view.reasons.iter();
    let reasons = reasons.flat_map(|reason| [&reason.title, &reason.policy, &reason.sentence]);
    [
        &view.headline,
        &view.requester,
        &view.action,
        &view.resource,
    ]
    .into_iter()
    .chain(&view.on_behalf_of)
    .chain(&view.justification)
    .chain(facts)
    .chain(reasons)
    .collect()
}

proptest! {
    #[test]
    fn every_leaf_of_the_context_is_shown(request in requests()) {
        check_shown(&view_of(&request).facts, &request.context);
    }

    #[test]
    fn everything_described_is_shown(request in requests()) {
        let described = view_of(&request).described;
        let mut rest = described.as_slice();
        for entity in &request.entities {
            let leaves = leaves(&entity.attributes);
            let (attributes, behind) = rest.split_at(leaves.len());
            check_shown(attributes, &entity.attributes);
            rest = behind;
            if leaves.is_empty() || !entity.parents.is_empty() {
                let (fact, behind) = rest.split_first().unwrap();
                rest = behind;
                prop_assert!(fact.name.as_str().contains(&entity.uid.type_name));
                for parent in entity.parents.iter().filter(|parent| is_plain(&parent.id)) {
                    prop_assert!(fact.value.as_str().contains(&parent.to_string()));
                }
            }
        }
        prop_assert!(rest.is_empty());
    }

    /// What is shown is all there is: two requests that look alike are alike.
    #[test]
    fn two_requests_that_look_alike_are_alike(one in requests(), other in requests()) {
        let is_same = one == other;
        let views = (view_of(&one), view_of(&other));
        prop_assert_eq!(views.0 == views.1, is_same);
        prop_assert_eq!(views.0.digest() == views.1.digest(), is_same);
    }

    #[test]
    fn a_view_reads_back(request in requests()) {
        let view = view_of(&request);
        let text = serde_json::to_string(&view).unwrap();
        prop_assert_eq!(serde_json::from_str::<View>(&text).unwrap(), view);
    }

    /// Names, ids and values out of any characters: nothing is shown that moves, hides or breaks what stands beside it.
    #[test]
    fn hostile_texts_are_made_visible(
        hostile in proptest::collection::vec(
            proptest::sample::select("a \"\\.\n\r\t\0\u{1b}\u{7f}\u{85}\u{a0}\u{ad}\u{200b}\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041}`<!@|*_".chars().collect::<Vec<char>>()),
            1..8,
        ),
    ) {
        let hostile: String = hostile.into_iter().collect();
        let request = hostile_request(&hostile);
        let rules = [FrozenRequirement { title: hostile.clone(), gates: vec![hostile.clone()], ..rule("r", &[("", 1)]) }];
        let view = view_with(
            &request,
            &rules,
            &BTreeMap::from([(hostile.clone(), hostile.clone())]),
            &BTreeMap::from([(user(&hostile), hostile.clone())]),
        );
        for text in shown(&view) {
            let is_said = Some(text) == view.justification.as_ref();
            let harms = |c: char| (c.is_control() && !(is_said && c == '\n'))
                || "\u{a0}\u{ad}\u{200b}\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041}".contains(c);
            prop_assert!(!text.as_str().chars().any(harms), "{:?}", text);
        }
    }

    #[test]
    fn hostile_texts_that_differ_look_different(one in ".{0,6}", other in ".{0,6}") {
        let is_same = one == other;
        let views = (view_of(&hostile_request(&one)), view_of(&hostile_request(&other)));
        prop_assert_eq!(views.0.digest() == views.1.digest(), is_same);
        for (left, right) in views.0.facts.iter().zip(&views.1.facts) {
            prop_assert!((left == right) == is_same, "{:?} {:?}", left, right);
        }
    }
}

/// A request of which every word is `hostile`.
fn hostile_request(hostile: &str) -> Request {
    let names = |value| Record::from(vec![(hostile.to_owned(), value)]);
    Request {
        principal: EntityRef::new("Agent", hostile),
        resource: EntityRef::new("Service", hostile),
        context: names(Value::Set(vec![
            text(hostile),
            record(hostile, text(hostile)),
            Value::Entity(user(hostile)),
        ])),
        entities: vec![EntityDescription {
            uid: user(hostile),
            attributes: names(text(hostile)),
            parents: vec![user(hostile)],
        }],
        on_behalf_of: vec![user(hostile)],
        justification: Some(hostile.to_owned()),
        ..request()
    }
}

#[test]
fn the_words_beside_the_context_are_shown() {
    let request = Request {
        justification: Some("because\nof that".to_owned()),
        ..request()
    };
    let barred = BTreeMap::from([(user("owner"), "owns the agent".to_owned())]);
    let descriptions = BTreeMap::from([("gate-r".to_owned(), "Production is shared.".to_owned())]);
    let view = view_with(&request, &[rule("r", &[("", 1)])], &descriptions, &barred);
    let texts: Vec<&str> = shown(&view).into_iter().map(SafeText::as_str).collect();
    for expected in [
        "Deploy on Service::\"shop\"",
        "Agent::\"bot\"",
        "Action::\"Deploy\"",
        "Service::\"shop\"",
        "User::\"owner\"",
        "owns the agent",
        "environment",
        "\"production\"",
        "Rule r",
        "gate-r",
        "Production is shared.",
        "because\nof that",
    ] {
        assert!(texts.contains(&expected), "{expected} in {texts:?}");
    }
    assert!(view.grants.contains("50s"), "{}", view.grants);
}

// What is shown of a value must say where it stands.

fn check_look_different(one: Vec<(&str, Value)>, other: Vec<(&str, Value)>) {
    let views = [one, other].map(|context| view_of(&with(context)));
    assert_ne!(views[0].facts, views[1].facts);
    assert_ne!(views[0].digest(), views[1].digest());
}

#[test]
fn a_name_with_a_dot_does_not_look_like_two_names() {
    check_look_different(
        vec![("target.region", text("eu"))],
        vec![("target", record("region", text("eu")))],
    );
}

#[test]
fn a_value_below_an_empty_name_does_not_look_like_a_value_at_the_top() {
    check_look_different(
        vec![("", record("environment", text("dev")))],
        vec![("environment", text("dev"))],
    );
}

#[test]
fn a_text_does_not_look_like_the_value_it_spells() {
    for (spelled, value) in [
        ("true", Value::Bool(true)),
        ("1", Value::Long(1)),
        ("User::\"a\"", Value::Entity(user("a"))),
        ("[]", Value::Set(Vec::new())),
        ("{}", Value::Record(Record::default())),
    ] {
        check_look_different(vec![("a", text(spelled))], vec![("a", value)]);
    }
    check_look_different(
        vec![("a", Value::Set(vec![text("x\", \"y")]))],
        vec![("a", Value::Set(vec![text("x"), text("y")]))],
    );
}

// Everything that is shown is covered by the digest.

#[test]
fn the_digest_changes_with_each_thing_that_is_shown() {
    let barred = BTreeMap::from([(user("owner"), "owns the agent".to_owned())]);
    let request = Request {
        justification: Some("because".to_owned()),
        entities: vec![EntityDescription {
            uid: user("x"),
            attributes: Record::default(),
            parents: Vec::new(),
        }],
        ..request()
    };
    let view = view_with(
        &request,
        &[rule("r", &[("", 1)])],
        &BTreeMap::new(),
        &barred,
    );
    let other = || SafeText::of("other");
    let fact = || Fact {
        name: other(),
        value: other(),
    };
    let changes: Vec<Box<dyn Fn(&mut View)>> = vec![
        Box::new(|view| view.template += 1),
        Box::new(|view| view.headline = other()),
        Box::new(|view| view.requester = other()),
        Box::new(|view| view.on_behalf_of[0] = other()),
        Box::new(|view| view.on_behalf_of.clear()),
        Box::new(|view| view.requesters_side[0].name = other()),
        Box::new(|view| view.requesters_side[0].value = other()),
        Box::new(|view| view.requesters_side.clear()),
        Box::new(|view| view.action = other()),
        Box::new(|view| view.resource = other()),
        Box::new(|view| view.facts[0].name = other()),
        Box::new(|view| view.facts[0].value = other()),
        Box::new(|view| view.facts.push(fact())),
        Box::new(|view| view.described[0].value = other()),
        Box::new(|view| std::mem::swap(&mut view.described, &mut view.facts)),
        Box::new(|view| view.reasons[0].title = other()),
        Box::new(|view| view.reasons[0].policy = other()),
        Box::new(|view| view.reasons[0].sentence = other()),
        Box::new(|view| view.reasons.clear()),
        Box::new(|view| view.justification = None),
        Box::new(|view| view.justification = Some(SafeText::of(""))),
        Box::new(|view| view.grants.push('.')),
    ];
    let mut digests: Vec<_> = changes
        .iter()
        .map(|change| {
            let mut changed = view.clone();
            change(&mut changed);
            assert_ne!(changed, view);
            changed.digest()
        })
        .collect();
    digests.push(view.digest());
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn the_strictest_rule_says_how_long_the_grant_lives() {
    let mut short = rule("s", &[("", 1)]);
    short.redeem_within = seconds(20);
    let both = [rule("r", &[("", 1)]), short];
    let view = view_with(&request(), &both, &BTreeMap::new(), &BTreeMap::new());
    assert!(view.grants.contains("20s"), "{}", view.grants);
    assert_eq!(view.reasons.len(), 2);
}
