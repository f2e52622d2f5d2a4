//! Hostile schemas, entities, links, rules and cases.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::hostile::{loads, nested, refused, survive};
use crate::support::{Files, rules};

/// Texts made of `count` numbered parts.
fn many(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect()
}

fn schema(text: &str) -> Files {
    Files::new("").schema(text)
}

#[test]
fn nested_types_are_bounded() {
    for (open, inner, close) in [
        ("Set<", "Long", ">"),
        ("{ a: ", "Long", " }"),
        ("{ \"a\"?: Set<", "Long", "> }"),
    ] {
        for depth in [10, 30, 70, 1_000, 10_000] {
            let text = format!(
                "entity User {{ a: {} }};",
                nested(open, inner, close, depth)
            );
            let what = format!("{depth} times `{open}`");
            if depth < 64 {
                loads(&what, &schema(&text));
            } else {
                refused(&what, &schema(&text), "schema.cedarschema:1:");
            }
        }
    }
}

#[test]
fn a_schema_that_turns_in_circles_is_refused() {
    for text in [
        "type A = A;",
        "type A = Set<A>;",
        "type A = { a: B }; type B = { b: A };",
        "type A = B; type B = C; type C = A;",
        "action a in [a];",
        "action a in [b]; action b in [a];",
    ] {
        refused(text, &schema(text), "schema.cedarschema");
    }
    loads(
        "entities in each other",
        &schema("entity A in [B]; entity B in [A]; entity C in [C] { c: C };"),
    );
}

#[test]
fn long_schemas_are_only_long() {
    let chain = |count: usize, part: &dyn Fn(usize, usize) -> String| {
        many(count, |number| part(number, number + 1))
    };
    let fields = many(1_300, |number| format!("a{number}: Long, "));
    let choices = many(4_000, |number| format!("\"a{number}\", "));
    for (what, text) in [
        (
            "types",
            many(5_000, |number| format!("entity A{number};\n")),
        ),
        (
            "a chain of types",
            chain(500, &|number, next| {
                format!("entity A{number} in [A{next}];\n")
            }) + "entity A500;",
        ),
        ("attributes", format!("entity A {{ {fields} }};")),
        ("choices", format!("entity A enum [{choices} \"z\"];")),
        (
            "a chain of actions",
            chain(300, &|number, next| {
                format!("action a{number} in [a{next}];\n")
            }) + "action a300;",
        ),
        (
            "namespaces",
            many(1_000, |number| {
                format!("namespace N{number} {{ entity A; }}\n")
            }),
        ),
        (
            "a name",
            format!("namespace {}A {{ entity A; }}", "A::".repeat(2_000)),
        ),
        (
            "a chain of names",
            chain(1_000, &|number, next| {
                format!("type T{number} = T{next};\n")
            }) + "type T1000 = Long;",
        ),
    ] {
        loads(what, &schema(&text));
    }
    let actions = many(1_000, |number| {
        format!("action a{number} appliesTo {{ principal: U, resource: U }};\n")
    });
    loads("actions", &schema(&format!("entity U; {actions}")));
}

