//! What a webhook's body says: enough to be useful. Whoever acts on it reads the approval again by its id.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::approval::{Approval, Fact, SafeText};
use crate::usecase::approval_store::Delivery;

/// How many characters of the justification go into the body; all of it is at the server.
const JUSTIFICATION_GRAPHEMES: usize = 1_000;
/// How many values go into the body.
const FACTS: usize = 40;
/// How many characters of a value go into the body.
const FACT_GRAPHEMES: usize = 200;

/// The body that tells how `approval` stands.
pub(super) fn of(approval: &Approval, delivery: &Delivery, now: Timestamp) -> Vec<u8> {
    let kind = if delivery.posted_version == 0 {
        "approval.opened"
    } else {
        "approval.changed"
    };
    let body = json!({
        "type": kind,
        "timestamp": now.to_string(),
        "data": data(approval, now),
    });
    body.to_string().into_bytes()
}

fn data(approval: &Approval, now: Timestamp) -> Value {
    let view = &approval.asked.view;
    let text = |text: &SafeText| short(text, FACT_GRAPHEMES);
    let fact = |fact: &Fact| json!({ "name": text(&fact.name), "value": text(&fact.value) });
    let shown: Vec<Value> = view.facts.iter().take(FACTS).map(fact).collect();
    let votes = approval.votes.iter().map(|vote| {
        let choice = vote.choice.as_str();
        json!({ "person": vote.voter.account.to_string(), "choice": choice, "time": vote.at.to_string() })
    });
    let missing = approval.progress().missing;
    let missing = missing
        .iter()
        .map(|(seat, count)| json!({ "seat": seat.to_string(), "count": count }));
    let reasons = view.reasons.iter().map(
        |reason| json!({ "policy": text(&reason.policy), "sentence": text(&reason.sentence) }),
    );
    json!({
        "id": approval.id.as_str(),
        "version": approval.version,
        "status": approval.status_at(now).as_str(),
        "headline": text(&view.headline),
        "requester": text(&view.requester),
        "on_behalf_of": view.on_behalf_of.iter().map(text).collect::<Vec<_>>(),
        "action": text(&view.action),
        "resource": text(&view.resource),
        "facts": shown,
        "facts_left_out": view.facts.len().saturating_sub(FACTS),
        "reasons": reasons.collect::<Vec<_>>(),
        "justification_unverified": view.justification.as_ref().map(|text| short(text, JUSTIFICATION_GRAPHEMES)),
        "grants": view.grants,
        "votes": votes.collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
        "opened": approval.opened.to_string(),
        "expires": approval.expires.to_string(),
        "redeem_before": approval.redeem_before().map(|time| time.to_string()),
        "request_digest": approval.asked.digest.to_string(),
        "view_digest": approval.asked.view_digest.to_string(),
        "escalated": approval.is_escalated(),
    })
}

/// What is cut says so.
fn short(text: &SafeText, graphemes: usize) -> String {
    crate::approval::shorten(text.as_str(), graphemes).to_string()
}
