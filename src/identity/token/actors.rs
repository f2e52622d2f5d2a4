//! Who acts for a token's subject, as RFC 8693 writes it.

use serde_json::Value;

use super::TokenFault;
use super::claims::is_plain;

const MAX_DEPTH: usize = 8;

/// Somebody who acts for a token's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub subject: String,
    /// Who named them, if the token says so.
    pub issuer: Option<String>,
}

/// Reads the claim `act`: the one who acts now comes first, those who acted before behind it.
pub(super) fn read(act: Option<&Value>) -> Result<Vec<Actor>, TokenFault> {
    let mut actors = Vec::new();
    let mut next = act;
    while let Some(act) = next {
        if actors.len() == MAX_DEPTH {
            return Err(TokenFault::BadActors);
        }
        let act = act.as_object().ok_or(TokenFault::BadActors)?;
        let text = |claim: &str| match act.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) if is_plain(text) => Ok(Some(text.clone())),
            Some(_) => Err(TokenFault::BadActors),
        };
        actors.push(Actor {
            subject: text("sub")?.ok_or(TokenFault::BadActors)?,
            issuer: text("iss")?,
        });
        next = act.get("act");
    }
    Ok(actors)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subjects(act: &Value) -> Option<Vec<String>> {
        let actors = read(Some(act)).ok()?;
        Some(actors.into_iter().map(|actor| actor.subject).collect())
    }

    fn nested(depth: usize) -> Value {
        (1..depth).fold(
            json!({"sub": "a"}),
            |act, _| json!({"sub": "a", "act": act}),
        )
    }

    #[test]
    fn who_acts_now_comes_first() {
        assert_eq!(read(None), Ok(Vec::new()));
        let act = json!({"sub": "tool", "iss": "x", "act": {"sub": "agent"}, "more": 1});
        let found = read(Some(&act)).unwrap();
        let actor = |subject: &str, issuer: Option<&str>| Actor {
            subject: subject.to_owned(),
            issuer: issuer.map(str::to_owned),
        };
        assert_eq!(found, [actor("tool", Some("x")), actor("agent", None)]);
    }

    #[test]
    fn actors_that_cannot_be_read_are_a_fault() {
        assert_eq!(subjects(&nested(8)).unwrap().len(), 8);
        for act in [
            nested(9),
            nested(60),
            json!(null),
            json!("agent"),
            json!([{"sub": "a"}]),
            json!({}),
            json!({"sub": ""}),
            json!({"sub": 1}),
            json!({"sub": "a\n"}),
            json!({"sub": "a", "iss": 1}),
            json!({"sub": "a", "iss": null}),
            json!({"sub": "a", "act": null}),
            json!({"sub": "a", "act": {"iss": "x"}}),
        ] {
            assert_eq!(subjects(&act), None, "{act}");
        }
    }
}
