//! Random conditions.
//!
//! A condition is built around a path: an attribute reached from principal, resource or context, with the `has` tests that make
//! it safe. In a wild world the tests are often left out, and the atoms may make no sense at all.

use std::fmt::Write as _;

use countersign::model::Value;

use super::Dice;
use super::schema::{Action, Field, GROUPS, Schema, Type, UNREAD};
use super::values::{DATETIMES, DECIMALS, DURATIONS, IPS, TEXTS, random_value};

/// What a policy is about.
pub(crate) struct Env<'w> {
    pub(crate) schema: &'w Schema,
    pub(crate) principal: usize,
    pub(crate) resource: usize,
    pub(crate) action: &'w Action,
    pub(crate) wild: bool,
}

impl Env<'_> {
    /// The type of `principal` or `resource`.
    pub(crate) fn position(&self, side: &str) -> usize {
        if side == "principal" {
            self.principal
        } else {
            self.resource
        }
    }
}

/// An expression with the tests it needs before it.
struct Path {
    text: String,
    guards: Vec<String>,
    path_type: Type,
}

/// A condition with up to 2^`depth` atoms.
pub(crate) fn random_condition(dice: &mut Dice, env: &Env<'_>, depth: usize) -> String {
    if depth == 0 || dice.percent(45) {
        return random_atom(dice, env);
    }
    let left = random_condition(dice, env, depth - 1);
    let right = random_condition(dice, env, depth - 1);
    match dice.below(6) {
        0 | 1 => format!("({left}) && ({right})"),
        2 | 3 => format!("({left}) || ({right})"),
        4 => format!("!({left})"),
        _ => {
            let test = random_atom(dice, env);
            format!("if {test} then {left} else {right}")
        }
    }
}

fn random_atom(dice: &mut Dice, env: &Env<'_>) -> String {
    if env.wild && dice.percent(12) {
        return wild_atom(dice, env);
    }
    match dice.below(100) {
        0..=3 => format!("action == {}", dice.pick(&env.schema.actions).uid),
        4..=6 => format!("action in [{}]", dice.pick(&GROUPS)),
        7..=10 => whole_context(dice, env),
        11..=13 => "principal == resource || principal != resource".to_owned(),
        14..=17 => scope_like(dice, env),
        _ => {
            let path = random_path(dice, env);
            let atom = test_of(dice, env, &path);
            if env.wild && dice.percent(30) {
                return atom;
            }
            let mut guarded = path.guards.join(" && ");
            if !guarded.is_empty() {
                guarded.push_str(" && ");
            }
            guarded + &atom
        }
    }
}

/// Walks from a root along attributes and tags.
fn random_path(dice: &mut Dice, env: &Env<'_>) -> Path {
    let mut path = match dice.below(10) {
        0..=2 => Path::root("principal", Type::Entity(env.principal)),
        3..=5 => Path::root("resource", Type::Entity(env.resource)),
        _ => {
            let mut fields = env.action.context.clone();
            fields.retain(|field| field.name != UNREAD);
            let mut path = Path::root("context", Type::Record(fields));
            path.step(dice, env);
            path
        }
    };
    for _ in 0..dice.below(4) {
        path.step(dice, env);
    }
    path
}

impl Path {
    fn root(text: &str, path_type: Type) -> Self {
        Self {
            text: text.to_owned(),
            guards: Vec::new(),
            path_type,
        }
    }

    /// One attribute or tag further, where there is one.
    fn step(&mut self, dice: &mut Dice, env: &Env<'_>) {
        let fields: Vec<Field> = match &self.path_type {
            Type::Entity(position) => {
                let known = &env.schema.types[*position];
                if let Some(tags) = &known.tags
                    && dice.percent(30)
                {
                    self.step_to_tag(dice, tags.clone());
                    return;
                }
                known.fields.clone()
            }
            Type::Record(fields) => fields.clone(),
            _ => return,
        };
        if fields.is_empty() {
            return;
        }
        let field = dice.pick(&fields);
        let text = &self.text;
        if !field.required {
            self.guards.push(format!("{text} has {:?}", field.name));
        }
        self.text = if field.name.contains(' ') {
            format!("{text}[{:?}]", field.name)
        } else {
            format!("{text}.{}", field.name)
        };
        self.path_type = field.field_type.clone();
    }

