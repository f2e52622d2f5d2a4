//! What is refused for its form, with the code, the reason and the field that a client gets.

use countersign::grpc::proto::{AuthorizeRequest, Decision, Entity, EntityRef};
use prost_types::Value;
use tonic::Code;

use crate::harness::{Pdp, Refusal};
use crate::requests::{
    Change, described, entity, flag, list, null, number, record, reference, script, small_start,
    text,
};

const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

/// Each request must be refused for `reason`, naming its field.
pub(crate) fn check(
    pdp: &Pdp,
    reason: &str,
    faults: impl IntoIterator<Item = (&'static str, AuthorizeRequest)>,
) {
    for (field, request) in faults {
        let refusal = pdp.authorize(request).expect_err(field);
        let found = (
            refusal.code,
            refusal.reason.as_str(),
            refusal.field.as_str(),
        );
        assert_eq!(found, (Code::InvalidArgument, reason, field), "{refusal:?}");
        assert_eq!(refusal.domain, "countersign.v1");
        assert!(
            refusal.message.starts_with(&format!("`{field}`: ")),
            "{refusal:?}"
        );
    }
    assert_eq!(
        pdp.authorize(small_start()).unwrap().decision(),
        Decision::Allow
    );
}

pub(crate) fn request(change: impl FnOnce(&mut AuthorizeRequest)) -> AuthorizeRequest {
    let mut request = small_start();
    change(&mut request);
    request
}

pub(crate) fn principal(change: impl FnOnce(&mut Entity)) -> AuthorizeRequest {
    request(|request| change(request.principal.as_mut().unwrap()))
}

fn count(value: Value) -> AuthorizeRequest {
    small_start().context("count", value)
}

fn hosts(values: impl IntoIterator<Item = Value>) -> AuthorizeRequest {
    script().context("hosts", list(values))
}

fn behind(references: impl IntoIterator<Item = EntityRef>) -> AuthorizeRequest {
    request(|request| request.on_behalf_of = references.into_iter().collect())
}

fn bytes(count: usize) -> String {
    "x".repeat(count)
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(number(1.0), |inner, _| record([("a", inner)]))
}

fn numbers(count: u32) -> Value {
    list((0..count).map(|each| number(f64::from(each))))
}

#[test]
fn whatever_is_left_out_is_refused() {
    let faults = [
        ("principal", request(|it| it.principal = None)),
        ("principal.type", principal(|it| it.r#type.clear())),
        ("resource", request(|it| it.resource = None)),
        ("action", request(|it| it.action.clear())),
        ("entities[0].type", described([entity("", "x")])),
        (
            "on_behalf_of[1].type",
            behind([reference("User", "ada"), reference("", "x")]),
        ),
        ("context.count", count(Value { kind: None })),
    ];
    check(&Pdp::sample(), "INVALID_REQUEST", faults);
}

#[test]
fn an_id_may_be_empty() {
    let pdp = Pdp::sample();
    let answer = pdp.authorize(principal(|it| it.id.clear())).unwrap();
    assert_eq!(answer.missing_entities, [reference("Agent", "")]);
}

#[test]
fn a_mode_of_the_future_is_refused() {
    let faults = [7, -1].map(|mode| ("mode", request(|it| it.mode = mode)));
    check(&Pdp::sample(), "INVALID_REQUEST", faults);
}

#[test]
fn a_number_that_is_no_integer_or_would_be_rounded_is_refused() {
    let bad = [
        1.5,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        MAX_EXACT + 1.0,
        -MAX_EXACT - 1.0,
    ];
    let faults = bad.map(|bad| ("context.count", count(number(bad))));
    check(&Pdp::sample(), "INVALID_REQUEST", faults);
}

#[test]
fn null_is_refused_wherever_it_stands() {
    let faults = [
        ("context.count", count(null())),
        ("context.count.a", count(record([("a", null())]))),
        ("context.hosts[1]", hosts([text("a"), null()])),
    ];
    check(&Pdp::sample(), "INVALID_REQUEST", faults);
}

#[test]
fn a_malformed_escape_of_cedar_is_refused() {
    let escapes = [
        record([("__entity", text("User::\"ada\""))]),
        record([("__entity", record([("type", text("User"))]))]),
        record([(
            "__entity",
            record([("type", text("User")), ("id", flag(true))]),
        )]),
        record([("__extn", record([("arg", text("1.5"))]))]),
        record([
            ("__extn", record([("fn", text("ip")), ("arg", text("::1"))])),
            ("more", flag(true)),
        ]),
    ];
    let faults = escapes.map(|escape| ("context.count", count(escape)));
    check(&Pdp::sample(), "INVALID_REQUEST", faults);
}

#[test]
fn whatever_is_over_a_limit_is_refused() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let lists = || count(record(names.map(|name| (name, numbers(256)))));
    let many = |count: usize| (0..count).map(|each| reference("User", &each.to_string()));
    let entities = (0..257).map(|each| entity("User", &each.to_string()));
    let labels = (0..33)
        .map(|each| (each.to_string(), String::new()))
        .collect();
    let faults = [
        ("context.count.a.a.a.a.a.a.a.a", count(nested(9))),
        ("context.count", count(numbers(257))),
        ("context.count.h", lists()),
        ("context.count", count(text(&bytes(8_193)))),
        ("context", small_start().context(&bytes(8_193), flag(true))),
        ("principal.type", principal(|it| it.r#type = bytes(257))),
        ("principal.id", principal(|it| it.id = bytes(1_025))),
        (
            "principal.parents",
            principal(|it| it.parents = many(65).collect()),
        ),
        ("action", request(|it| it.action = bytes(1_281))),
        ("entities", described(entities)),
        ("on_behalf_of", behind(many(9))),
        ("request_id", request(|it| it.request_id = bytes(129))),
        (
            "justification",
            request(|it| it.justification = bytes(4_097)),
        ),
        ("labels", request(|it| it.labels = labels)),
        (
            "labels",
            request(|it| drop(it.labels.insert(bytes(257), String::new()))),
        ),
        (
            "labels",
            request(|it| drop(it.labels.insert(String::new(), bytes(257)))),
        ),
    ];
    check(&Pdp::sample(), "LIMIT_EXCEEDED", faults);
}

#[test]
fn what_is_exactly_at_a_limit_is_decided() {
    let pdp = Pdp::sample();
    let requests = [
        principal(|it| it.id = bytes(1_024)),
        request(|it| it.justification = bytes(4_096)),
        request(|it| it.request_id = bytes(128)),
        small_start().context("region", text(&bytes(8_192))),
        count(number(MAX_EXACT)),
        count(number(-MAX_EXACT)),
        hosts((0..256).map(|each| text(&each.to_string()))),
    ];
    for request in requests {
        assert_ne!(
            pdp.authorize(request).unwrap().decision(),
            Decision::Unspecified
        );
    }
}

/// What is refused before anything of ours reads it keeps the transport's words, and has no reason of ours.
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
    let refusal = pdp.authorize(count(text(&bytes(1 << 20)))).unwrap_err();
    assert_cut_off(&refusal, Code::OutOfRange, "the limit is: 65536 bytes");
}

#[test]
fn what_nests_deeper_than_protobuf_reads_is_cut_off_by_the_transport() {
    let pdp = Pdp::sample();
    for depth in [40, 1_000] {
        let refusal = pdp.authorize(count(nested(depth))).unwrap_err();
        assert_cut_off(&refusal, Code::Internal, "recursion limit");
    }
    assert_eq!(
        pdp.authorize(small_start()).unwrap().decision(),
        Decision::Allow
    );
}
