//! What clients wished for, and what they were told was done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use countersign::grpc::proto::{
    Approval, AuthorizeRequest, Entity, Struct, VoteChoice, VoteRequest,
};
use prost_types::Value;
use prost_types::value::Kind;

/// Those who vote.
pub(crate) const PEOPLE: [&str; 2] = ["ann", "bob"];

/// What is known of one request that somebody asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    /// Tells it from every other; part of the request.
    pub(crate) number: u32,
    /// The approval, if the program said that it was opened.
    pub(crate) opened: Option<Approval>,
    /// Whose votes were sent; true for those that were acknowledged.
    pub(crate) votes: BTreeMap<&'static str, bool>,
    /// Whether a redemption was sent.
    pub(crate) is_redeeming: bool,
    /// The decision that allowed it, if that was acknowledged.
    pub(crate) redeemed: Option<String>,
    /// The highest version that was acknowledged.
    pub(crate) version: u64,
}

impl Item {
    /// Always the same for the same item, its key included: what is sent again is sent again as it was.
    pub(crate) fn request(&self) -> AuthorizeRequest {
        let number = Value {
            kind: Some(Kind::NumberValue(f64::from(self.number))),
        };
        AuthorizeRequest {
            principal: Some(entity("Agent", "bot")),
            action: "Spend".to_owned(),
            resource: Some(entity("Thing", "budget")),
            context: Some(Struct {
                fields: [("number".to_owned(), number)].into(),
            }),
            request_id: format!("ask-{}", self.number),
            justification: "Because.".to_owned(),
            ..AuthorizeRequest::default()
        }
    }

    /// The same request, to redeem `approval`.
    pub(crate) fn redemption(&self, approval: &str) -> AuthorizeRequest {
        AuthorizeRequest {
            approval_id: approval.to_owned(),
            ..self.request()
        }
    }

    pub(crate) fn vote(&self, approval: &Approval, name: &str) -> VoteRequest {
        VoteRequest {
            id: approval.id.clone(),
            choice: VoteChoice::Approve.into(),
            request_digest: approval.request_digest.clone(),
            view_digest: approval.view_digest.clone(),
            comment: format!("{name} says yes."),
            request_id: format!("vote-{}", self.number),
        }
    }

    pub(crate) fn saw(&mut self, version: u64) {
        self.version = self.version.max(version);
    }
}

fn entity(type_name: &str, id: &str) -> Entity {
    Entity {
        r#type: type_name.to_owned(),
        id: id.to_owned(),
        ..Entity::default()
    }
}

/// Everything that was ever asked for.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) items: BTreeMap<u32, Item>,
    /// Those of the last cycle, which nobody has checked yet.
    pub(crate) unchecked: BTreeSet<u32>,
    pub(crate) next: u32,
}

impl Ledger {
    pub(crate) fn enter(&mut self, items: Vec<Item>) {
        for item in items {
            self.unchecked.insert(item.number);
            self.items.insert(item.number, item);
        }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = || self.items.values();
        let votes = items().flat_map(|item| item.votes.values());
        write!(
            f,
            "acknowledged {} opened, {} votes, {} redeemed",
            items().filter(|item| item.opened.is_some()).count(),
            votes.filter(|acknowledged| **acknowledged).count(),
            items().filter(|item| item.redeemed.is_some()).count(),
        )
    }
}
