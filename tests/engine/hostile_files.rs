//! Hostile schemas, entities, links, rules and cases.

use std::fmt::Write as _;

use serde_json::json;

use crate::hostile::{loads, nested, refused, survive};
use crate::support::{Files, rules};

fn t(what: &str, f: impl FnOnce()) {
    let started = std::time::Instant::now();
    f();
    println!("{:?} {what}", started.elapsed());
}

#[test]
fn nested_types_are_bounded() {
    for (open, inner, close) in [
        ("Set<", "Long", ">"),
        ("{ a: ", "Long", " }"),
        ("{ \"a\"?: Set<", "Long", "> }"),
    ] {
        for depth in [10, 30, 70, 1_000, 10_000] {
            let text = format!("entity User {{ a: {} }};", nested(open, inner, close, depth));
            let files = Files::new("").schema(&text);
            t(&format!("{open} {depth}"), || if depth < 64 {
                loads("a schema", &files);
            } else {
                refused(
                    "a schema",
                    &files,
                    "schema.cedarschema:1:",
                );
            });
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
        t(text, || { survive(text, &Files::new("").schema(text)); });
    }
    loads(
        "entities in each other",
        &Files::new("").schema("entity A in [B]; entity B in [A]; entity C in [C] { c: C };"),
    );
}

#[test]
fn long_schemas_are_only_long() {
    let many = |count: usize, text: &dyn Fn(usize) -> String| -> String { (0..count).map(text).collect() };
    let schemas = [
        ("types", many(5_000, &|number| format!("entity A{number};\n"))),
        ("a chain of types", many(2_000, &|number| format!("entity A{number} in [A{}];\n", number + 1)) + "entity A2000;"),
        ("attributes", format!("entity A {{ {} }};", many(1_300, &|number| format!("a{number}: Long, ")))),
        ("choices", format!("entity A enum [{} \"z\"];", many(4_000, &|number| format!("\"a{number}\", ")))),
        ("actions", "entity U;".to_owned() + &many(2_000, &|number| format!("action a{number} appliesTo {{ principal: U, resource: U }};\n"))),
        ("a chain of actions", many(1_000, &|number| format!("action a{number} in [a{}];\n", number + 1)) + "action a1000;"),
        ("namespaces", many(2_000, &|number| format!("namespace N{number} {{ entity A; }}\n"))),
        ("a name", format!("namespace {}A {{ entity A; }}", "A::".repeat(2_000))),
        ("a chain of names", many(2_000, &|number| format!("type T{number} = T{};\n", number + 1)) + "type T2000 = Long;"),
    ];
    for (what, text) in schemas {
        t(what, || { survive(what, &Files::new("").schema(&text)); });
    }
}

#[test]
fn bomb() {
    for depth in [8, 12, 14, 16] {
        let mut text = String::from("type T0 = { a: Long, b: Long };\n");
        for level in 1..=depth {
            let below = level - 1;
            let _ = writeln!(text, "type T{level} = {{ a: T{below}, b: T{below} }};");
        }
        let _ = writeln!(text, "entity User {{ t: T{depth} }};");
        t(&format!("bomb {depth}"), || { survive("x", &Files::new("").schema(&text)); });
    }
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
                format!(r#"[{{"uid": {{"type": "User", "id": "u"}}, "attrs": {{"a": {value}}}, "parents": []}}]"#),
                format!(r#"[{{"uid": {value}, "attrs": {{}}, "parents": []}}]"#),
                value.clone(),
            ] {
                let files = Files::new("").with("entities/e.json", &text);
                t(&format!("{open} {depth}"), || { survive(&format!("{depth} times `{open}`"), &files); });
            }
        }
    }
}

#[test]
fn what_is_no_list_of_entities_is_refused_with_its_place() {
    for text in [
        "", " ", "{}", "1", "\"x\"", "null", "[1]", "[[]]", "[{}]", "[null]", "[", "[{", "[]]", "[,]", "\0", "\u{feff}[]",
        r#"[{"uid": "User::\"u\"", "attrs": {}, "parents": []}]"#,
        r#"[{"uid": {"type": "", "id": ""}, "attrs": {}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": 1}, "attrs": {}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {"a": null}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {"a": 1.5}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {"a": 1e400}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {"a": 9223372036854775808}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {"a": 1, "a": 2}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "\ud800"}, "attrs": {}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {"a": {"__expr": "1 + 1"}}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {"a": {"__extn": {"fn": "nope", "arg": "x"}}}, "parents": []}]"#,
        r#"[{"uid": {"type": "User", "id": "u"}, "attrs": {}, "parents": [{"type": "User", "id": "u"}]}]"#,
    ] {
        refused(text, &Files::new("").with("entities/e.json", text), "entities/e.json:1");
    }
}

#[test]
fn entities_that_are_in_each_other_are_refused() {
    for (count, tail) in [(1, 0), (2, 0), (3, 1), (300, 0)] {
        let entities: Vec<serde_json::Value> = (0..count)
            .map(|number| {
                let parent = if number + 1 == count { tail } else { number + 1 };
                json!({"uid": {"type": "Team", "id": number.to_string()}, "attrs": {}, "parents": [{"type": "Team", "id": parent.to_string()}]})
            })
            .collect();
        t("circle", || refused("a circle", &Files::new("").entities(&json!(entities)), "entities"));
    }
}

