//! Follows the control log: its keys, what it says of decision logs, and the life of every approval.

use std::fmt;
use std::io::BufRead;
use std::sync::Arc;

use prost::Message as _;

use crate::audit::note::VerifierKey;
use crate::audit::proto::{Record, record::What};

use super::approvals::Approvals;
use super::checkpoints::{HeadCounts, Heads};
use super::finding::{Finding, Findings, Kind};
use super::keys::{KeyRing, read_key_lines};
use super::log_check::{Expected, LogCheck, LogEnd};
use super::replicas::{Place, Replicas};
use super::report::{Coverage, Span};
use super::wire::{RecordLook, What as Look};

/// What the control log's origin ends in, behind the cluster's name.
pub const CONTROL: &str = "/control";

/// What was given from outside to judge the control log by.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// Keys that somebody pinned; none if nobody did.
    pub pinned: Vec<VerifierKey>,
    /// Heads that somebody kept, as their file holds them; none if nobody did.
    pub heads: Option<String>,
}

/// What the control log says, for whatever is checked after it.
#[derive(Debug, Default)]
pub struct ControlFacts {
    /// The cluster's name; empty if the log does not say it.
    pub cluster: String,
    /// The keys of the log.
    pub keys: KeyRing,
    /// The decision logs.
    pub replicas: Replicas,
    /// The approvals.
    pub approvals: Approvals,
    /// When its last record was written, in microseconds since the epoch.
    pub last_us: i64,
    /// Whether there is a control log at all.
    pub is_there: bool,
    /// The heads of this log that were kept elsewhere; none if no file of them was given.
    pub heads: Option<HeadCounts>,
}

impl ControlFacts {
    /// Takes over what was seen of decision logs by what an earlier reading of the same log said.
    pub fn go_on_from(&mut self, earlier: &Self) {
        self.replicas.go_on_from(&earlier.replicas);
        self.approvals.go_on_from(&earlier.approvals);
    }
}

/// What a log folder holds beside its records.
pub struct FolderTexts<'a> {
    /// The file `key`.
    pub key_lines: &'a str,
    /// The file `checkpoints`, read once, from its beginning.
    pub checkpoints: Box<dyn BufRead + 'a>,
}

impl fmt::Debug for FolderTexts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderTexts")
            .field("key_lines", &self.key_lines)
            .finish_non_exhaustive()
    }
}

/// Follows a control log.
#[derive(Debug)]
pub struct ControlCheck<'a> {
    label: String,
    log: LogCheck<'a>,
    facts: ControlFacts,
    outside: Outside,
    heads: Option<Heads>,
    /// The newest right checkpoint of another copy: its size, and who signed it.
    beside: (u64, Vec<VerifierKey>),
    span: Span,
    /// Whether only the log itself is checked, and not what its records say: a copy that is a part of a longer one.
    is_copy: bool,
}

/// The name of the log whose first record is `leaf`; empty if the record does not say it.
fn origin_of(leaf: &[u8]) -> String {
    let key = match Record::decode(leaf).map(|record| record.what) {
        Ok(Some(What::KeyAdded(added))) => added.key.parse::<VerifierKey>().ok(),
        _ => None,
    };
    key.map(|key| key.name().to_owned()).unwrap_or_default()
}

impl<'a> ControlCheck<'a> {
    /// Follows the log with the first record `first`, called `label` in findings; `others` is what other copies say of it.
    pub fn new(
        label: &str,
        first: &[u8],
        texts: FolderTexts<'a>,
        mut others: Vec<Expected>,
    ) -> Self {
        others.sort_by_key(|each| each.size);
        let origin = origin_of(first);
        let cluster = origin.strip_suffix(CONTROL).unwrap_or_default().to_owned();
        Self {
            label: label.to_owned(),
            log: LogCheck::new(label, &origin, texts.checkpoints, Arc::new(others)),
            facts: ControlFacts {
                cluster,
                is_there: true,
                ..ControlFacts::default()
            },
            outside: Outside::default(),
            heads: None,
            beside: (0, Vec::new()),
            span: Span::default(),
            is_copy: false,
        }
    }

    /// Judges it by what was given from outside.
    #[must_use]
    pub fn judged_by(mut self, outside: Outside) -> Self {
        self.outside = outside;
        self
    }

    /// Counts the checkpoints of a shorter copy: each replica signs its own.
    #[must_use]
    pub fn beside(mut self, copy: &LogEnd) -> Self {
        if copy.checkpoints > 0 && copy.signed >= self.beside.0 {
            self.beside = (copy.signed, copy.signers.clone());
        }
        self
    }

    /// Looks at the log itself only: a longer copy will be replayed.
    #[must_use]
    pub fn as_copy(mut self) -> Self {
        self.is_copy = true;
        self
    }

    /// Comes before the first record.
    pub fn begin(&mut self, findings: &mut Findings) {
        let origin = self.log.now_origin().to_owned();
        let heads = self.outside.heads.as_deref();
        self.heads = heads.map(|text| Heads::read(text, Some(&origin), findings));
        self.facts.heads = self.heads.as_ref().map(Heads::counts);
        self.log.begin(&self.facts.keys, findings);
        self.reach_heads(findings);
    }

