//! What is well formed and refused all the same: it does not fit the schema, or would overrule the entity store.

use countersign::grpc::proto::{AuthorizeRequest, Decision, Entity};
use prost_types::Value;

use crate::bad_input::{check, principal, request};
use crate::folder::Folder;
use crate::harness::Pdp;
use crate::requests::{
    Change, described, entity, fields_of, flag, list, number, record, reference, role_grant,
    script, small_start, text,
};

fn resource(change: impl FnOnce(&mut Entity)) -> AuthorizeRequest {
    request(|request| change(request.resource.as_mut().unwrap()))
}

fn valid_for(value: Value) -> AuthorizeRequest {
    role_grant().context("valid_for", value)
}

fn extension(function: &str, argument: &str) -> Value {
    record([(
        "__extn",
        record([("fn", text(function)), ("arg", text(argument))]),
    )])
}

/// An agent that is not stored, as a request may describe it.
fn agent() -> Entity {
    let owner = record([("type", text("User")), ("id", text("ada"))]);
    Entity {
        attributes: Some(fields_of([("owner", owner), ("suspended", flag(false))])),
        parents: vec![reference("Team", "capacity")],
        ..entity("Agent", "new-bot")
    }
}

/// The same in place of a stored one.
fn impostor() -> Entity {
    Entity {
        id: "ops-bot".to_owned(),
        ..agent()
    }
}

fn in_a(type_name: &str, entity: Entity) -> Entity {
    Entity {
        parents: vec![reference(type_name, "x")],
        ..entity
    }
}

#[test]
fn names_that_the_schema_does_not_have_are_refused() {
    let pdp = Pdp::sample();
    check(
        &pdp,
        "UNKNOWN_ACTION",
        [("action", request(|it| it.action = "Fly".to_owned()))],
    );
    let faults = [
        (
            "principal.type",
            principal(|it| it.r#type = "Robot".to_owned()),
        ),
        ("resource.type", resource(|it| it.r#type = "Env".to_owned())),
        // A member that the enumeration does not have.
        ("resource.type", resource(|it| it.id = "staging".to_owned())),
    ];
    check(&pdp, "UNKNOWN_ENTITY_TYPE", faults);
}

#[test]
fn an_action_is_refused_for_those_it_does_not_apply_to() {
    let faults = [
        (
            "principal.type",
            principal(|it| it.r#type = "User".to_owned()),
        ),
        (
            "resource.type",
            resource(|it| it.r#type = "Team".to_owned()),
        ),
        (
            "principal.type",
            request(|it| it.action = "PrivilegedAction".to_owned()),
        ),
    ];
    check(&Pdp::sample(), "ACTION_DOES_NOT_APPLY", faults);
}

#[test]
fn a_context_that_does_not_fit_the_action_is_refused() {
    let faults = [
        ("context.count", small_start().context("count", text("two"))),
        ("context.public_ip", small_start().without("public_ip")),
        (
            "context.colour",
            small_start().context("colour", text("red")),
        ),
        (
            "context.hosts[1]",
            script().context("hosts", list([text("a"), flag(true)])),
        ),
        ("context.valid_for", valid_for(text("4 hours"))),
        ("context.valid_for", valid_for(extension("ip", "::1"))),
        ("context.valid_for", valid_for(extension("regex", ".*"))),
    ];
    check(&Pdp::sample(), "SCHEMA_MISMATCH", faults);
}

#[test]
fn the_store_cannot_be_overruled() {
    let parents = Entity {
        attributes: None,
        ..impostor()
    };
    let attributes = Entity {
        parents: Vec::new(),
        ..impostor()
    };
    let empty = Entity {
        parents: Vec::new(),
        attributes: None,
        ..impostor()
    };
    let faults = [
        (
            "principal",
            request(|it| it.principal = Some(parents.clone())),
        ),
        (
            "principal",
            request(|it| it.principal = Some(attributes.clone())),
        ),
        ("entities[0]", described([parents])),
        ("entities[0]", described([empty])),
        ("entities[1]", described([agent(), attributes])),
    ];
    check(&Pdp::sample(), "ENTITY_REDEFINED", faults);
}

#[test]
fn an_entity_is_described_once() {
    let both = request(|it| (it.principal, it.entities) = (Some(agent()), vec![agent()]));
    let faults = [
        ("entities[1]", described([agent(), agent()])),
        ("principal", both),
    ];
    check(&Pdp::sample(), "DUPLICATE_ENTITY", faults);
}

#[test]
fn a_description_that_does_not_fit_the_schema_is_refused() {
    let pdp = Pdp::sample();
    let misfit = Entity {
        attributes: Some(fields_of([("suspended", flag(false))])),
        ..agent()
    };
    let faults = [
        ("entities[0].parents[0]", described([in_a("User", agent())])),
        ("entities[0].attributes.owner", described([misfit])),
        (
            "entities[0].attributes.owner",
            described([entity("Agent", "bare")]),
        ),
    ];
    check(&pdp, "SCHEMA_MISMATCH", faults);
    let club = described([in_a("Club", agent())]);
    check(
        &pdp,
        "UNKNOWN_ENTITY_TYPE",
        [("entities[0].parents[0].type", club)],
    );
}

#[test]
fn an_action_cannot_be_put_into_a_group() {
    let action = in_a("Action", entity("Action", "StartInstances"));
    let faults = [("entities[0].type", described([action.clone()]))];
    check(&Pdp::sample(), "UNKNOWN_ENTITY_TYPE", faults);
    // Where there is no schema there are no types to miss.
    let text = "permit (principal, action in Action::\"x\", resource);";
    let pdp = Pdp::start(Folder::of(&[("all.cedar", text)]));
    let refusal = pdp.authorize(described([action])).unwrap_err();
    assert_eq!(
        (refusal.reason.as_str(), refusal.field.as_str()),
        ("INVALID_REQUEST", "entities[0].type")
    );
    assert_eq!(
        pdp.authorize(small_start()).unwrap().decision(),
        Decision::Deny
    );
}

#[test]
fn a_misspelt_name_comes_with_the_right_one() {
    let pdp = Pdp::sample();
    for (request, suggestion) in [
        (
            request(|it| it.action = "StartInstance".to_owned()),
            "did you mean `StartInstances`?",
        ),
        (
            principal(|it| it.r#type = "Agnet".to_owned()),
            "did you mean `Agent`?",
        ),
        (
            small_start().context("regoin", text("eu-west-1")),
            "did you mean `region`?",
        ),
    ] {
        let refusal = pdp.authorize(request).unwrap_err();
        assert!(refusal.message.contains(suggestion), "{}", refusal.message);
    }
}

#[test]
fn a_refusal_says_what_was_expected() {
    let pdp = Pdp::sample();
    for (value, message) in [
        (
            text("two"),
            "`context.count`: expected a Long, got a String",
        ),
        (
            number(9e15 * 2.0),
            "`context.count`: a number beyond 2^53 - 1 cannot be sent: as a JSON number it would be rounded",
        ),
    ] {
        let refusal = pdp
            .authorize(small_start().context("count", value))
            .unwrap_err();
        assert_eq!(refusal.message, message);
    }
}
