//! One text for each extension value: the same exactly where Cedar calls two values equal.

use std::str::FromStr as _;

use cedar_policy::{
    Context, Entities, EntityUid, EvalResult, Expression, Request, eval_expression,
};
use countersign::policy::canonical_extension;

use crate::random::Dice;

/// Whether Cedar calls the two equal; none if it cannot read one of them.
fn cedar_equal(function: &str, one: &str, other: &str) -> Option<bool> {
    let text = format!("{function}({one:?}) == {function}({other:?})");
    let expression = Expression::from_str(&text).unwrap();
    let uid = EntityUid::from_str("U::\"u\"").unwrap();
    let request = Request::new(uid.clone(), uid.clone(), uid, Context::empty(), None).unwrap();
    match eval_expression(&request, &Entities::empty(), &expression) {
        Ok(EvalResult::Bool(verdict)) => Some(verdict),
        Ok(other) => panic!("{text} is {other:?}"),
        Err(_) => None,
    }
}

fn random_text(function: &str, dice: &mut Dice) -> String {
    let digit = |dice: &mut Dice| dice.pick(&["0", "1", "00", "10", "9"]).to_string();
    match function {
        "decimal" => format!(
            "{}{}.{}{}",
            dice.pick(&["", "-", "+", "0"]),
            digit(dice),
            digit(dice),
            dice.pick(&["", "0", "00", "5"])
        ),
        "ip" => format!(
            "{}{}",
            dice.pick(&[
                "10.0.0.1",
                "10.0.0.0",
                "::1",
                "0:0:0:0:0:0:0:1",
                "::FFFF:a00:1",
                "::ffff:0A00:1",
                "::ffff:10.0.0.1",
                "1::",
                "010.0.0.1",
            ]),
            dice.pick(&["", "/32", "/128", "/24", "/0", "/08"])
        ),
        "datetime" => format!(
            "{}{}",
            dice.pick(&[
                "1970-01-01",
                "1970-01-02",
                "1969-12-31",
                "2024-02-29",
                "2023-02-29"
            ]),
            dice.pick(&[
                "",
                "T00:00:00Z",
                "T00:00:00.000Z",
                "T00:00:00.001Z",
                "T23:00:00-0100",
                "T01:00:00+0100",
                "T23:59:59+2359",
                "T00:00:00+2460",
            ])
        ),
        _ => {
            let units = ["d", "h", "m", "s", "ms"];
            let parts: String = dice
                .some(&units, 40)
                .into_iter()
                .map(|unit| format!("{}{unit}", dice.pick(&["0", "1", "24", "60", "1000"])))
                .collect();
            format!("{}{parts}", dice.pick(&["", "-"]))
        }
    }
}

#[test]
fn two_arguments_have_one_text_exactly_if_cedar_calls_them_equal() {
    let mut dice = Dice::new(16);
    let (mut equal, mut different, mut unreadable) = (0, 0, 0);
    for round in 0..4_000 {
        let function = ["decimal", "ip", "datetime", "duration"][round % 4];
        let (one, other) = (
            random_text(function, &mut dice),
            random_text(function, &mut dice),
        );
        let texts = canonical_extension(function, &one).zip(canonical_extension(function, &other));
        let verdict = texts.map(|(one, other)| one == other);
        assert_eq!(
            verdict,
            cedar_equal(function, &one, &other),
            "{function}: {one:?} and {other:?}"
        );
        match verdict {
            Some(true) => equal += 1,
            Some(false) => different += 1,
            None => unreadable += 1,
        }
    }
    assert!(
        equal > 50 && different > 500 && unreadable > 100,
        "{equal} {different} {unreadable}"
    );
}

#[test]
fn the_text_is_what_a_digest_can_rely_on() {
    for (function, argument, expected) in [
        ("decimal", "1.0", "1.0000"),
        ("decimal", "-0.0", "0.0000"),
        ("decimal", "-922337203685477.5808", "-922337203685477.5808"),
        ("ip", "10.0.0.1", "10.0.0.1/32"),
        ("ip", "0:0:0:0:0:0:0:1", "::1/128"),
        ("datetime", "1970-01-01T01:00:00+0100", "0"),
        ("datetime", "1969-12-31", "-86400000"),
        ("duration", "60m", "3600000"),
        ("duration", "1h", "3600000"),
    ] {
        let text = canonical_extension(function, argument);
        assert_eq!(text.as_deref(), Some(expected), "{function}({argument})");
    }
    for (function, argument) in [
        ("decimal", "1"),
        ("ip", "10.0.0.256"),
        ("datetime", "yesterday"),
        ("duration", ""),
        ("unknown", "x"),
        ("lessThan", "1.0"),
    ] {
        assert_eq!(canonical_extension(function, argument), None);
    }
}
