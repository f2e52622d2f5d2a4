//! Requests in the making.

use countersign::approval::Approval;
use countersign::model::{EntityDescription, EntityRef, Mode, Record, Request, Value};
use countersign::policy::parse_entity;

/// The caller of every request, unless a test says otherwise.
pub(crate) const CALLER: &str = "gateway";

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Ask(pub(crate) Request);

/// The agent's wish to deploy the service to production.
pub(crate) fn deploy() -> Ask {
    let mut request = Request::new(
        uid("Agent::\"bot\""),
        "Deploy",
        uid("Service::\"api\""),
        record([("version", Value::String("1.0".to_owned()))]),
    );
    CALLER.clone_into(&mut request.caller);
    Ask(request)
}

impl Ask {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Request)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn principal(self, name: &str) -> Self {
        self.with(|request| request.principal = uid(name))
    }

    pub(crate) fn for_people(self, names: &[&str]) -> Self {
        self.with(|request| {
            request.on_behalf_of = names
                .iter()
                .map(|name| EntityRef::new("User", *name))
                .collect();
        })
    }

    pub(crate) fn version(self, version: &str) -> Self {
        self.context("version", Value::String(version.to_owned()))
    }

    pub(crate) fn context(self, name: &str, value: Value) -> Self {
        self.with(|request| request.context.insert(name.to_owned(), value))
    }

    pub(crate) fn describe(self, name: &str, attributes: Record) -> Self {
        self.with(|request| {
            request.entities.push(EntityDescription {
                uid: uid(name),
                attributes,
                parents: Vec::new(),
            });
        })
    }

    /// With an idempotency key.
    pub(crate) fn key(self, key: &str) -> Self {
        self.with(|request| request.request_id = Some(key.to_owned()))
    }

    /// With an approval to redeem.
    pub(crate) fn redeeming(self, approval: &Approval) -> Self {
        self.with(|request| request.approval_id = Some(approval.id.as_str().to_owned()))
    }

    pub(crate) fn because(self, reason: &str) -> Self {
        self.with(|request| request.justification = Some(reason.to_owned()))
    }

    pub(crate) fn check(self) -> Self {
        self.with(|request| request.mode = Mode::Check)
    }
}

pub(crate) fn uid(text: &str) -> EntityRef {
    parse_entity(text).unwrap_or_else(|| panic!("`{text}` is not an entity"))
}

pub(crate) fn record<const N: usize>(fields: [(&str, Value); N]) -> Record {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
