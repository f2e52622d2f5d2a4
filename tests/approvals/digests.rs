//! The digest of a request: equal requests have one, different requests have different ones.

use countersign::approval::{Digest, request_digest};
use countersign::model::{EntityDescription, EntityRef, Record, Request, Value};
use proptest::prelude::*;

use super::support::{request, user};

/// A request that is what it is for no other reason than its parts: what is equal here means the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Bool(bool),
    Long(i64),
    Text(String),
    Set(std::collections::BTreeSet<Self>),
    Record(std::collections::BTreeMap<String, Self>),
    Entity(EntityRef),
    Extension(String, String),
    List(Vec<Self>),
}

fn meaning(value: &Value) -> Meaning {
    match value {
        Value::Bool(flag) => Meaning::Bool(*flag),
        Value::Long(number) => Meaning::Long(*number),
        Value::String(text) => Meaning::Text(text.clone()),
        Value::Set(values) => Meaning::Set(values.iter().map(meaning).collect()),
        Value::Record(record) => meaning_of_record(record),
        Value::Entity(uid) => Meaning::Entity(uid.clone()),
        Value::Extension { function, argument } => {
            let argument = texts(function, argument).unwrap_or_else(|| argument.clone());
            Meaning::Extension(function.to_string(), argument)
        }
    }
}

fn meaning_of_record(record: &Record) -> Meaning {
    let pair = |(name, value): (&str, &Value)| (name.to_owned(), meaning(value));
    Meaning::Record(record.iter().map(pair).collect())
}

fn meaning_of(request: &Request) -> Meaning {
    let entity = |uid: &EntityRef| Meaning::Entity(uid.clone());
    let described = request.entities.iter().map(|described| {
        Meaning::List(vec![
            entity(&described.uid),
            meaning_of_record(&described.attributes),
            Meaning::Set(described.parents.iter().map(entity).collect()),
        ])
    });
    Meaning::List(vec![
        entity(&request.principal),
        entity(&request.resource),
        meaning_of_record(&request.context),
        Meaning::Set(described.collect()),
        Meaning::List(request.on_behalf_of.iter().map(entity).collect()),
    ])
}

/// Decimals without their last zeros; what is not a number is not read.
fn texts(function: &str, argument: &str) -> Option<String> {
    let is_number = argument
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    (function == "decimal" && is_number).then(|| argument.trim_end_matches('0').to_owned())
}

fn digest(request: &Request) -> Digest {
    request_digest(request, "Action::\"Deploy\"", texts)
}

/// Few texts, so that two requests are often nearly the same; all of them are easily taken for another.
fn text() -> impl Strategy<Value = String> {
    let texts = [
        "",
        "a",
        "b",
        "ab",
        "a.b",
        "a\0",
        "\u{e9}",
        "e\u{301}",
        "A",
        "1",
        "1.10",
        "1.1",
        "true",
        "User::\"a\"",
        "\u{202e}a",
        "a\u{200b}",
    ];
    proptest::sample::select(texts.to_vec()).prop_map(str::to_owned)
}

fn entity() -> impl Strategy<Value = EntityRef> {
    (proptest::sample::select(vec!["User", "Use"]), text())
        .prop_map(|(type_name, id)| EntityRef::new(type_name, id))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        proptest::sample::select(vec![0, 1, -1, 1 << 53, (1 << 53) + 1, i64::MIN, i64::MAX])
            .prop_map(Value::Long),
        text().prop_map(Value::String),
        entity().prop_map(Value::Entity),
        (proptest::sample::select(vec!["decimal", "ip"]), text()).prop_map(
            |(function, argument)| Value::Extension {
                function: function.into(),
                argument,
            }
        ),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Set),
            proptest::collection::vec((text(), inner), 0..3)
                .prop_map(|pairs| Value::Record(Record::from(pairs))),
        ]
    })
}

fn record() -> impl Strategy<Value = Record> {
    proptest::collection::vec((text(), value()), 0..3).prop_map(Record::from)
}

fn description() -> impl Strategy<Value = EntityDescription> {
    let parents = proptest::collection::vec(entity(), 0..3);
    (entity(), record(), parents).prop_map(|(uid, attributes, parents)| EntityDescription {
        uid,
        attributes,
        parents,
    })
}

/// Requests of which each part is often absent or empty.
pub(crate) fn requests() -> impl Strategy<Value = Request> {
    (
        entity(),
        entity(),
        record(),
        proptest::collection::vec(description(), 0..2),
        proptest::collection::vec(entity(), 0..3),
    )
        .prop_map(
            |(principal, resource, context, entities, on_behalf_of)| Request {
                entities,
                on_behalf_of,
                ..Request::new(principal, "Deploy", resource, context)
            },
        )
}

/// The same request in other words: sets the other way round and twice, descriptions the other way round.
fn reworded(request: &Request) -> Request {
    let mut request = request.clone();
    request.context = reworded_record(&request.context);
    for described in &mut request.entities {
        described.attributes = reworded_record(&described.attributes);
        described.parents.reverse();
        let again = described.parents.clone();
        described.parents.extend(again);
    }
    request.entities.reverse();
    request
}

fn reworded_record(record: &Record) -> Record {
    let mut pairs: Vec<(String, Value)> = record
        .iter()
        .map(|(name, value)| (name.to_owned(), reworded_value(value)))
        .collect();
    pairs.reverse();
    Record::from(pairs)
}

