//! Keeps values out of records, as policies say.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::model::{Redaction, RedactionNode, Redactions};

/// The key under which values are hashed that may only be compared. One for a cluster; whoever has it can guess short values.
#[derive(Clone, Copy)]
pub struct RedactionKey(pub [u8; 32]);

impl std::fmt::Debug for RedactionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedactionKey(…)")
    }
}

/// What is kept out of the records of one policy set.
#[derive(Clone, Copy, Debug)]
pub struct Redactor<'a> {
    /// Which values.
    pub redactions: &'a Redactions,
    /// The key for those that may be compared.
    pub key: RedactionKey,
}

impl<'a> Redactor<'a> {
    /// What is said of the values below `root`.
    pub(super) fn below(&self, root: &str) -> Spot<'a> {
        Spot {
            node: self.redactions.below(root),
            key: self.key,
        }
    }
}

/// What is said of one value and those in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    node: Option<&'a RedactionNode>,
    key: RedactionKey,
}

impl Spot<'_> {
    /// The same for the value called `name`.
    pub(super) fn step(&self, name: &str) -> Self {
        Self {
            node: self.node.and_then(|node| node.step(name)),
            key: self.key,
        }
    }

    /// What is written in the value's place.
    pub(super) fn here(&self) -> Option<Redaction> {
        self.node.and_then(RedactionNode::here)
    }

    /// Whether anything is said of the value, or of one in it.
    pub(super) fn is_there(&self) -> bool {
        self.node.is_some()
    }

    /// The keyed hash of a value's bytes.
    pub(super) fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        // A key of any length will do, so that there is always a hash.
        Hmac::<Sha256>::new_from_slice(&self.key.0)
            .map(|mac| mac.chain_update(bytes).finalize().into_bytes().into())
            .unwrap_or_default()
    }
}
