//! Encodes what was turned away.

use prost::Message;

use crate::model::{EntityRef, TraceContext};

use super::encode::Fields;
use super::proto;
use super::record_values::entity;

/// How much of a text a record holds, in bytes: whoever is refused chose it.
const TEXT_BYTES: usize = 300;

/// A call or a connection that was turned away.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefusalFacts<'a> {
    /// Why: the refusal's name.
    pub reason: &'a str,
    /// In words.
    pub detail: &'a str,
    /// What was called; empty for a connection.
    pub method: &'a str,
    /// Who called, as far as that was known.
    pub caller: &'a str,
    /// Whom the caller wanted to speak for, if it came to that.
    pub principal: Option<&'a EntityRef>,
    /// Where the connection came from.
    pub peer: &'a str,
    /// The span that the call was made from.
    pub trace: Option<TraceContext>,
}

/// The record of what was turned away at `at_us`; `unrecorded` others were since the record before.
pub fn encode(at_us: i64, facts: &RefusalFacts<'_>, unrecorded: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut record = Fields(&mut bytes);
    record.signed(1, at_us);
    record.message(14, |fields| {
        fields.text(1, facts.reason);
        fields.text(2, beginning(facts.detail));
        fields.text(3, facts.method);
        fields.text(4, beginning(facts.caller));
        if let Some(principal) = facts.principal {
            let principal =
                EntityRef::new(beginning(&principal.type_name), beginning(&principal.id));
            entity(fields, 5, &principal);
        }
        fields.text(6, facts.peer);
        if let Some(trace) = &facts.trace {
            fields.bytes(7, &trace.trace_id);
        }
        fields.number(8, unrecorded);
    });
    bytes
}

/// What `record` tells of something that was turned away, if it does.
pub fn read(record: &[u8]) -> Option<proto::CallRefused> {
    let proto::record::What::CallRefused(refused) = proto::Record::decode(record).ok()?.what?
    else {
        return None;
    };
    Some(refused)
}

fn beginning(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_the_message_it_is() {
        let principal = EntityRef::new("Agent", "\u{e9}".repeat(400));
        let facts = RefusalFacts {
            reason: "not_bound",
            detail: "no binding",
            method: "AuthorizationService/Authorize",
            caller: "spiffe://example.org/a",
            principal: Some(&principal),
            peer: "127.0.0.1:1",
            trace: None,
        };
        let refused = read(&encode(7, &facts, 3)).unwrap();
        assert_eq!(refused.unrecorded, 3);
        assert_eq!(refused.reason, "not_bound");
        assert_eq!(refused.principal.unwrap().id.len(), TEXT_BYTES);
    }
}
