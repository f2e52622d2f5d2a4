//! What the control log says of decision logs: which there are, how long they are at least, and how they ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::note::VerifierKey;
use crate::audit::proto::{Anchor, Pruned, ReplicaLost, ReplicaStarted, ReplicaStopped};
use crate::audit::tree::TreeHash;

use super::finding::{Finding, Findings, Kind};
use super::log_check::{Expected, Speaker};

/// How a decision log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has not, as far as is known.
    Running,
    /// As it should.
    Stopped {
        /// How many records it holds.
        size: u64,
        /// How many decisions were answered.
        accepted: u64,
        /// How many of them were declared lost.
        lost: u64,
    },
    /// Otherwise.
    Lost {
        /// How many records it has at least: so many were known to be kept.
        size: u64,
        /// No record at or beyond this index was ever written.
        reserved: u64,
    },
}

/// One start of a replica, as the control log tells it.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The key that signs its decision log; none if it is no key of this log.
    pub key: Option<VerifierKey>,
    /// How it ended.
    pub ending: Ending,
    /// Records below this index may be gone.
    pub pruned_below: u64,
    expected: Arc<Vec<Expected>>,
    /// When the control log spoke of it last while it ran, in microseconds since the epoch.
    pub(super) heard_us: i64,
    /// When the last record was written that its own key signed.
    pub(super) signed_us: Option<i64>,
    /// Whether its log was given.
    pub(super) is_seen: bool,
    /// Whether selected records of its log were given.
    pub(super) is_selected: bool,
}

impl Registered {
    /// What the control log says of its decision log, the smallest size first.
    pub(super) fn expected(&mut self) -> Arc<Vec<Expected>> {
        // Nobody else holds it while a log is begun, so nothing is copied.
        if !self.expected.is_sorted_by_key(|each| each.size) {
            Arc::make_mut(&mut self.expected).sort_by_key(|each| each.size);
        }
        Arc::clone(&self.expected)
    }

    /// Up to which size the control log vouches for it.
    pub(super) fn anchored(&self) -> u64 {
        let sizes = self.expected.iter().map(|each| each.size);
        sizes.max().unwrap_or(0)
    }
}

/// All starts of replicas, by incarnation.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    known: BTreeMap<String, Registered>,
}

/// Where a record of the control log stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) log: &'a str,
    pub(super) index: u64,
}

impl Place<'_> {
    pub(super) fn finding(self, kind: Kind, says: impl Into<String>) -> Finding {
        Finding::new(kind, self.log, says).at(self.index)
    }
}

impl Replicas {
    /// The start called `incarnation`.
    pub fn get(&self, incarnation: &str) -> Option<&Registered> {
        self.known.get(incarnation)
    }

    pub(super) fn get_mut(&mut self, incarnation: &str) -> Option<&mut Registered> {
        self.known.get_mut(incarnation)
    }

    /// All of them, by incarnation.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Registered)> {
        self.known
            .iter()
            .map(|(name, replica)| (name.as_str(), replica))
    }

    /// The control log speaks of the running replica called `incarnation`.
    pub(super) fn heard(&mut self, incarnation: &str, at_us: i64) {
        if let Some(replica) = self.known.get_mut(incarnation) {
            replica.heard_us = replica.heard_us.max(at_us);
        }
    }

    /// Takes over what was seen of the logs.
    pub(super) fn go_on_from(&mut self, earlier: &Self) {
        for (name, before) in &earlier.known {
            if let Some(replica) = self.known.get_mut(name) {
                replica.is_seen |= before.is_seen;
                replica.is_selected |= before.is_selected;
                replica.signed_us = replica.signed_us.max(before.signed_us);
            }
        }
    }

    pub(super) fn started(
        &mut self,
        place: Place<'_>,
        origin: &str,
        said: &ReplicaStarted,
        findings: &mut Findings,
    ) {
        let name = &said.incarnation;
        if self.known.contains_key(name) {
            let says = format!("the replica `{name}` is registered a second time");
            findings.add(place.finding(Kind::RegisteredTwice, says));
            return;
        }
        let key = said.log_key.parse::<VerifierKey>().ok();
        let key = key.filter(|key| key.name() == origin);
        if key.is_none() {
            let says =
                format!("the replica `{name}` is registered without a key of its decision log");
            findings.add(place.finding(Kind::KeyChainBroken, says));
        }
        let replica = Registered {
            key,
            ending: Ending::Running,
            pruned_below: 0,
            expected: Arc::default(),
            heard_us: i64::MIN,
            signed_us: None,
            is_seen: false,
            is_selected: false,
        };
        self.known.insert(name.clone(), replica);
    }

    pub(super) fn anchored(&mut self, place: Place<'_>, said: &Anchor, findings: &mut Findings) {
        let what = (said.size, said.root.as_slice());
        self.expect(place, &said.incarnation, what, findings);
    }

    pub(super) fn stopped(
        &mut self,
        place: Place<'_>,
        said: &ReplicaStopped,
        findings: &mut Findings,
    ) {
        let what = (said.size, said.root.as_slice());
        if let Some(replica) = self.expect(place, &said.incarnation, what, findings) {
            replica.ending = Ending::Stopped {
                size: said.size,
                accepted: said.accepted,
                lost: said.lost,
            };
        }
    }

    pub(super) fn lost(&mut self, place: Place<'_>, said: &ReplicaLost, findings: &mut Findings) {
        if said.size == 0 && !self.known.contains_key(&said.incarnation) {
            let says = format!(
                "the replica `{}` was lost before it was registered, and had no records",
                said.incarnation
            );
            findings.add(place.finding(Kind::ReplicaLost, says));
            return;
        }
        let what = (said.size, said.root.as_slice());
        if let Some(replica) = self.expect(place, &said.incarnation, what, findings)
            && replica.ending == Ending::Running
        {
            replica.ending = Ending::Lost {
                size: said.size,
                reserved: said.reserved,
            };
        }
    }

    pub(super) fn pruned(&mut self, place: Place<'_>, said: &Pruned, findings: &mut Findings) {
        if let Some(replica) = self.named(place, &said.incarnation, findings) {
            replica.pruned_below = replica.pruned_below.max(said.below);
        }
    }

    fn named(
        &mut self,
        place: Place<'_>,
        name: &str,
        findings: &mut Findings,
    ) -> Option<&mut Registered> {
        let replica = self.known.get_mut(name);
        if replica.is_none() {
            let says = format!("the replica `{name}` is spoken of and was never registered");
            findings.add(place.finding(Kind::ReplicaUnknown, says));
        }
        replica
    }

    /// Keeps that the log of the replica called `name` has a root at a size.
    fn expect(
        &mut self,
        place: Place<'_>,
        name: &str,
        (size, root): (u64, &[u8]),
        findings: &mut Findings,
    ) -> Option<&mut Registered> {
        let replica = self.named(place, name, findings)?;
        let Ok(root) = <[u8; 32]>::try_from(root) else {
            findings.add(place.finding(Kind::RecordUnreadable, "a root is not of 32 bytes"));
            return Some(replica);
        };
        Arc::make_mut(&mut replica.expected).push(Expected {
            size,
            root: TreeHash::from(root),
            differs: Kind::AnchorDiffers,
            beyond: Kind::AnchorBeyondLog,
            by: Speaker::ControlRecord(place.index),
        });
        Some(replica)
    }
}
