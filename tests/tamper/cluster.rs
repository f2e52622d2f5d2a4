//! A cluster's logs: what its replicas and its control log leave, and what was kept of them elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use countersign::audit::note::{SignerKey, VerifierKey};

use crate::lives::random::dice::Dice;
use crate::log::Log;

/// How a replica ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Running,
    Stopped,
    Lost,
}

/// One start of a replica.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) incarnation: String,
    /// In which replica's folder its log is.
    pub(crate) replica: usize,
    pub(crate) signer: SignerKey,
    pub(crate) log: Log,
    pub(crate) end: End,
    /// Up to which size the control log vouches for it.
    pub(crate) anchored: u64,
    pub(crate) decisions: u64,
    pub(crate) lost: u64,
    pub(crate) planned: usize,
}

/// A cluster's logs.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) control: Log,
    /// The keys of the control log, each with the size from which on it signs.
    pub(crate) keys: Vec<(u64, SignerKey)>,
    pub(crate) starts: Vec<Start>,
    /// How long each replica's copy of the control log is.
    pub(crate) copies: Vec<u64>,
    /// Heads of the control log that somebody kept, with their sizes.
    pub(crate) heads: Vec<(u64, String)>,
}

impl Cluster {
    /// The copy of the control log that replica `replica` has.
    pub(crate) fn copy(&self, replica: usize) -> Log {
        self.control.prefix(self.copies[replica])
    }

    /// The folders of its replicas below `root`, written.
    pub(crate) fn write(&self, root: &Path) -> Vec<PathBuf> {
        let folders: Vec<PathBuf> = (0..self.copies.len())
            .map(|at| root.join(format!("replica-{at}")))
            .collect();
        for (replica, folder) in folders.iter().enumerate() {
            self.copy(replica).write(&folder.join("control"));
        }
        for start in &self.starts {
            let folder = folders[start.replica]
                .join("decision")
                .join(&start.incarnation);
            start.log.write(&folder);
        }
        folders
    }

    /// Its first key.
    pub(crate) fn pinned(&self) -> VerifierKey {
        self.keys[0].1.verifier().clone()
    }

    /// The key that signs at `size`.
    pub(crate) fn signer(&self, size: u64) -> SignerKey {
        let known = self.keys.iter().rev().find(|(since, _)| *since <= size);
        known.unwrap_or(&self.keys[0]).1.clone()
    }

    /// The heads as a file.
    pub(crate) fn heads_text(&self) -> String {
        let notes = self.heads.iter();
        let notes: Vec<&str> = notes.flat_map(|(_, note)| [note.as_str(), "\n"]).collect();
        notes.concat()
    }

    /// The largest head.
    pub(crate) fn head_size(&self) -> u64 {
        self.heads.iter().map(|(size, _)| *size).max().unwrap_or(0)
    }
}

/// A key with the name `name`.
pub(crate) fn signer(name: &str, dice: &mut Dice) -> SignerKey {
    let mut seed = [0; 32];
    seed.fill_with(|| u8::try_from(dice.below(256)).unwrap());
    SignerKey::from_seed(name, &seed).unwrap()
}

/// Counts by name.
pub(crate) type Tally = BTreeMap<&'static str, u64>;