/// A file with one entity that has these attributes.
fn with_attributes(attributes: &str) -> String {
    format!(r#"[{{"uid": {{"type": "User", "id": "u"}}, "attrs": {attributes}, "parents": []}}]"#)
}

#[test]
fn deep_entities_are_bounded() {
    for (open, inner, close) in [
        ("[", "1", "]"),
        ("{\"a\": ", "1", "}"),
        ("{\"__entity\": ", "1", "}"),
        ("{\"__extn\": {\"fn\": \"ip\", \"arg\": ", "\"::1\"", "}}"),
    ] {
        for depth in [10, 60, 120, 200, 1_000, 100_000] {
            let value = nested(open, inner, close, depth);
            for text in [
                with_attributes(&format!("{{\"a\": {value}}}")),
                format!(r#"[{{"uid": {value}, "attrs": {{}}, "parents": []}}]"#),
                value,
            ] {
                let what = format!("{depth} times `{open}`");
                let files = Files::new("").with("entities/e.json", &text);
                if let Some(error) = survive(&what, &files) {
                    assert!(error.starts_with("entities/e.json:1:"), "{what}: {error}");
                } else {
                    assert!(depth < 128, "{what} is accepted");
                }
            }
        }
    }
}

#[test]
fn what_is_no_list_of_entities_is_refused_with_its_place() {
    let entity = |rest: &str| format!(r#"[{{"uid": {{"type": "User", "id": "u"}}, {rest}}}]"#);
    let mut texts: Vec<String> = [
        "",
        " ",
        "{}",
        "1",
        "\"x\"",
        "null",
        "[1]",
        "[[]]",
        "[{}]",
        "[null]",
        "[",
        "[{",
        "[]]",
        "[,]",
        "\0",
        "\u{feff}[]",
    ]
    .map(str::to_owned)
    .into();
    texts.extend(
        [
            r#"{"a": null}"#,
            r#"{"a": 1.5}"#,
            r#"{"a": 1e400}"#,
            r#"{"a": 9223372036854775808}"#,
            r#"{"a": 1, "a": 2}"#,
            r#"{"a": "\ud800"}"#,
            r#"{"a": {"__expr": "1 + 1"}}"#,
            r#"{"a": {"__extn": {"fn": "nope", "arg": "x"}}}"#,
            "[]",
        ]
        .map(with_attributes),
    );
    texts.extend([
        r#"[{"uid": "User::\"u\"", "attrs": {}, "parents": []}]"#.to_owned(),
        r#"[{"uid": {"type": "", "id": ""}, "attrs": {}, "parents": []}]"#.to_owned(),
        r#"[{"uid": {"type": "User", "id": 1}, "attrs": {}, "parents": []}]"#.to_owned(),
        entity(r#""attrs": {}, "parents": [{"type": "User", "id": "u"}]"#),
        entity(r#""attrs": {}, "parents": ["User::\"u\""]"#),
    ]);
    for text in texts {
        let files = Files::new("").with("entities/e.json", &text);
        refused(&text, &files, "entities/e.json:1");
    }
}

#[test]
fn entities_that_are_in_each_other_are_refused() {
    for (count, last_parent) in [(1, 0), (2, 0), (3, 1), (300, 0)] {
        let team = |number: usize| {
            let parent = if number + 1 == count {
                last_parent
            } else {
                number + 1
            };
            json!({
                "uid": {"type": "Team", "id": number.to_string()},
                "attrs": {},
                "parents": [{"type": "Team", "id": parent.to_string()}],
            })
        };
        let entities: Value = (0..count).map(team).collect();
        refused(
            "a circle",
            &Files::new("").entities(&entities),
            "entities/entities.json:1:",
        );
    }
}

#[test]
fn many_entities_and_links_take_no_time() {
    let users = |count: usize, id: &dyn Fn(usize) -> String| {
        let user = |number| {
            json!({
                "uid": {"type": "User", "id": id(number)},
                "attrs": {},
                "parents": [{"type": "Team", "id": ""}],
            })
        };
        Files::new("").entities(&(0..count).map(user).collect())
    };
    loads("entities", &users(10_000, &|number| number.to_string()));
    refused(
        "one entity",
        &users(2_000, &|_| String::new()),
        "entities/entities.json:1:",
    );
    let links = |count: usize, template: &str| {
        let link = |number: usize| {
            let args = json!({"?principal": "User::\"u\""});
            json!({"template_id": template, "link_id": number.to_string(), "args": args})
        };
        Files::new("@id(\"t\") permit (principal == ?principal, action, resource);")
            .links(&(0..count).map(link).collect())
    };
    loads("links", &links(5_000, "t"));
    refused(
        "links to nothing",
        &links(2_000, "none"),
        "links/links.json:1:",
    );
}

#[test]
fn odd_links_are_refused_with_their_place() {
    let link = |template: &str, id: &str, args: &str| {
        format!(r#"[{{"template_id": "{template}", "link_id": "{id}", "args": {args}}}]"#)
    };
    let user = r#"{"?principal": "User::\"u\""}"#;
    let both = r#"{"?principal": "User::\"u\"", "?resource": "Doc::\"d\""}"#;
    let deep = format!(r#"{{"?principal": "{}"}}"#, nested("(", "x", ")", 100_000));
    let mut texts: Vec<String> = ["", "{}", "[1]", "[{}]", "null", "[[[[[]]]]]", "\0"]
        .map(str::to_owned)
        .into();
    texts.extend([
        nested("[", "", "]", 100_000),
        link("t", "l", "{}"),
        link("t", "t", user),
        link("t", "", user),
        link("none", "l", user),
        link("t", "l", both),
        link("t", "l", r#"{"?action": "User::\"u\""}"#),
        link("t", "l", r#"{"?principal": ""}"#),
        link("t", "l", r#"{"?principal": "User"}"#),
        link("t", "l", &deep),
        link("t", "l", user).replace("}]", ", \"more\": 1}]"),
    ]);
    for text in texts {
        let start: String = text.chars().take(100).collect();
        let files = Files::new("@id(\"t\") permit (principal == ?principal, action, resource);");
        refused(&start, &files.with("links/l.json", &text), "links/l.json:1");
    }
}

#[test]
fn odd_rules_are_refused() {
    for text in [
        format!("a = {}", nested("[", "", "]", 100_000)),
        format!("a = {}", nested("{ a = ", "1", " }", 100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("{}]]", "[[a".repeat(1_000)),
        format!("a = \"{}", "x".repeat(1_000_000)),
        "\0".to_owned(),
        rules(&["one", "one"]),
        "rule = 1".to_owned(),
        "rule.one = 1".to_owned(),
    ] {
        let start: String = text.chars().take(40).collect();
        refused(
            &start,
            &Files::new("").with("approvals.toml", &text),
            "approvals.toml:",
        );
    }
}

/// Few lines of aliases that stand for 9 to the power of `levels` texts.
fn alias_bomb(levels: usize) -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..levels {
        let below = format!("*a{}, ", level - 1).repeat(9);
        let _ = writeln!(text, "a{level}: &a{level} [{below}]");
    }
    format!("{text}cases: *a{}\n", levels - 1)
}

#[test]
fn odd_cases_are_refused() {
    let cases = |text: String| format!("cases: {text}");
    let stairs = many(2_000, |depth| format!("{}- \n", " ".repeat(depth)));
    let deep_context = format!(
        "[{{name: x, request: {{principal: 'U::\"u\"', action: a, resource: 'U::\"u\"', context: {}}}, expect: {{decision: DENY}}}}]",
        nested("{a: ", "1", "}", 1_000)
    );
    let mut texts: Vec<String> = [
        "",
        "[]",
        "cases: 1",
        "cases: [1]",
        "\0",
        "\t- x",
        "cases: &a [*a]",
        "cases: *nothing",
        "cases: []\n---\ncases: []\n",
    ]
    .map(str::to_owned)
    .into();
    texts.extend([
        cases(nested("[", "", "]", 100_000)),
        cases(nested("{a: ", "1", "}", 100_000)),
        cases(format!("\n{stairs}")),
        cases("- ".repeat(100_000)),
        cases("? ".repeat(100_000)),
        cases("!a ".repeat(100_000)),
        cases("&a ".repeat(100_000)),
        cases(format!("\"{}", "x".repeat(1_000_000))),
        cases(deep_context),
        alias_bomb(5),
        alias_bomb(9),
        alias_bomb(30),
    ]);
    for text in texts {
        let start: String = text.chars().take(40).collect();
        refused(
            &start,
            &Files::new("").with("tests/t.yaml", &text),
            "tests/t.yaml",
        );
    }
}