    /// Takes the next record.
    pub fn push(&mut self, leaf: &[u8], findings: &mut Findings) {
        let index = self.log.size();
        self.read(index, leaf, findings);
        self.log.push(leaf, &self.facts.keys, findings);
        self.reach_heads(findings);
    }

    fn reach_heads(&mut self, findings: &mut Findings) {
        if let Some(heads) = &mut self.heads
            && heads
                .next_size()
                .is_some_and(|size| size <= self.log.size())
        {
            let keys = self.facts.keys.for_size(self.log.size());
            heads.reach(&self.log.now(), keys, findings);
        }
    }

    fn read(&mut self, index: u64, leaf: &[u8], findings: &mut Findings) {
        let label = self.label.clone();
        let place = Place { log: &label, index };
        let record = Record::decode(leaf).ok();
        let Some((at_us, what)) = record.and_then(|record| Some((record.at_us, record.what?)))
        else {
            findings.add(if is_newer(leaf) {
                place.finding(
                    Kind::NewerRecord,
                    "the record was written by a newer version",
                )
            } else {
                place.finding(Kind::RecordUnreadable, "these bytes are not a record")
            });
            return;
        };
        if !matches!(what, What::KeyAdded(_)) && index == 0 {
            let says = "the control log does not begin with the key that signs it";
            findings.add(place.finding(Kind::FirstRecordNotKey, says));
        }
        self.span.see(at_us);
        self.facts.last_us = self.facts.last_us.max(at_us);
        if let What::KeyAdded(added) = &what {
            self.facts.keys.add(&label, index, added, findings);
        }
        if !self.is_copy {
            self.take(place, at_us, &what, findings);
        }
    }

    fn take(&mut self, place: Place<'_>, at_us: i64, what: &What, findings: &mut Findings) {
        let facts = &mut self.facts;
        match what {
            What::Decision(_) | What::Gap(_) | What::CallRefused(_) => {
                let says = "a record of a decision log is in the control log";
                findings.add(place.finding(Kind::RecordMisplaced, says));
            }
            What::Approval(event) => facts.approvals.take(place, at_us, event, findings),
            What::ReplicaStarted(said) => {
                let origin = format!("{}/decision/{}", facts.cluster, said.incarnation);
                facts.replicas.started(place, &origin, said, findings);
                facts.replicas.heard(&said.incarnation, at_us);
            }
            What::ReplicaStopped(said) => facts.replicas.stopped(place, said, findings),
            What::ReplicaLost(said) => facts.replicas.lost(place, said, findings),
            What::Anchor(said) => {
                facts.replicas.anchored(place, said, findings);
                facts.replicas.heard(&said.incarnation, at_us);
            }
            What::Pruned(said) => facts.replicas.pruned(place, said, findings),
            What::KeyAdded(_)
            | What::PolicyActivated(_)
            | What::PolicyRejected(_)
            | What::LogRead(_) => {}
        }
    }

    /// There are no more records.
    pub fn end(mut self, findings: &mut Findings) -> (ControlFacts, LogEnd, Coverage) {
        let label = &self.label;
        if let Some(heads) = &mut self.heads {
            heads.end(label, self.log.size(), findings);
        }
        let end = self.log.end(findings);
        let (beside, signers) = &self.beside;
        let is_signed = end.checkpoints > 0 || *beside > 0;
        if !is_signed && !self.is_copy {
            let says = "no checkpoint of the control log is signed, so nothing vouches for it";
            findings.add(Finding::new(Kind::ControlUnsigned, label, says));
        }
        let pinned = &self.outside.pinned;
        let signers = if *beside > end.signed {
            signers
        } else {
            &end.signers
        };
        let is_vouched = signers
            .iter()
            .any(|key| self.facts.keys.is_vouched(key, pinned));
        if !pinned.is_empty() && is_signed && !is_vouched {
            let says = "the newest checkpoint is signed with no key that the pinned ones vouch for";
            findings.add(Finding::new(Kind::KeyNotPinned, label, says).at(end.signed));
        }
        self.span.tell(label, findings);
        let coverage = Coverage::of(label, &end, &self.span);
        coverage.tell_tail(findings);
        (self.facts, end, coverage)
    }
}

/// Whether only a newer version can read the record in `leaf`.
fn is_newer(leaf: &[u8]) -> bool {
    RecordLook::read(leaf).is_ok_and(|look| look.what == Look::Newer)
}

/// Compares a copy's file of keys with the keys of the log.
pub fn check_key_lines(label: &str, key_lines: &str, keys: &KeyRing, findings: &mut Findings) {
    let in_file = read_key_lines(key_lines).filter(|keys| !keys.is_empty());
    if !in_file.is_some_and(|lines| lines.iter().all(|key| keys.all().contains(key))) {
        let says = "the file with the log's keys holds something else than keys of the log";
        findings.add(Finding::new(Kind::KeyFileDiffers, label, says));
    }
}
