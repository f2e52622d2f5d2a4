//! What can be said only when all logs were read.

use std::collections::BTreeSet;

use super::approvals::tell_silent;
use super::checkpoints::Heads;
use super::control::ControlFacts;
use super::finding::{Finding, Findings, Kind};
use super::replicas::{Ending, Registered};
use super::report::ReplicaCoverage;

/// A replica that runs is heard of within so many microseconds, by its log or by its copy of the control log.
pub const SILENCE_US: i64 = 120 * 1_000_000;

/// What was given from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given<'a> {
    /// Whether keys were pinned.
    pub has_keys: bool,
    /// Heads that somebody kept, as their file holds them.
    pub heads: Option<&'a str>,
    /// Starts of replicas whose copy of the control log goes on: they run, even if they have nothing to write.
    pub alive: BTreeSet<String>,
}

/// Finds what is missing, when all logs were read. `label` is the control log's.
pub fn conclude(
    label: &str,
    control: &ControlFacts,
    given: &Given<'_>,
    findings: &mut Findings,
) -> Vec<ReplicaCoverage> {
    let all = || control.replicas.all().map(|(_, replica)| replica);
    // A selection leaves out logs of which nothing was selected.
    let is_selection =
        all().any(|replica| replica.is_selected) && !all().any(|replica| replica.is_seen);
    let mut heads = control.heads;
    if !control.is_there {
        let says = "there is no control log, so nobody can say which decision logs there must be";
        findings.add(Finding::new(Kind::ControlMissing, label, says));
        let kept = given.heads.map(|text| Heads::read(text, None, findings));
        heads = kept.as_ref().map(Heads::counts);
        kept.unwrap_or_default().end(label, 0, findings);
    } else if !is_selection {
        tell_silent(label, &control.approvals, findings);
    }
    if !given.has_keys {
        let says =
            "no key was pinned, so whoever can rewrite the whole log can also exchange its keys";
        findings.add(Finding::new(Kind::KeysNotPinned, label, says));
    }
    if heads.is_none_or(|heads| heads.count == 0) {
        let says = "no head of this log was given, so records cut off the end of the control log would not be missed";
        findings.add(Finding::new(Kind::HeadsNotGiven, label, says));
    }
    if is_selection {
        let says = "only selected decisions are here: that others were left out is not looked for";
        findings.add(Finding::new(Kind::OnlySelected, label, says));
    }
    let mut replicas = Vec::new();
    for (incarnation, replica) in control.replicas.all() {
        let log = format!("decision/{incarnation}");
        if !(replica.is_seen || replica.is_selected || is_selection) {
            let says = "the control log registers this log, and it was not given";
            findings.add(Finding::new(Kind::LogMissing, &log, says));
        }
        if replica.is_seen
            && !given.alive.contains(incarnation)
            && is_silent(replica, control.last_us)
        {
            let says = "the replica has not ended, and nothing is signed by it since the cluster went on without it";
            findings.add(Finding::new(Kind::ReplicaSilent, &log, says));
        }
        replicas.push(ReplicaCoverage {
            incarnation: incarnation.to_owned(),
            ending: replica.ending,
            is_there: replica.is_seen,
        });
    }
    replicas
}

/// Whether a replica that has not ended was not heard of for a while when the control log, at `last_us`, went on.
fn is_silent(replica: &Registered, last_us: i64) -> bool {
    let heard = replica.heard_us.max(replica.signed_us.unwrap_or(i64::MIN));
    replica.ending == Ending::Running && last_us > heard.saturating_add(SILENCE_US)
}
