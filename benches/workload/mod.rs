//! Policy sets, entities and requests of any size, for the benches.

// Each bench uses its part of this module.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::pedantic,
    reason = "each bench uses its part"
)]

use std::fmt::Write as _;
use std::sync::Arc;

use countersign::grpc::proto;
use countersign::policy::{Bundle, BundleFile, CompileOptions, Snapshot, compile};
use countersign::usecase::on_large_stack;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

const SCHEMA: &str = r"
entity Group in [Group];
entity User in [Group] { department: String, level: Long };
entity Folder in [Folder];
entity Document in [Folder] { owner: User, department: String, classification: Long };
action view, edit, share, delete appliesTo {
  principal: User,
  resource: Document,
  context: { hour: Long, source: ipaddr, mfa: Bool, request_id: String, ticket: String }
};
";

const RULES: &str = "[rule.review]\ntitle = \"Review\"\napprovals = 1\nexpires_after = \"30m\"\nredeem_within = \"10m\"\n";

const ACTIONS: [&str; 4] = ["view", "edit", "share", "delete"];

/// How policies say who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// By groups and folders.
    Role,
    /// By attributes.
    Attribute,
    /// By single principals and resources.
    Resource,
    /// 60 % by resource, 28 % by role, 12 % by attribute, with 2 % forbids and 1 % gates among them.
    Mixed,
}

impl Shape {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Attribute => "attribute",
            Self::Resource => "resource",
            Self::Mixed => "mixed",
        }
    }
}

/// The files of a policy set of `policies` policies over `entities` stored entities.
pub fn files(shape: Shape, policies: usize, entities: usize) -> Vec<BundleFile> {
    let file = |path: &str, text: String| BundleFile {
        path: path.to_owned(),
        bytes: text.into_bytes(),
    };
    vec![
        file("schema.cedarschema", SCHEMA.to_owned()),
        file("approvals.toml", RULES.to_owned()),
        file("policies.cedar", policy_text(shape, policies)),
        file("entities/all.json", entity_text(entities)),
    ]
}

/// The same, compiled.
pub fn snapshot(shape: Shape, policies: usize, entities: usize) -> Arc<Snapshot> {
    let bundle = Bundle::new(files(shape, policies, entities));
    let report =
        on_large_stack(|| compile(&bundle, &CompileOptions::default())).expect("the thread runs");
    report
        .snapshot
        .unwrap_or_else(|| panic!("the set compiles: {:?}", report.problems))
}

fn policy_text(shape: Shape, policies: usize) -> String {
    let mut text = String::new();
    for number in 0..policies {
        let policy = match (shape, number % 100) {
            (Shape::Role, _) => role(number),
            (Shape::Attribute, _) => attribute(number),
            (Shape::Resource, _) => resource(number),
            // One that everybody is under, so that there is something to allow.
            (Shape::Mixed, 0) if number == 0 => role(number),
            (Shape::Mixed, 97) => gate(number),
            (Shape::Mixed, 98..) => forbid(number),
            (Shape::Mixed, 0..12) => attribute(number),
            (Shape::Mixed, 12..40) => role(number),
            (Shape::Mixed, _) => resource(number),
        };
        writeln!(text, "{policy}").expect("a string takes everything");
    }
    text
}

fn role(number: usize) -> String {
    format!(
        "@id(\"role-{number}\") permit (principal in Group::\"g{number}\", action in [Action::\"view\", Action::\"edit\"], \
         resource in Folder::\"f{number}\");"
    )
}

fn attribute(number: usize) -> String {
    let action = ACTIONS[number % 4];
    format!(
        "@id(\"attribute-{number}\") permit (principal is User, action == Action::\"{action}\", resource is Document) when \
         {{ principal.department == \"d{number}\" && resource.classification <= {} && context.hour >= 8 }};",
        number % 5
    )
}

fn resource(number: usize) -> String {
    let condition = if number.is_multiple_of(3) {
        " when { context.mfa }"
    } else {
        ""
    };
    format!(
        "@id(\"resource-{number}\") permit (principal == User::\"u{number}\", action == Action::\"view\", \
         resource == Document::\"d{number}\"){condition};"
    )
}

fn forbid(number: usize) -> String {
    format!(
        "@id(\"forbid-{number}\") forbid (principal in Group::\"g{number}\", action == Action::\"delete\", resource) when \
         {{ resource.classification > 3 }};"
    )
}

