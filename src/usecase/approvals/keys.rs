//! Idempotency keys: whose they are, and what was asked with them.

use crate::approval::{Digest, Person};
use crate::usecase::approval_store::CommandKey;

/// Whose key it is: two callers may choose the same one.
pub(super) enum Owner<'a> {
    Person(&'a Person),
    Caller(&'a str),
}

/// The key `request_id` of a call of `method` that asked for `payload`; none if the caller chose none.
pub(super) fn key(
    owner: &Owner<'_>,
    method: &'static str,
    request_id: Option<String>,
    payload: Digest,
) -> Option<CommandKey> {
    let owner = match owner {
        Owner::Person(Person { issuer, subject }) => [Some("person"), Some(issuer), Some(subject)],
        Owner::Caller(name) => [Some("caller"), Some(*name), None],
    };
    Some(CommandKey {
        caller: Digest::of_parts("countersign key owner v1", &owner).to_string(),
        method,
        key: request_id?,
        payload,
    })
}

/// The digest of what was asked: the same parts, absent ones included, have the same one.
pub(super) fn payload(parts: &[Option<&str>]) -> Digest {
    Digest::of_parts("countersign command v1", parts)
}
