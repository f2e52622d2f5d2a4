//! What is refused, with the code, the reason and the field that a client gets.

use countersign::grpc::proto::{AuthorizeRequest, Decision, Entity, EntityRef};
use prost_types::Value;
use tonic::Code;

use crate::harness::{Pdp, Refusal};
use crate::requests::{
    Change, fields_of, flag, list, null, number, record, role_grant, script, small_start, text,
};

/// What is wrong, a request with that fault, the reason and the field it is refused with.
type Fault = (&'static str, AuthorizeRequest, &'static str, &'static str);

const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

fn request(change: impl FnOnce(&mut AuthorizeRequest)) -> AuthorizeRequest {
    let mut request = small_start();
    change(&mut request);
    request
}

fn principal(change: impl FnOnce(&mut Entity)) -> AuthorizeRequest {
    request(|request| change(request.principal.as_mut().unwrap()))
}

fn resource(change: impl FnOnce(&mut Entity)) -> AuthorizeRequest {
    request(|request| change(request.resource.as_mut().unwrap()))
}

fn described(entities: impl IntoIterator<Item = Entity>) -> AuthorizeRequest {
    request(|request| request.entities = entities.into_iter().collect())
}

fn with_count(value: Value) -> AuthorizeRequest {
    small_start().context("count", value)
}

fn entity(type_name: &str, id: &str) -> Entity {
    Entity {
        r#type: type_name.to_owned(),
        id: id.to_owned(),
        ..Entity::default()
    }
}

fn reference(type_name: &str, id: &str) -> EntityRef {
    EntityRef {
        r#type: type_name.to_owned(),
        id: id.to_owned(),
    }
}

/// A new agent, as a request may describe it.
fn agent() -> Entity {
    let owner = record([("type", text("User")), ("id", text("ada"))]);
    Entity {
        attributes: Some(fields_of([("owner", owner), ("suspended", flag(false))])),
        parents: vec![reference("Team", "capacity")],
        ..entity("Agent", "new-bot")
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(number(1.0), |inner, _| record([("a", inner)]))
}

fn of_bytes(count: usize) -> String {
    "x".repeat(count)
}

fn missing_and_malformed() -> Vec<Fault> {
    let escape = |name, inner| with_count(record([(name, inner)]));
    vec![
        (
            "no principal",
            request(|request| request.principal = None),
            "INVALID_REQUEST",
            "principal",
        ),
        (
            "no resource",
            request(|request| request.resource = None),
            "INVALID_REQUEST",
            "resource",
        ),
        (
            "an empty type",
            principal(|it| it.r#type.clear()),
            "INVALID_REQUEST",
            "principal.type",
        ),
        (
            "no action",
            request(|request| request.action.clear()),
            "INVALID_REQUEST",
            "action",
        ),
        (
            "a mode of the future",
            request(|request| request.mode = 7),
            "INVALID_REQUEST",
            "mode",
        ),
        (
            "a fraction",
            with_count(number(1.5)),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "not a number",
            with_count(number(f64::NAN)),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "an infinite number",
            with_count(number(f64::NEG_INFINITY)),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "an integer JSON would round",
            with_count(number(MAX_EXACT + 1.0)),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "the same below zero",
            with_count(number(-MAX_EXACT - 1.0)),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "null",
            with_count(null()),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "no value at all",
            with_count(Value { kind: None }),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "null in a list",
            script().context("hosts", list([text("a"), null()])),
            "INVALID_REQUEST",
            "context.hosts[1]",
        ),
        (
            "a reference that is a text",
            escape("__entity", text("User::\"ada\"")),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "a reference without id",
            escape("__entity", record([("type", text("User"))])),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "an extension value without function",
            escape("__extn", record([("arg", text("1.5"))])),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "an extension value beside something else",
            with_count(record([
                ("__extn", record([("fn", text("ip")), ("arg", text("::1"))])),
                ("more", flag(true)),
            ])),
            "INVALID_REQUEST",
            "context.count",
        ),
        (
            "a nameless person behind the agent",
            request(|request| {
                request.on_behalf_of = vec![reference("User", "ada"), reference("", "x")]
            }),
            "INVALID_REQUEST",
            "on_behalf_of[1].type",
        ),
    ]
}

fn against_the_schema() -> Vec<Fault> {
    let duration = |value| role_grant().context("valid_for", value);
    let extension = |function, argument| {
        record([(
            "__extn",
            record([("fn", text(function)), ("arg", text(argument))]),
        )])
    };
    vec![
        (
            "an unknown action",
            request(|request| request.action = "Fly".to_owned()),
            "UNKNOWN_ACTION",
            "action",
        ),
        (
            "an unknown principal type",
            principal(|it| it.r#type = "Robot".to_owned()),
            "UNKNOWN_ENTITY_TYPE",
            "principal.type",
        ),
        (
            "an unknown resource type",
            resource(|it| it.r#type = "Env".to_owned()),
            "UNKNOWN_ENTITY_TYPE",
            "resource.type",
        ),
        (
            "a member that an enumeration lacks",
            resource(|it| it.id = "staging".to_owned()),
            "UNKNOWN_ENTITY_TYPE",
            "resource.type",
        ),
        (
            "an action of others",
            principal(|it| it.r#type = "User".to_owned()),
            "ACTION_DOES_NOT_APPLY",
            "principal.type",
        ),
        (
            "a resource of other actions",
            resource(|it| it.r#type = "Team".to_owned()),
            "ACTION_DOES_NOT_APPLY",
            "resource.type",
        ),
        (
            "a group of actions",
            request(|request| request.action = "PrivilegedAction".to_owned()),
            "ACTION_DOES_NOT_APPLY",
            "principal.type",
        ),
        (
            "a value of another type",
            with_count(text("two")),
            "SCHEMA_MISMATCH",
            "context.count",
        ),
        (
            "a required attribute left out",
            small_start().without("public_ip"),
            "SCHEMA_MISMATCH",
            "context.public_ip",
        ),
        (
            "an attribute nobody declared",
            small_start().context("colour", text("red")),
            "SCHEMA_MISMATCH",
            "context.colour",
        ),
        (
            "an item of another type",
            script().context("hosts", list([text("a"), flag(true)])),
            "SCHEMA_MISMATCH",
            "context.hosts[1]",
        ),
        (
            "no duration",
            duration(text("4 hours")),
            "SCHEMA_MISMATCH",
            "context.valid_for",
        ),
        (
            "another extension's value",
            duration(extension("ip", "::1")),
            "SCHEMA_MISMATCH",
            "context.valid_for",
        ),
        (
            "an extension nobody has",
            duration(extension("regex", ".*")),
            "SCHEMA_MISMATCH",
            "context.valid_for",
        ),
    ]
}

fn descriptions() -> Vec<Fault> {
    let stored = Entity {
        parents: vec![reference("Team", "capacity")],
        ..entity("Agent", "ops-bot")
    };
    let among_others = described([
        agent(),
        Entity {
            attributes: agent().attributes,
            ..entity("Agent", "ops-bot")
        },
    ]);
    let in_a_user = Entity {
        parents: vec![reference("User", "ada")],
        ..agent()
    };
    let in_nothing = Entity {
        parents: vec![reference("Club", "x")],
        ..agent()
    };
    let misfit = Entity {
        attributes: Some(fields_of([("suspended", flag(false))])),
        ..agent()
    };
    let action = entity("Action", "StartInstances");
    vec![
        (
            "a stored principal described",
            principal(|it| it.attributes = agent().attributes),
            "ENTITY_REDEFINED",
            "principal",
        ),
        (
            "a stored principal put into a team",
            principal(|it| it.parents = agent().parents),
            "ENTITY_REDEFINED",
            "principal",
        ),
        (
            "a stored entity described",
            described([stored]),
            "ENTITY_REDEFINED",
            "entities[0]",
        ),
        (
            "a stored entity among others",
            among_others,
            "ENTITY_REDEFINED",
            "entities[1]",
        ),
        (
            "an entity described twice",
            described([agent(), agent()]),
            "DUPLICATE_ENTITY",
            "entities[1]",
        ),
        (
            "a principal described here and there",
            request(|request| {
                (request.principal, request.entities) = (Some(agent()), vec![agent()])
            }),
            "DUPLICATE_ENTITY",
            "principal",
        ),
        (
            "an action described",
            described([action.clone()]),
            "INVALID_REQUEST",
            "entities[0].type",
        ),
        (
            "an action put into a group",
            described([Entity {
                parents: vec![reference("Action", "PrivilegedAction")],
                ..action
            }]),
            "INVALID_REQUEST",
            "entities[0].type",
        ),
        (
            "a parent of an impossible type",
            described([in_a_user]),
            "SCHEMA_MISMATCH",
            "entities[0].parents[0]",
        ),
        (
            "a parent of no type",
            described([in_nothing]),
            "UNKNOWN_ENTITY_TYPE",
            "entities[0].parents[0].type",
        ),
        (
            "a description that does not fit",
            described([misfit]),
            "SCHEMA_MISMATCH",
            "entities[0].attributes.owner",
        ),
        (
            "a nameless entity",
            described([entity("", "x")]),
            "INVALID_REQUEST",
            "entities[0].type",
        ),
    ]
}

fn over_a_limit() -> Vec<Fault> {
    let numbers = |count: u32| list((0..count).map(|each| number(f64::from(each))));
    let of_lists = record(
        (0..9)
            .map(|_| numbers(256))
            .zip(["a", "b", "c", "d", "e", "f", "g", "h", "i"])
            .map(|(list, name)| (name, list)),
    );
    let many = |count: usize| {
        (0..count)
            .map(|each| reference("User", &each.to_string()))
            .collect::<Vec<_>>()
    };
    let labels = |count: usize| {
        (0..count)
            .map(|each| (each.to_string(), String::new()))
            .collect()
    };
    vec![
        (
            "nine levels",
            with_count(nested(9)),
            "LIMIT_EXCEEDED",
            "context.count.a.a.a.a.a.a.a.a",
        ),
        (
            "a list of 257",
            with_count(numbers(257)),
            "LIMIT_EXCEEDED",
            "context.count",
        ),
        (
            "2,304 values",
            with_count(of_lists),
            "LIMIT_EXCEEDED",
            "context.count.h",
        ),
        (
            "a text of 8,193 bytes",
            with_count(text(&of_bytes(8_193))),
            "LIMIT_EXCEEDED",
            "context.count",
        ),
        (
            "a name of 8,193 bytes",
            small_start().context(&of_bytes(8_193), flag(true)),
            "LIMIT_EXCEEDED",
            "context",
        ),
        (
            "a long type",
            principal(|it| it.r#type = of_bytes(257)),
            "LIMIT_EXCEEDED",
            "principal.type",
        ),
        (
            "a long id",
            principal(|it| it.id = of_bytes(1_025)),
            "LIMIT_EXCEEDED",
            "principal.id",
        ),
        (
            "a long action",
            request(|request| request.action = of_bytes(1_281)),
            "LIMIT_EXCEEDED",
            "action",
        ),
        (
            "65 parents",
            principal(|it| it.parents = many(65)),
            "LIMIT_EXCEEDED",
            "principal.parents",
        ),
        (
            "257 entities",
            described((0..257).map(|each| entity("User", &each.to_string()))),
            "LIMIT_EXCEEDED",
            "entities",
        ),
        (
            "a chain of nine",
            request(|request| request.on_behalf_of = many(9)),
            "LIMIT_EXCEEDED",
            "on_behalf_of",
        ),
        (
            "a long request id",
            request(|request| request.request_id = of_bytes(129)),
            "LIMIT_EXCEEDED",
            "request_id",
        ),
        (
            "a long justification",
            request(|request| request.justification = of_bytes(4_097)),
            "LIMIT_EXCEEDED",
            "justification",
        ),
        (
            "33 labels",
            request(|request| request.labels = labels(33)),
            "LIMIT_EXCEEDED",
            "labels",
        ),
        (
            "a long label",
            request(|request| drop(request.labels.insert("a".to_owned(), of_bytes(257)))),
            "LIMIT_EXCEEDED",
            "labels",
        ),
    ]
}

fn check(faults: Vec<Fault>) {
    let pdp = Pdp::sample();
    let mut wrong = Vec::new();
    for (what, request, reason, field) in faults {
        match pdp.authorize(request) {
            Ok(answer) => wrong.push(format!("{what}: {:?}", answer.decision())),
            Err(refusal) => {
                let found = (
                    refusal.code,
                    refusal.reason.as_str(),
                    refusal.field.as_str(),
                );
                if found != (Code::InvalidArgument, reason, field)
                    || refusal.domain != "countersign.v1"
                {
                    wrong.push(format!("{what}: {refusal:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(
        pdp.authorize(small_start()).unwrap().decision(),
        Decision::Allow,
        "it still serves"
    );
}

#[test]
fn what_is_missing_or_malformed_is_refused() {
    check(missing_and_malformed());
}

#[test]
fn what_does_not_fit_the_schema_is_refused() {
    check(against_the_schema());
}

#[test]
fn descriptions_that_would_overrule_the_store_or_the_schema_are_refused() {
    check(descriptions());
}

#[test]
fn whatever_is_over_a_limit_is_refused() {
    check(over_a_limit());
}

#[test]
fn what_is_exactly_at_a_limit_is_decided() {
    let pdp = Pdp::sample();
    let requests = [
        principal(|it| it.id = of_bytes(1_024)),
        request(|request| request.justification = of_bytes(4_096)),
        request(|request| request.request_id = of_bytes(128)),
        small_start().context("region", text(&of_bytes(8_192))),
        with_count(number(MAX_EXACT)),
        with_count(number(-MAX_EXACT)),
        script().context("hosts", list((0..256).map(|each| text(&each.to_string())))),
    ];
    for request in requests {
        assert_ne!(
            pdp.authorize(request).unwrap().decision(),
            Decision::Unspecified
        );
    }
}

#[test]
fn a_misspelt_name_comes_with_the_right_one() {
    let pdp = Pdp::sample();
    for (request, suggestion) in [
        (
            request(|request| request.action = "StartInstance".to_owned()),
            "did you mean `StartInstances`?",
        ),
        (
            principal(|it| it.r#type = "Agnet".to_owned()),
            "did you mean `Agent`?",
        ),
        (
            small_start()
                .without("region")
                .context("regoin", text("eu-west-1")),
            "did you mean `region`?",
        ),
    ] {
        let refusal = pdp.authorize(request).unwrap_err();
        assert!(refusal.message.contains(suggestion), "{}", refusal.message);
    }
}

#[test]
fn a_refusal_says_which_value_was_expected() {
    let pdp = Pdp::sample();
    let message = |request| pdp.authorize(request).unwrap_err().message;
    assert_eq!(
        message(with_count(text("two"))),
        "`context.count`: expected a Long, got a String"
    );
    let beyond = message(with_count(number(MAX_EXACT + 1.0)));
    assert!(
        beyond.contains("9007199254740992 is beyond 2^53 - 1"),
        "{beyond}"
    );
}

/// What is refused before it is read keeps the transport's own words, without a reason of ours.
fn assert_cut_off(refusal: &Refusal, code: Code, words: &str) {
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (code, ""),
        "{refusal:?}"
    );
    assert!(refusal.message.contains(words), "{refusal:?}");
}

#[test]
fn a_megabyte_of_context_is_cut_off_by_the_transport() {
    let pdp = Pdp::sample();
    let refusal = pdp
        .authorize(small_start().context("instance_type", text(&of_bytes(1 << 20))))
        .unwrap_err();
    assert_cut_off(&refusal, Code::OutOfRange, "the limit is: 65536 bytes");
}

#[test]
fn what_nests_deeper_than_protobuf_reads_is_cut_off_by_the_transport() {
    let pdp = Pdp::sample();
    for depth in [40, 1_000] {
        let refusal = pdp.authorize(with_count(nested(depth))).unwrap_err();
        assert_cut_off(&refusal, Code::Internal, "recursion limit");
    }
    assert_eq!(
        pdp.authorize(small_start()).unwrap().decision(),
        Decision::Allow,
        "it still serves"
    );
}