fn gate(number: usize) -> String {
    format!(
        "@id(\"gate-{number}\") @approval(\"review\") forbid (principal in Group::\"g{number}\", action == Action::\"share\", \
         resource in Folder::\"f{number}\");"
    )
}

/// Half users, half documents, each in a group or folder that is in eight others.
fn entity_text(entities: usize) -> String {
    let mut items = Vec::with_capacity(entities.saturating_add(16));
    let groups = (entities / 20).max(usize::from(entities > 0));
    for (kind, prefix) in [("Group", "g"), ("Folder", "f")] {
        for number in 0..groups {
            let parent = if number < 8 {
                number.checked_sub(1)
            } else {
                Some(number % 8)
            };
            let parents = parent.map_or(String::new(), |parent| {
                format!("{{\"type\":\"{kind}\",\"id\":\"{prefix}{parent}\"}}")
            });
            items.push(format!(
                "{{\"uid\":{{\"type\":\"{kind}\",\"id\":\"{prefix}{number}\"}},\"attrs\":{{}},\"parents\":[{parents}]}}"
            ));
        }
    }
    let people = entities.saturating_sub(groups * 2) / 2;
    for number in 0..people {
        let group = number % groups;
        items.push(format!(
            "{{\"uid\":{{\"type\":\"User\",\"id\":\"u{number}\"}},\"attrs\":{{\"department\":\"d{number}\",\"level\":3}},\
             \"parents\":[{{\"type\":\"Group\",\"id\":\"g{group}\"}}]}}"
        ));
        items.push(format!(
            "{{\"uid\":{{\"type\":\"Document\",\"id\":\"d{number}\"}},\"attrs\":{{\"owner\":{{\"__entity\":{{\"type\":\"User\",\
             \"id\":\"u{number}\"}}}},\"department\":\"d{number}\",\"classification\":{}}},\
             \"parents\":[{{\"type\":\"Folder\",\"id\":\"f{group}\"}}]}}",
            number % 5
        ));
    }
    format!("[{}]", items.join(",\n"))
}

/// The `number`th of many requests. With no stored entities the request describes its own.
pub fn request(number: usize, entities: usize) -> proto::AuthorizeRequest {
    let people = entities.saturating_sub((entities / 20) * 2) / 2;
    let person = number.checked_rem(people).unwrap_or(number % 1_000);
    let describe = people == 0;
    proto::AuthorizeRequest {
        principal: Some(entity(
            "User",
            "u",
            person,
            describe.then(|| user_attributes(person)),
        )),
        action: ACTIONS[if number.is_multiple_of(4) {
            number / 4 % 4
        } else {
            0
        }]
        .to_owned(),
        resource: Some(entity(
            "Document",
            "d",
            person,
            describe.then(|| document_attributes(person)),
        )),
        context: Some(context(number)),
        ..proto::AuthorizeRequest::default()
    }
}

fn entity(kind: &str, prefix: &str, number: usize, attributes: Option<Struct>) -> proto::Entity {
    proto::Entity {
        r#type: kind.to_owned(),
        id: format!("{prefix}{number}"),
        attributes,
        parents: Vec::new(),
    }
}

fn user_attributes(number: usize) -> Struct {
    fields([
        ("department", text(format!("d{number}"))),
        ("level", integer(3.0)),
    ])
}

fn document_attributes(number: usize) -> Struct {
    let owner = fields([
        ("type", text("User".to_owned())),
        ("id", text(format!("u{number}"))),
    ]);
    let owner = Value {
        kind: Some(Kind::StructValue(owner)),
    };
    fields([
        ("owner", owner),
        ("department", text(format!("d{number}"))),
        ("classification", integer(1.0)),
    ])
}

fn context(number: usize) -> Struct {
    fields([
        ("hour", integer(10.0)),
        ("source", text("10.1.2.3".to_owned())),
        (
            "mfa",
            Value {
                kind: Some(Kind::BoolValue(true)),
            },
        ),
        ("request_id", text(format!("req-{number:08}"))),
        ("ticket", text("CHG-4711".to_owned())),
    ])
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

fn text(text: String) -> Value {
    Value {
        kind: Some(Kind::StringValue(text)),
    }
}

fn integer(number: f64) -> Value {
    Value {
        kind: Some(Kind::NumberValue(number)),
    }
}
