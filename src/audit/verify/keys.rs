//! Which keys may sign a log: the chain that the control log holds of its own keys, and those that somebody pinned.

use crate::audit::keys::accepted;
use crate::audit::note::VerifierKey;
use crate::audit::proto::KeyAdded;

use super::finding::{Finding, Findings, Kind};

/// The keys of a log in the order in which they came, each with the size from which on it may sign.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    keys: Vec<VerifierKey>,
    /// Checkpoints of at least so many records.
    since: Vec<u64>,
    /// For each key the one that vouches for it; none for the first.
    by: Vec<Option<usize>>,
}

impl KeyRing {
    /// The ring of a decision log: one key, from the beginning on.
    pub(super) fn of(key: VerifierKey) -> Self {
        Self {
            keys: vec![key],
            since: vec![0],
            by: vec![None],
        }
    }

    /// The keys that may sign a checkpoint of `size` records.
    pub(super) fn for_size(&self, size: u64) -> &[VerifierKey] {
        let known = self.since.partition_point(|since| *since <= size);
        self.keys.get(..known).unwrap_or_default()
    }

    /// All keys, in the order in which they came.
    pub fn all(&self) -> &[VerifierKey] {
        &self.keys
    }

    /// Whether one of `pinned` is `key`, or vouches for it over any number of steps.
    pub(super) fn is_vouched(&self, key: &VerifierKey, pinned: &[VerifierKey]) -> bool {
        let mut at = self.keys.iter().position(|known| known == key);
        // Who vouches stands before, so this ends.
        while let Some(position) = at {
            if self
                .keys
                .get(position)
                .is_some_and(|known| pinned.contains(known))
            {
                return true;
            }
            at = self.by.get(position).copied().flatten();
        }
        false
    }

    /// Takes the key that record `index` of the control log adds, if it may be added.
    pub(super) fn add(&mut self, log: &str, index: u64, added: &KeyAdded, findings: &mut Findings) {
        let first = self.keys.first();
        let is_of_log = |key: &VerifierKey| match first {
            Some(first) => first.name() == key.name(),
            None => key.name().ends_with("/control"),
        };
        let key = accepted(added, &self.keys).filter(is_of_log);
        // The same key twice would vouch for itself.
        let Some(key) = key.filter(|key| !self.keys.contains(key)) else {
            let says = "a key is added that no earlier key vouches for";
            findings.add(Finding::new(Kind::KeyChainBroken, log, says).at(index));
            return;
        };
        let by = self
            .keys
            .iter()
            .position(|known| known.to_string() == added.by);
        self.keys.push(key);
        self.since.push(index.saturating_add(1));
        self.by.push(by);
    }
}

/// The keys in the file `key` of a log; none if it is not keys, one a line.
pub(super) fn read_key_lines(lines: &str) -> Option<Vec<VerifierKey>> {
    let lines = lines.strip_suffix('\n')?;
    lines.split('\n').map(|line| line.parse().ok()).collect()
}