fn reworded_value(value: &Value) -> Value {
    match value {
        Value::Set(values) => {
            let mut values: Vec<Value> = values.iter().map(reworded_value).rev().collect();
            values.extend(values.clone());
            Value::Set(values)
        }
        Value::Record(record) => Value::Record(reworded_record(record)),
        Value::Extension { function, argument } if texts(function, argument).is_some() => {
            Value::Extension {
                function: function.clone(),
                argument: format!("{}00", argument.trim_end_matches('0')),
            }
        }
        other => other.clone(),
    }
}

/// Every request that differs from `request` in one place.
fn altered(request: &Request) -> Vec<Request> {
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(&mut Request)| {
        let mut other = request.clone();
        change(&mut other);
        all.push(other);
    };
    push(&|other| other.principal.id.push('x'));
    push(&|other| other.principal.type_name.push('x'));
    push(&|other| other.resource.id.push('\0'));
    push(&|other| other.on_behalf_of.push(user("x")));
    push(&|other| other.context.insert("x".to_owned(), Value::Set(Vec::new())));
    push(&|other| {
        other.entities.push(EntityDescription {
            uid: user("x"),
            attributes: Record::default(),
            parents: Vec::new(),
        });
    });
    for place in 0..request.on_behalf_of.len() {
        push(&|other| {
            other.on_behalf_of.remove(place);
        });
    }
    for (name, value) in request.context.iter() {
        for changed in altered_value(value) {
            push(&|other| other.context.insert(name.to_owned(), changed.clone()));
        }
    }
    all
}

fn altered_value(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(flag) => vec![Value::Bool(!flag), Value::String(flag.to_string())],
        Value::Long(number) => vec![
            Value::Long(number.wrapping_add(1)),
            Value::String(number.to_string()),
        ],
        Value::String(text) => vec![
            Value::String(format!("{text}\u{301}")),
            Value::String(format!("{text}\0")),
            Value::Set(vec![value.clone()]),
        ],
        Value::Set(values) => {
            let more = [values.clone(), vec![Value::Long(7)]].concat();
            vec![Value::Set(more), Value::Set(vec![value.clone()])]
        }
        Value::Record(record) => {
            let mut more = record.clone();
            more.insert("x".to_owned(), Value::Bool(false));
            vec![Value::Record(more), Value::Set(vec![value.clone()])]
        }
        Value::Entity(uid) => vec![
            Value::Entity(EntityRef::new(
                uid.type_name.clone(),
                format!("{}x", uid.id),
            )),
            Value::String(uid.to_string()),
        ],
        Value::Extension { function, argument } => vec![
            Value::Extension {
                function: function.clone(),
                argument: format!("{argument}7"),
            },
            Value::String(argument.clone()),
        ],
    }
}

proptest! {
    #[test]
    fn two_requests_have_one_digest_if_they_mean_the_same(one in requests(), other in requests()) {
        prop_assert_eq!(
            digest(&one) == digest(&other),
            meaning_of(&one) == meaning_of(&other)
        );
    }

    #[test]
    fn one_part_of_two_requests_has_one_digest_if_it_means_the_same(one in value(), other in value()) {
        let of = |value: &Value| Request {
            context: Record::from(vec![("a".to_owned(), value.clone())]),
            ..request()
        };
        prop_assert_eq!(
            digest(&of(&one)) == digest(&of(&other)),
            meaning(&one) == meaning(&other)
        );
    }

    #[test]
    fn a_request_in_other_words_has_the_same_digest(request in requests()) {
        let reworded = reworded(&request);
        prop_assert_eq!(meaning_of(&request), meaning_of(&reworded));
        prop_assert_eq!(digest(&request), digest(&reworded));
    }

    #[test]
    fn a_request_that_differs_in_one_place_has_another_digest(request in requests()) {
        for other in altered(&request) {
            prop_assert!(
                (meaning_of(&request) == meaning_of(&other)) == (digest(&request) == digest(&other)),
                "{:?}", other
            );
        }
    }
}

#[test]
fn the_action_is_part_of_it_and_so_is_its_place() {
    let request = request();
    assert_ne!(
        request_digest(&request, "Action::\"a\"", texts),
        request_digest(&request, "Action::\"b\"", texts)
    );
    let swapped = Request {
        principal: request.resource.clone(),
        resource: request.principal.clone(),
        ..request.clone()
    };
    assert_ne!(digest(&request), digest(&swapped));
}

#[test]
fn the_order_of_those_acted_for_matters() {
    let of = |names: [&str; 2]| Request {
        on_behalf_of: names.map(user).to_vec(),
        ..request()
    };
    assert_ne!(digest(&of(["a", "b"])), digest(&of(["b", "a"])));
}

#[test]
fn how_a_request_is_presented_is_not_part_of_it() {
    let plain = request();
    let presented = Request {
        caller: "another gateway".to_owned(),
        mode: countersign::model::Mode::Check,
        approval_id: Some("a-1".to_owned()),
        request_id: Some("k".to_owned()),
        justification: Some("because".to_owned()),
        min_policy_version: Some("p".to_owned()),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..plain.clone()
    };
    assert_eq!(digest(&plain), digest(&presented));
}

/// The bytes that are digested are a promise: approvals outlive a release.
#[test]
fn the_digest_of_a_known_request_stays() {
    assert_eq!(
        digest(&request()).to_string(),
        "6e41a841be7c7518a020e6d83d5beda0377fb7f1829228eac830faa48a10ac05"
    );
}