    fn step_to_tag(&mut self, dice: &mut Dice, tag_type: Type) {
        let text = &self.text;
        let name = *dice.pick(&["a", "b", ""]);
        self.guards.push(format!("{text}.hasTag({name:?})"));
        self.text = format!("{text}.getTag({name:?})");
        self.path_type = tag_type;
    }
}

/// A test of what stands at the end of `path`.
fn test_of(dice: &mut Dice, env: &Env<'_>, path: &Path) -> String {
    let text = &path.text;
    let literal = |dice: &mut Dice| literal(dice, env, &path.path_type);
    match &path.path_type {
        Type::Bool => {
            let shapes = [
                text.clone(),
                format!("!{text}"),
                format!("{text} == true"),
                format!("(if {text} then 1 else 2) == 1"),
            ];
            dice.pick(&shapes).clone()
        }
        Type::Long => {
            let number = literal(dice);
            let shapes = [
                format!("{text} < {number}"),
                format!("{text} <= 2"),
                format!("{text} == {number}"),
                format!("{text} + 1 > {number}"),
                format!("{text} - 2 < 3"),
                format!("{text} * 2 >= 0"),
                format!("{text} + {number} == 0"),
                format!("{text} * {text} != -1"),
                format!("-{text} != 1"),
                format!("[1, 2, {text}].contains({number})"),
            ];
            dice.pick(&shapes).clone()
        }
        Type::String => {
            let word = literal(dice);
            let shapes = [
                format!("{text} == {word}"),
                format!("{text} != {word}"),
                format!("{text} like \"*a\""),
                format!("[\"a\", \"prod\"].contains({text})"),
                format!("{{t: {text}}}.t == \"a\""),
            ];
            dice.pick(&shapes).clone()
        }
        Type::Entity(position) => entity_test(dice, env, text, *position),
        Type::Set(element) => set_test(dice, env, text, element),
        Type::Record(_) => {
            let shapes = [
                format!("{text} == {}", literal(dice)),
                format!("{text} == {text}"),
                format!("[{text}].contains({})", literal(dice)),
            ];
            dice.pick(&shapes).clone()
        }
        Type::Ip | Type::Decimal | Type::Datetime | Type::Duration => {
            extension_test(dice, text, &path.path_type)
        }
    }
}

fn entity_test(dice: &mut Dice, env: &Env<'_>, text: &str, position: usize) -> String {
    let schema = env.schema;
    let itself = schema.random_uid(dice, position);
    let parents = &schema.types[position].parents;
    let group = if parents.is_empty() {
        itself.clone()
    } else {
        let parent = *dice.pick(parents);
        schema.random_uid(dice, parent)
    };
    let name = schema.types[position].name;
    let shapes = [
        format!("{text} == {itself}"),
        format!("{text} in {group}"),
        format!("{text} in [{group}, {itself}]"),
        format!("{text} is {name} in {group}"),
        format!("[{itself}, {text}].contains({itself})"),
        format!("{{e: {text}}}.e in {group}"),
        format!("(if context == context then {text} else {text}) in {group}"),
    ];
    // The last one makes the whole context relevant, so it is rare.
    let count = if dice.percent(10) { 7 } else { 6 };
    shapes[dice.below(count)].clone()
}

fn set_test(dice: &mut Dice, env: &Env<'_>, text: &str, element: &Type) -> String {
    let (one, two) = (literal(dice, env, element), literal(dice, env, element));
    let shapes = [
        format!("{text}.contains({one})"),
        format!("{text}.containsAny([{one}, {two}])"),
        format!("{text}.containsAll([{one}])"),
        format!("{text}.isEmpty()"),
        format!("{text} == [{one}, {two}]"),
    ];
    match element {
        Type::Entity(position) if *position == env.principal && dice.percent(60) => {
            format!("principal in {text}")
        }
        Type::Entity(position)
            if env.schema.types[env.resource].parents.contains(position) && dice.percent(60) =>
        {
            format!("resource in {text}")
        }
        _ => dice.pick(&shapes).clone(),
    }
}

