//! What was approved is what may run: nothing else can be redeemed with it.

use countersign::approval::{Approval, Status};
use countersign::model::{Request, Value};

use crate::request::{Ask, deploy, record, uid};
use crate::world::World;

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn decimal(text: &str) -> Value {
    Value::Extension {
        function: "decimal".into(),
        argument: text.to_owned(),
    }
}

fn hosts(names: &[&str]) -> Value {
    Value::Set(names.iter().map(|name| text(name)).collect())
}

/// A request with something in every field that the digest covers.
fn rich() -> Ask {
    deploy()
        .for_people(&["paul", "pia"])
        .context("hosts", hosts(&["one", "two"]))
        .context("share", decimal("1.0"))
        .with(|request| {
            request.resource = uid("Service::\"new\"");
            request.justification = Some("a fix".to_owned());
            request.labels.insert("ticket".to_owned(), "1".to_owned());
        })
        .describe(
            "Service::\"new\"",
            record([("env", text("prod")), ("size", Value::Long(1))]),
        )
}

async fn redeem(world: &World, approval: &Approval, change: impl FnOnce(&mut Request)) -> String {
    world.answer(&rich().with(change).redeeming(approval)).await
}

fn describes(request: &mut Request, attribute: &str, value: Value) {
    request.entities[0]
        .attributes
        .insert(attribute.to_owned(), value);
}

/// A change of a request.
type Change = fn(&mut Request);

fn differences() -> [(&'static str, Change); 16] {
    [
        ("context value", |request| {
            request.context.insert("version".to_owned(), text("1.1"));
        }),
        ("context value in another form", |request| {
            // The same to the eye, not to a computer.
            request
                .context
                .insert("version".to_owned(), text("1.0\u{200b}"));
        }),
        ("added context key", |request| {
            request.context.insert("note".to_owned(), text(""));
        }),
        ("left out context key", |request| {
            let mut left = record([]);
            left.insert("version".to_owned(), text("1.0"));
            request.context = left;
        }),
        ("set member", |request| {
            request
                .context
                .insert("hosts".to_owned(), hosts(&["one", "three"]));
        }),
        ("set of fewer", |request| {
            request.context.insert("hosts".to_owned(), hosts(&["one"]));
        }),
        ("decimal", |request| {
            request
                .context
                .insert("share".to_owned(), decimal("1.0001"));
        }),
        ("principal", |request| {
            request.principal = uid("Agent::\"sub\"");
        }),
        ("action", |request| {
            "Restart".clone_into(&mut request.action);
        }),
        ("resource", |request| {
            request.resource = uid("Service::\"api\"");
            request.entities.clear();
        }),
        ("chain order", |request| request.on_behalf_of.reverse()),
        ("chain cut", |request| request.on_behalf_of.truncate(1)),
        ("no chain", |request| request.on_behalf_of.clear()),
        ("described attribute", |request| {
            describes(request, "size", Value::Long(2));
        }),
        ("described less", |request| {
            request.entities[0].attributes = record([("env", text("prod"))]);
        }),
        ("described more", |request| {
            request
                .entities
                .push(countersign::model::EntityDescription {
                    uid: uid("Service::\"other\""),
                    attributes: record([("env", text("dev"))]),
                    parents: Vec::new(),
                });
        }),
    ]
}

#[tokio::test]
async fn any_difference_in_what_is_done_is_refused_and_keeps_the_grant() {
    let world = World::new();
    let approval = world.approved(&rich()).await;
    for (what, change) in differences() {
        assert_eq!(
            redeem(&world, &approval, change).await,
            "DENY Mismatch",
            "{what}"
        );
        assert_eq!(world.status(&approval).await, Status::Approved, "{what}");
    }
    let told = world
        .authorize(&rich().version("9").redeeming(&approval))
        .await
        .unwrap();
    // Whoever holds no more than an id learns nothing of the request behind it.
    assert_eq!(told.approval.approval(), None);
    let granted = redeem(&world, &approval, |_| {}).await;
    assert_eq!(granted, "ALLOW granted by REDEEMED");
}

/// Even a request that needs no approval is not allowed with the approval of another.
#[tokio::test]
async fn a_harmless_request_with_anothers_approval_is_refused() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let lab = deploy().with(|request| request.resource = uid("Service::\"lab\""));
    assert_eq!(world.answer(&lab).await, "ALLOW");
    assert_eq!(
        world.answer(&lab.redeeming(&approval)).await,
        "DENY Mismatch"
    );
}

#[tokio::test]
async fn a_difference_in_how_it_is_said_is_none() {
    let sames: [(&str, Change); 8] = [
        ("justification", |request| {
            request.justification = Some("because I say so".to_owned());
        }),
        ("no justification", |request| request.justification = None),
        ("labels", |request| {
            request.labels.insert("attempt".to_owned(), "2".to_owned());
        }),
        ("key", |request| request.request_id = Some("k".to_owned())),
        ("set order", |request| {
            request
                .context
                .insert("hosts".to_owned(), hosts(&["two", "one"]));
        }),
        ("set repeats", |request| {
            request
                .context
                .insert("hosts".to_owned(), hosts(&["two", "one", "two"]));
        }),
        ("decimal digits", |request| {
            request.context.insert("share".to_owned(), decimal("1.00"));
        }),
        ("the action's full name", |request| {
            request.action = "Action::\"Deploy\"".to_owned();
        }),
    ];
    for (what, change) in sames {
        let world = World::new();
        let approval = world.approved(&rich()).await;
        let granted = redeem(&world, &approval, change).await;
        assert_eq!(granted, "ALLOW granted by REDEEMED", "{what}");
    }
}

#[tokio::test]
async fn another_caller_does_not_redeem() {
    let world = World::new();
    let approval = world.approved(&rich()).await;
    for caller in ["", "other", "gateway2", "Gateway"] {
        let answer = redeem(&world, &approval, |request| {
            request.caller = caller.to_owned();
        })
        .await;
        assert_eq!(answer, "DENY Mismatch", "{caller}");
    }
    assert_eq!(world.status(&approval).await, Status::Approved);
}

#[tokio::test]
async fn another_caller_does_not_learn_that_it_was_redeemed() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let redeem = deploy().redeeming(&approval).key("k");
    world.authorize(&redeem).await.unwrap();
    let other = redeem
        .clone()
        .with(|request| request.caller = "other".to_owned());
    assert_eq!(world.answer(&other).await, "DENY Mismatch");
    // Nor does the right key help with a wrong request.
    assert_eq!(world.answer(&redeem.version("2.0")).await, "DENY Mismatch");
}
