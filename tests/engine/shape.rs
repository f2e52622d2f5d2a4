//! The check of requests against the schema: never laxer than Cedar's own, and its words.

use countersign::model::{Record, Request, Value};
use countersign::policy::Engine;
use serde_json::json;

use crate::random::{Dice, any_value, reference};
use crate::support::{Files, NOW, ask, words};
use crate::trial::Trial;

/// The schemas, and the requests for each.
const SETS: u64 = 60;
const REQUESTS: usize = 150;

/// How the two checks came out.
#[derive(Debug, Default)]
struct Tally {
    both_accept: usize,
    both_refuse: usize,
}

#[test]
fn we_accept_nothing_that_cedar_refuses_and_then_decide_alike() {
    let mut tally = Tally::default();
    for seed in 80_000..80_000 + SETS {
        let mut trial = Trial::with_schema(seed);
        for _ in 0..REQUESTS {
            let mut request = trial.request();
            for _ in 0..trial.dice.below(3) {
                spoil(&mut trial, &mut request);
            }
            trial.supply_clock(&mut request, "1970-01-01");
            compare(&trial, &request, &mut tally);
        }
    }
    assert!(tally.both_accept > 2_000, "{tally:?}");
    assert!(tally.both_refuse > 2_000, "{tally:?}");
}

fn compare(trial: &Trial, request: &Request, tally: &mut Tally) {
    let cedar = trial.stock.request(request).and_then(|cedar| {
        let entities = trial.stock.entities(request, &[])?;
        Ok((cedar, entities))
    });
    let prepared = match (trial.snapshot.prepare(request.clone()), &cedar) {
        (Ok(prepared), Ok(_)) => prepared,
        (Err(_), Err(_)) => {
            tally.both_refuse += 1;
            return;
        }
        (Err(problem), Ok(_)) => {
            // A short reference with more fields than type and id: Cedar overlooks them.
            let is_overfull = problem.message.starts_with("expected a reference")
                && problem.message.ends_with("got a record");
            assert!(
                is_overfull,
                "Cedar accepts what we refuse: {problem}\n{}",
                trial.reproduction(request)
            );
            return;
        }
        (Ok(_), Err(error)) => panic!(
            "we accept what Cedar refuses: {error}\n{}",
            trial.reproduction(request)
        ),
    };
    tally.both_accept += 1;
    // What a cached answer would not notice must not be refused without one.
    let plan = trial
        .snapshot
        .plan(&prepared, NOW)
        .unwrap_or_else(|problem| {
            panic!(
                "accepted first and refused later: {problem}\n{}",
                trial.reproduction(request)
            )
        });
    let decided = plan.decide(Engine::Index);
    let (cedar, entities) = cedar.unwrap();
    let sets = trial.stock.sets(&cedar, &entities);
    let expected = trial.stock.words(&sets, trial.posture);
    assert!(
        words(&decided) == expected || words(&decided).starts_with("DENY missing"),
        "stock Cedar says {expected}, we say {}\n{}",
        words(&decided),
        trial.reproduction(request)
    );
}

/// Changes one value of the request, mostly to what does not fit.
fn spoil(trial: &mut Trial, request: &mut Request) {
    let described = request.entities.len();
    let at = trial.dice.below(described + 1);
    if at < described && trial.dice.percent(25) {
        let position = trial.dice.below(trial.schema.types.len());
        let parent = trial.schema.random_uid(&mut trial.dice, position);
        request.entities[at].parents = vec![parent];
        return;
    }
    if trial.dice.percent(8) {
        let position = trial.dice.below(trial.schema.types.len());
        request.resource = trial.schema.random_uid(&mut trial.dice, position);
        return;
    }
    let record = match request.entities.get_mut(at) {
        Some(described) => &mut described.attributes,
        None => &mut request.context,
    };
    let any = any_value(&mut trial.dice, &trial.schema);
    *record = spoilt_record(&mut trial.dice, std::mem::take(record), any);
}

fn spoilt_record(dice: &mut Dice, record: Record, any: Value) -> Record {
    let mut fields: Vec<(String, Value)> = record.into_iter().collect();
    if fields.is_empty() || dice.percent(10) {
        fields.push(((*dice.pick(&["level", "nope", "", "type"])).to_owned(), any));
    } else {
        let at = dice.below(fields.len());
        if dice.percent(15) {
            fields.remove(at);
        } else {
            let (_, value) = &mut fields[at];
            *value = spoilt(dice, std::mem::replace(value, Value::Bool(true)), any);
        }
    }
    fields.into_iter().collect()
}