fn extension_test(dice: &mut Dice, text: &str, extension: &Type) -> String {
    let shapes = match extension {
        Type::Ip => {
            let ip = dice.pick(&IPS);
            [
                format!("{text}.isIpv4()"),
                format!("{text}.isInRange(ip({ip:?}))"),
                format!("{text} == ip({ip:?})"),
            ]
        }
        Type::Decimal => {
            let decimal = dice.pick(&DECIMALS);
            [
                format!("{text}.lessThan(decimal({decimal:?}))"),
                format!("{text} == decimal({decimal:?})"),
                format!("{text}.greaterThanOrEqual(decimal(\"0.0\"))"),
            ]
        }
        Type::Datetime => {
            let (datetime, duration) = (dice.pick(&DATETIMES), dice.pick(&DURATIONS));
            [
                format!("{text} <= datetime({datetime:?})"),
                format!("{text}.offset(duration({duration:?})) > datetime({datetime:?})"),
                format!("{text}.toDate() == datetime({datetime:?})"),
            ]
        }
        _ => {
            let duration = dice.pick(&DURATIONS);
            [
                format!("{text} < duration({duration:?})"),
                format!("{text}.toMilliseconds() + 1 > 0"),
                format!("{text} == duration({duration:?})"),
            ]
        }
    };
    dice.pick(&shapes).clone()
}

/// The context as a value of its own.
fn whole_context(dice: &mut Dice, env: &Env<'_>) -> String {
    let all = literal(dice, env, &Type::Record(env.action.context.clone()));
    let shapes = [
        format!("context == {all}"),
        format!("[context].contains({all})"),
        format!("{{c: context}}.c != {all}"),
        "context == {}".to_owned(),
    ];
    dice.pick(&shapes).clone()
}

/// What could stand in a scope.
fn scope_like(dice: &mut Dice, env: &Env<'_>) -> String {
    let side = *dice.pick(&["principal", "resource"]);
    entity_test(dice, env, side, env.position(side))
}

/// What no schema would accept.
fn wild_atom(dice: &mut Dice, env: &Env<'_>) -> String {
    let path = random_path(dice, env).text;
    let uid = env.schema.random_uid(dice, 0);
    let (one, two) = (dice.pick(&GROUPS), dice.pick(&GROUPS));
    let shapes = [
        format!("{path}.nope == 1"),
        format!("{path} has nope"),
        format!("{path} has name.level"),
        format!(
            "context has {}.team.name",
            env.action.context[0].name.replace(' ', "_")
        ),
        path.clone(),
        "1".to_owned(),
        format!("{path} + 1 == 2"),
        format!("{path} < context.level"),
        format!("{path}.contains(1)"),
        format!("{path} in {path}"),
        format!("{path} in principal"),
        format!("{uid}.name == \"a\""),
        format!("{uid} in {}", env.schema.random_uid(dice, 2)),
        format!("{uid}.team in Org::\"a\""),
        format!("{one} in {two}"),
        format!("context.owner in {two}"),
        format!("{path}.hasTag(context.name) && {path}.getTag(context.name) == 1"),
        format!("principal.getTag(\"a\") == {path}"),
        format!("ip({path}).isIpv4()"),
        "decimal(\"x\") == decimal(\"1.0\")".to_owned(),
        format!("{path} is User"),
        format!("(if {path} == 1 then principal else resource).name == \"a\""),
        "{u: principal}.u.owner has name".to_owned(),
        "[principal, resource].contains(context.owner)".to_owned(),
        "principal in [resource, context.team]".to_owned(),
    ];
    dice.pick(&shapes).clone()
}

/// A literal of a type, in Cedar's syntax.
fn literal(dice: &mut Dice, env: &Env<'_>, wanted: &Type) -> String {
    if *wanted == Type::String {
        return format!("{:?}", dice.pick(&TEXTS));
    }
    let value = random_value(dice, env.schema, wanted, false);
    shown(&value)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        // Cedar has no literal for the smallest number.
        Value::Long(number) => (*number).max(-i64::MAX).to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Set(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Record(record) => {
            let mut text = String::from("{");
            for (name, field) in record.iter() {
                let _ = write!(text, "{name:?}: {}, ", shown(field));
            }
            text.truncate(text.trim_end_matches(", ").len());
            text + "}"
        }
        Value::Entity(uid) => uid.to_string(),
        Value::Extension { function, argument } => format!("{function}({argument:?})"),
    }
}
