//! Follows one log leaf by leaf, and compares its root with everything that was said of it when it had that size.
//!
//! One pass, and constant memory: what is known of the log is its right edge.

use std::fmt;
use std::io::BufRead;
use std::sync::Arc;

use crate::audit::note::VerifierKey;
use crate::audit::tree::{BUNDLE_LEAVES, Frontier, TreeHash, leaf_hash};

use super::checkpoints::{Claim, LogAt, Next, NoteFile};
use super::finding::{Finding, Findings, Kind};
use super::keys::KeyRing;

/// What somebody else says of a log: its root at a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// How many records.
    pub size: u64,
    /// Their root.
    pub root: TreeHash,
    /// What it is if the root differs.
    pub differs: Kind,
    /// What it is if the log is shorter.
    pub beyond: Kind,
    /// Who says so.
    pub by: Speaker,
}

/// Who says something of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A record of the control log, by its index.
    ControlRecord(u64),
    /// Another copy of the log, by its name.
    Copy(String),
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlRecord(index) => write!(f, "record {index} of the control log"),
            Self::Copy(name) => write!(f, "the copy `{name}`"),
        }
    }
}

/// What is known of a log when all of it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// How many records it has.
    pub size: u64,
    /// Their root.
    pub root: TreeHash,
    /// Up to which size its own checkpoints are right.
    pub signed: u64,
    /// Up to which size anything vouches for it: its own checkpoints, or what others say.
    pub covered: u64,
    /// How many of its checkpoints are right.
    pub checkpoints: u64,
    /// Who signed the newest of them.
    pub signers: Vec<VerifierKey>,
}

/// Follows one log.
#[derive(Debug)]
pub struct LogCheck<'a> {
    label: String,
    origin: String,
    frontier: Frontier,
    notes: NoteFile<'a>,
    next: Option<Box<Claim>>,
    last_size: u64,
    /// The smallest first.
    expected: Arc<Vec<Expected>>,
    /// How many of them were looked at.
    told: usize,
    /// How many checkpoints bear signatures that nobody can judge.
    strange: u64,
    signed: u64,
    covered: u64,
    checkpoints: u64,
    signers: Vec<VerifierKey>,
}

impl<'a> LogCheck<'a> {
    /// Follows the log `origin`, called `label` in findings, whose file of checkpoints is `checkpoints`. Of what others say, the
    /// smallest size comes first.
    pub fn new(
        label: &str,
        origin: &str,
        checkpoints: Box<dyn BufRead + 'a>,
        expected: Arc<Vec<Expected>>,
    ) -> Self {
        Self {
            label: label.to_owned(),
            origin: origin.to_owned(),
            frontier: Frontier::new(),
            notes: NoteFile::new(checkpoints),
            next: None,
            last_size: 0,
            expected,
            told: 0,
            strange: 0,
            signed: 0,
            covered: 0,
            checkpoints: 0,
            signers: Vec::new(),
        }
    }

    /// Reads the first checkpoint. Comes before anything else.
    pub fn begin(&mut self, keys: &KeyRing, findings: &mut Findings) {
        self.read_next(findings);
        self.settle(keys, findings);
    }

    /// Takes the hash of a bundle whose records were pruned. Roots of sizes within it cannot be checked any more.
    pub fn skip_bundle(&mut self, bundle: TreeHash, keys: &KeyRing, findings: &mut Findings) {
        let end = self.frontier.size().saturating_add(BUNDLE_LEAVES);
        while self.said().is_some_and(|each| each.size < end) {
            self.told = self.told.saturating_add(1);
        }
        while let Some(claim) = self.next.take_if(|claim| claim.checkpoint.size() < end) {
            if let Err(kind) = self.signers(&claim, keys) {
                findings.add(self.about(kind, claim.checkpoint.size()));
            }
            self.read_next(findings);
        }
        // Cannot fail: bundles are skipped before the first record is pushed.
        self.frontier.push_bundle(bundle).ok();
        self.settle(keys, findings);
    }

    /// Takes the next leaf.
    pub fn push(&mut self, leaf: &[u8], keys: &KeyRing, findings: &mut Findings) -> TreeHash {
        let hash = leaf_hash(leaf);
        self.frontier.push(hash);
        self.settle(keys, findings);
        hash
    }

    /// The log's name.
    pub(super) fn now_origin(&self) -> &str {
        &self.origin
    }