fn spoilt(dice: &mut Dice, value: Value, any: Value) -> Value {
    if dice.percent(20) {
        return any;
    }
    match value {
        Value::Set(mut values) => {
            if let Some(first) = values.pop() {
                values.push(spoilt(dice, first, any));
            } else {
                values.push(any);
            }
            Value::Set(values)
        }
        Value::Record(record) => Value::Record(spoilt_record(dice, record, any)),
        Value::Entity(mut uid) => match dice.below(5) {
            0 => Value::Record(reference(&uid)),
            1 => {
                uid.type_name = "Nope".to_owned();
                Value::Entity(uid)
            }
            2 => {
                uid.type_name = "Region".to_owned();
                Value::Record(reference(&uid))
            }
            3 => Value::Set(vec![Value::Entity(uid)]),
            _ => {
                uid.id = "nowhere".to_owned();
                Value::Entity(uid)
            }
        },
        Value::Extension { function, argument } => match dice.below(4) {
            0 => Value::String(argument),
            1 => Value::Extension {
                function: "ip".into(),
                argument,
            },
            2 => Value::Extension {
                function: "nope".into(),
                argument,
            },
            _ => Value::Extension {
                function,
                argument: odd_argument(dice),
            },
        },
        Value::String(_) => Value::String(odd_argument(dice)),
        Value::Bool(flag) => Value::Long(i64::from(flag)),
        Value::Long(number) => Value::String(number.to_string()),
    }
}

/// What some reader of addresses, numbers or times might accept.
fn odd_argument(dice: &mut Dice) -> String {
    let odd = [
        "",
        " ",
        "1",
        "1.0",
        "1.00000",
        "+1.0",
        "01.0",
        "1.",
        ".1",
        "-0.0",
        "1e3",
        "922337203685477.5807",
        "922337203685477.5808",
        "10.0.0.1",
        "10.0.0.01",
        "10.0.0.256",
        "010.0.0.1",
        "10.0.0.1/33",
        "10.0.0.1/8",
        "10.0.0.1/08",
        "10.0.0.1 ",
        "10.0.0",
        "::",
        "::1/129",
        "::ffff:10.0.0.1",
        "1::2::3",
        "fe80::1%eth0",
        "0x0a.0.0.1",
        "1970-01-01",
        "1970-1-1",
        "2023-02-29",
        "2024-02-29",
        "1970-01-01T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:00:60Z",
        "1970-01-01T00:00:00.1Z",
        "1970-01-01T00:00:00.123+0100",
        "1970-01-01T00:00:00+2400",
        "0000-01-01",
        "10000-01-01",
        "1h",
        "1h1h",
        "1d2h3m4s5ms",
        "1s1m",
        "-1h",
        "--1h",
        "h",
        "9223372036854775807ms",
        "9223372036854775808ms",
        "1 h",
        "１０.0.0.1",
    ];
    (*dice.pick(&odd)).to_owned()
}

const SCHEMA: &str = r#"
entity Region enum ["eu", "us"];
entity Team;
entity User in [Team] { level?: Long };
entity Host;
action run appliesTo {
  principal: User, resource: Host,
  context: {
    hosts?: Set<String>, count?: Long, who?: User, region?: Region, at?: datetime, from?: ipaddr, price?: decimal,
    span?: duration, deep?: { list: Set<{ name: String }> },
  },
};
action stop appliesTo { principal: User, resource: Host, context: { why: String } };
action work;
"#;

fn says(context: serde_json::Value, expected: &str) {
    let snapshot = Files::new("").schema(SCHEMA).snapshot();
    let refusal = ask("User::\"u\"", "run", "Host::\"h\"")
        .context(&context)
        .refusal(&snapshot);
    assert_eq!(refusal, expected, "for {context}");
}