#[test]
fn many_entities_and_links_take_no_time() {
    let entities = |count: usize, id: &dyn Fn(usize) -> String, parent: &dyn Fn(usize) -> String| {
        let entities: Vec<serde_json::Value> = (0..count)
            .map(|number| json!({"uid": {"type": "User", "id": id(number)}, "attrs": {}, "parents": [{"type": "Team", "id": parent(number)}]}))
            .collect();
        Files::new("").entities(&json!(entities))
    };
    t("ents", || loads("entities", &entities(20_000, &|number| number.to_string(), &|_| String::new())));
    t("same", || refused("one entity", &entities(5_000, &|_| String::new(), &|_| String::new()), "entities/entities.json:1:"));
    let links = |count: usize, template: &str| {
        let links: Vec<serde_json::Value> = (0..count)
            .map(|number| json!({"template_id": template, "link_id": number.to_string(), "args": {"?principal": "User::\"u\""}}))
            .collect();
        Files::new("@id(\"t\") permit (principal == ?principal, action, resource);").links(&json!(links))
    };
    t("links", || loads("links", &links(5_000, "t")));
    t("badlinks", || refused("links to nothing", &links(5_000, "none"), "links/links.json:1:"));
}

#[test]
fn odd_links_are_refused_with_their_place() {
    let template = "@id(\"t\") permit (principal == ?principal, action, resource);";
    for text in [
        "", "{}", "[1]", "[{}]", "null", "[[[[[]]]]]", "\0",
        r#"[{"template_id": "t", "link_id": "l", "args": {}}]"#,
        r#"[{"template_id": "t", "link_id": "t", "args": {"?principal": "User::\"u\""}}]"#,
        r#"[{"template_id": "t", "link_id": "", "args": {"?principal": "User::\"u\""}}]"#,
        r#"[{"template_id": "t", "link_id": "l", "args": {"?principal": "((((("}}]"#,
        r#"[{"template_id": "t", "link_id": "l", "args": {"?principal": "User::\"u\"", "?resource": "Doc::\"d\""}}]"#,
        r#"[{"template_id": "t", "link_id": "l", "args": {"?action": "User::\"u\""}}]"#,
        r#"[{"template_id": "t", "link_id": "l", "args": {"?principal": "User::\"u\""}, "more": 1}]"#,
    ] {
        refused(text, &Files::new(template).with("links/l.json", text), "links/l.json:1");
    }
    let deep = nested("[", "", "]", 100_000);
    refused("deep links", &Files::new("").with("links/l.json", &deep), "links/l.json:1");
    let uid = format!("[{{\"template_id\": \"t\", \"link_id\": \"l\", \"args\": {{\"?principal\": \"{}\"}}}}]", nested("(", "x", ")", 100_000));
    t("deeplinkuid", || refused("a deep name", &Files::new(template).with("links/l.json", &uid), "links/l.json:1"));
}

#[test]
fn odd_rules_are_refused_with_their_place() {
    let deep = [
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
    ];
    for text in deep {
        let start: String = text.chars().take(40).collect();
        t(&start, || refused(&start, &Files::new("").with("approvals.toml", &text), "approvals.toml:"));
    }
}

#[test]
fn odd_cases_are_refused_with_their_place() {
    let bomb = |levels: usize| {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..levels {
            let below = format!("*a{}, ", level - 1).repeat(9);
            let _ = writeln!(text, "a{level}: &a{level} [{below}]");
        }
        format!("{text}cases: *a{}\n", levels - 1)
    };
    let texts = [
        "".to_owned(),
        "[]".to_owned(),
        "cases: 1".to_owned(),
        "cases: [1]".to_owned(),
        "\0".to_owned(),
        "\t- x".to_owned(),
        "cases: &a [*a]".to_owned(),
        "cases: *nothing".to_owned(),
        "cases: []\n---\ncases: []\n".to_owned(),
        format!("cases: {}", nested("[", "", "]", 100_000)),
        format!("cases: {}", nested("{a: ", "1", "}", 100_000)),
        format!("cases:\n{}", (0..2_000).map(|depth| format!("{}- \n", " ".repeat(depth))).collect::<String>()),
        format!("cases: {}", "- ".repeat(100_000)),
        format!("cases: {}", "? ".repeat(100_000)),
        format!("cases: {}", "!a ".repeat(100_000)),
        format!("cases: {}", "&a ".repeat(100_000)),
        format!("cases: \"{}", "x".repeat(1_000_000)),
        bomb(5),
        bomb(9),
        bomb(30),
        format!("cases:\n  - name: x\n    request: {{principal: 'U::\"u\"', action: a, resource: 'U::\"u\"', context: {}}}\n    expect: {{decision: ALLOW}}\n", nested("{a: ", "1", "}", 1_000)),
    ];
    for text in texts {
        let start: String = text.chars().take(40).collect();
        t(&start, || refused(&start, &Files::new("").with("tests/t.yaml", &text), "tests/t.yaml"));
    }
}