    /// The log as it is now.
    pub(super) fn now(&self) -> LogAt<'_> {
        LogAt {
            label: &self.label,
            origin: &self.origin,
            size: self.frontier.size(),
            root: self.frontier.root(),
        }
    }

    /// Up to which size its own checkpoints are right so far.
    pub(super) fn signed(&self) -> u64 {
        self.signed
    }

    /// How many records were taken.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Compares with everything that was said of the present size.
    fn settle(&mut self, keys: &KeyRing, findings: &mut Findings) {
        let size = self.frontier.size();
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= size);
        while is_due(self.next.as_ref().map(|claim| claim.checkpoint.size())) {
            if let Some(claim) = self.next.take() {
                self.judge(&claim, keys, findings);
            }
            self.read_next(findings);
        }
        while let Some(expected) = self.expected.get(self.told)
            && expected.size <= size
        {
            self.told = self.told.saturating_add(1);
            if expected.root == self.frontier.root() {
                self.covered = size;
            } else {
                let says = format!(
                    "the first {size} records do not have the root that {}",
                    expected.by
                );
                findings.add(Finding::new(expected.differs, &self.label, says).at(size));
            }
        }
    }

    /// What was said of the smallest size that was not reached yet.
    fn said(&self) -> Option<&Expected> {
        self.expected.get(self.told)
    }

    fn judge(&mut self, claim: &Claim, keys: &KeyRing, findings: &mut Findings) {
        let size = self.frontier.size();
        let signers = self.signers(claim, keys);
        if signers.is_ok() && claim.has_others(keys.for_size(size)) {
            self.strange = self.strange.saturating_add(1);
        }
        match signers {
            Err(kind) => findings.add(self.about(kind, size)),
            Ok(_) if *claim.checkpoint.root() != self.frontier.root() => {
                findings.add(self.about(Kind::RootDiffers, size));
            }
            Ok(signers) => {
                self.signers = signers;
                self.signed = size;
                self.covered = size;
                self.checkpoints = self.checkpoints.saturating_add(1);
            }
        }
    }

    /// Who signed a checkpoint of this log, if one at least did who may.
    fn signers(&self, claim: &Claim, keys: &KeyRing) -> Result<Vec<VerifierKey>, Kind> {
        if claim.checkpoint.origin() != self.origin {
            return Err(Kind::CheckpointOtherOrigin);
        }
        let signers = claim.signers(keys.for_size(claim.checkpoint.size()))?;
        Ok(signers.into_iter().cloned().collect())
    }

    fn about(&self, kind: Kind, size: u64) -> Finding {
        let what = [
            (Kind::RootDiffers, "is of other records"),
            (Kind::CheckpointBadSignature, "has a wrong signature"),
            (
                Kind::CheckpointUnknownKey,
                "is signed with a key that may not sign it",
            ),
            (Kind::CheckpointOtherOrigin, "is of another log"),
            (
                Kind::CheckpointBeyondLog,
                "is of more records than there are",
            ),
            (
                Kind::CheckpointsGoBackwards,
                "stands behind one of a larger size",
            ),
        ];
        let what = what.into_iter().find(|(of, _)| *of == kind);
        let what = what.map_or("cannot be read", |(_, what)| what);
        let says = format!("the checkpoint of {size} records {what}");
        Finding::new(kind, &self.label, says).at(size)
    }

    /// Reads on to the next checkpoint that can be judged.
    fn read_next(&mut self, findings: &mut Findings) {
        self.next = None;
        loop {
            match self.notes.next(&self.origin) {
                Next::Claim(claim) if claim.checkpoint.size() < self.last_size => {
                    findings.add(self.about(Kind::CheckpointsGoBackwards, claim.checkpoint.size()));
                }
                Next::Claim(claim) => {
                    self.last_size = claim.checkpoint.size();
                    self.next = Some(claim);
                    return;
                }
                Next::Unreadable => {
                    let says = "the file of checkpoints holds something that is no checkpoint";
                    findings.add(Finding::new(Kind::CheckpointUnreadable, &self.label, says));
                }
                Next::Torn => {
                    let says = "the last checkpoint is cut off, as a crash leaves it";
                    findings.add(Finding::new(Kind::TornTail, &self.label, says));
                }
                Next::Failed(error) => {
                    let says = format!("the file of checkpoints cannot be read: {error}");
                    findings.add(Finding::new(Kind::Unreadable, &self.label, says));
                }
                Next::End => return,
            }
        }
    }

    /// There are no more leaves: everything that was said of larger sizes is wrong.
    pub fn end(mut self, findings: &mut Findings) -> LogEnd {
        let size = self.frontier.size();
        while let Some(claim) = self.next.take() {
            findings.add(self.about(Kind::CheckpointBeyondLog, claim.checkpoint.size()));
            self.read_next(findings);
        }
        for expected in self.expected.get(self.told..).unwrap_or_default() {
            let says = format!(
                "the log has {size} records, but {} has {}",
                expected.by, expected.size
            );
            findings.add(Finding::new(expected.beyond, &self.label, says).at(size));
        }
        if self.strange > 0 {
            let says = format!(
                "{} checkpoints bear signatures with keys that the log does not know, beside its own",
                self.strange
            );
            findings.add(Finding::new(Kind::UnknownSignature, &self.label, says));
        }
        LogEnd {
            size,
            root: self.frontier.root(),
            signed: self.signed,
            covered: self.covered,
            checkpoints: self.checkpoints,
            signers: self.signers,
        }
    }
}