#[test]
fn a_misfit_is_named_with_its_place_and_both_types() {
    says(
        json!({"hosts": ["a", "b", 3]}),
        "context.hosts[2]: expected a String, got a Long",
    );
    says(
        json!({"hosts": "a"}),
        "context.hosts: expected a list of String, got a String",
    );
    says(
        json!({"count": "1"}),
        "context.count: expected a Long, got a String",
    );
    says(
        json!({"count": true}),
        "context.count: expected a Long, got a Bool",
    );
    says(
        json!({"deep": {"list": [{"name": "a"}, {"name": []}]}}),
        "context.deep.list[1].name: expected a String, got a Set",
    );
    says(
        json!({"deep": {}}),
        "context.deep.list: is required, a list of record",
    );
    says(
        json!({"deep": {"list": [{}]}}),
        "context.deep.list[0].name: is required, a String",
    );
    says(
        json!({"cuont": 1}),
        "context.cuont: the schema has no such attribute; did you mean `count`?",
    );
    says(
        json!({"who": "u"}),
        "context.who: expected a reference {\"type\": \"User\", \"id\": ..}, got a String",
    );
    says(
        json!({"who": {"type": "Team", "id": "t"}}),
        "context.who: expected a `User`, got a `Team`",
    );
    says(
        json!({"who": {"__entity": {"type": "User", "id": "u"}}, "region": {"type": "Region", "id": "uk"}}),
        "context.region: `Region` has only the ids eu, us",
    );
    says(
        json!({"from": {"__extn": {"fn": "decimal", "arg": "1.0"}}}),
        "context.from: expected a ipaddr, got the result of `decimal`",
    );
}

#[test]
fn an_unreadable_extension_value_is_explained_in_cedars_words() {
    for (name, argument) in [
        ("from", "10.0.0.256"),
        ("price", "1"),
        ("at", "yesterday"),
        ("span", "soon"),
    ] {
        let snapshot = Files::new("").schema(SCHEMA).snapshot();
        let refusal = ask("User::\"u\"", "run", "Host::\"h\"")
            .context(&json!({ name: argument }))
            .refusal(&snapshot);
        assert!(
            refusal.starts_with(&format!("context.{name}: error while evaluating")),
            "{refusal}"
        );
    }
}

#[test]
fn every_field_of_a_request_is_named_where_it_is_wrong() {
    let snapshot = Files::new("").schema(SCHEMA).snapshot();
    let run = || ask("User::\"u\"", "run", "Host::\"h\"");
    for (request, expected) in [
        (
            ask("User::\"u\"", "stop", "Host::\"h\""),
            "context.why: is required, a String",
        ),
        (
            ask("User::\"u\"", "rum", "Host::\"h\""),
            "action: the schema has no action `rum`; did you mean `run`?",
        ),
        (
            ask("User::\"u\"", "work", "Host::\"h\""),
            "principal.type: `work` does not apply to a `User`, only to nothing: it is a group",
        ),
        (
            ask("Usr::\"u\"", "run", "Host::\"h\""),
            "principal.type: the schema has no entity type `Usr`; did you mean `User`?",
        ),
        (
            ask("Host::\"h\"", "run", "User::\"u\""),
            "principal.type: `run` does not apply to a `Host`, only to `User`",
        ),
        (
            ask("User::\"u\"", "run", "User::\"u\""),
            "resource.type: `run` does not apply to a `User`, only to `Host`",
        ),
        (
            run().describe("User::\"u\"", &json!({"level": "1"}), &[]),
            "principal.attributes.level: expected a Long, got a String",
        ),
        (
            run().describe("Host::\"h\"", &json!({"level": 1}), &[]),
            "resource.attributes.level: the schema declares no attributes here",
        ),
        (
            run().describe("Host::\"i\"", &json!({}), &["Team::\"t\""]),
            "entities[0].parents[0]: a `Host` cannot be in a `Team`",
        ),
        (
            run()
                .describe("User::\"v\"", &json!({}), &[])
                .describe("User::\"v\"", &json!({}), &[]),
            "entities[1]: `User::\"v\"` is described twice",
        ),
        (
            run().describe("Action::\"run\"", &json!({}), &[]),
            "entities[0].type: the schema has no entity type `Action`",
        ),
    ] {
        let refusal = request.refusal(&snapshot);
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

#[test]
fn a_stored_entity_cannot_be_described_again() {
    let stored = json!([{"uid": {"type": "User", "id": "u"}, "attrs": {}, "parents": []}]);
    let snapshot = Files::new("").schema(SCHEMA).entities(&stored).snapshot();
    let request = ask("User::\"u\"", "run", "Host::\"h\"");
    assert_eq!(
        request
            .describe("User::\"u\"", &json!({}), &[])
            .refusal(&snapshot),
        "principal: `User::\"u\"` is stored here; name it without attributes and parents"
    );
}

#[test]
fn the_reserved_action_is_not_for_callers() {
    let snapshot = Files::new("").schema(SCHEMA).snapshot();
    for name in [
        "Countersign::Action::\"Approve\"",
        "Countersign::Action::\"\\u{41}pprove\"",
        "Approve",
    ] {
        assert_eq!(
            ask("User::\"u\"", name, "Host::\"h\"").refusal(&snapshot),
            "action: this action is reserved: it asks the engine who may approve"
        );
    }
}
