//! What a verification comes to: a verdict, what was covered, and what was found.

use std::collections::BTreeMap;

use super::checkpoints::HeadCounts;
use super::finding::{Finding, Findings, Kind, Severity};
use super::log_check::LogEnd;
use super::replicas::Ending;

/// The times of a log's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// When the first was written, in microseconds since the epoch; none without records.
    pub first_us: Option<i64>,
    /// When the last was written.
    pub last_us: Option<i64>,
    backwards: u64,
    furthest_us: u64,
}

impl Span {
    /// Sees the next record.
    pub(super) fn see(&mut self, at_us: i64) {
        self.first_us = self.first_us.or(Some(at_us));
        if let Some(before) = self.last_us
            && at_us < before
        {
            self.backwards = self.backwards.saturating_add(1);
            self.furthest_us = self.furthest_us.max(before.abs_diff(at_us));
        }
        self.last_us = Some(at_us);
    }

    /// Says so if the clock went backwards.
    pub(super) fn tell(&self, log: &str, findings: &mut Findings) {
        if self.backwards > 0 {
            let (count, furthest) = (self.backwards, self.furthest_us);
            let says = format!(
                "{count} records are older than the one before, by at most {furthest} microseconds"
            );
            findings.add(Finding::new(Kind::ClockBackwards, log, says));
        }
    }
}

/// What of a log was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The log, with its folder in front where there are several.
    pub log: String,
    /// Records below this index were pruned.
    pub first: u64,
    /// How many records the log has, pruned ones included.
    pub size: u64,
    /// Their root, as 64 hexadecimal digits.
    pub root: String,
    /// Up to which size its own checkpoints are right.
    pub signed: u64,
    /// Up to which size anything vouches for it.
    pub covered: u64,
    /// How many of its checkpoints are right.
    pub checkpoints: u64,
    /// When its records were written.
    pub span: Span,
    /// How many decisions it holds.
    pub decisions: u64,
    /// How many decisions it declares as lost.
    pub lost: u64,
}

impl Coverage {
    pub(super) fn of(log: &str, end: &LogEnd, span: &Span) -> Self {
        Self {
            log: log.to_owned(),
            first: 0,
            size: end.size,
            root: end.root.to_string(),
            signed: end.signed,
            covered: end.covered,
            checkpoints: end.checkpoints,
            span: *span,
            decisions: 0,
            lost: 0,
        }
    }

    /// How many records nothing vouches for yet.
    pub fn uncovered(&self) -> u64 {
        self.size.saturating_sub(self.covered)
    }

    pub(super) fn tell_tail(&self, findings: &mut Findings) {
        let uncovered = self.uncovered();
        if uncovered > 0 {
            let says = format!("nothing vouches for the last {uncovered} records yet");
            findings.add(Finding::new(Kind::UnsignedTail, &self.log, says).at(self.covered));
        }
    }
}

/// What is known of one start of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaCoverage {
    /// Which.
    pub incarnation: String,
    /// How it ended.
    pub ending: Ending,
    /// Whether its decision log was given.
    pub is_there: bool,
}

/// What was replayed of approvals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalCounts {
    /// How many were opened.
    pub opened: u64,
    /// How many reached their quorum.
    pub approved: u64,
    /// How many grants were spent.
    pub redeemed: u64,
    /// How many were denied by a vote, or because nobody was left who could approve.
    pub denied: u64,
    /// How often the same request was asked again.
    pub joined: u64,
    /// How many votes counted.
    pub votes: u64,
    /// What was refused, by the refusal's kind.
    pub refused: BTreeMap<String, u64>,
}

/// What was compared with the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseCounts {
    /// How many approvals.
    pub approvals: u64,
    /// How many of their votes.
    pub votes: u64,
    /// How many records of the control log.
    pub records: u64,
}

/// What a verification comes to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The cluster's name; empty if nothing says it.
    pub cluster: String,
    /// What was found.
    pub findings: Findings,
    /// The logs, in the order in which they were read.
    pub logs: Vec<Coverage>,
    /// The starts of replicas.
    pub replicas: Vec<ReplicaCoverage>,
    /// The approvals.
    pub approvals: ApprovalCounts,
    /// The heads of this cluster that were kept elsewhere; none if no file of them was given.
    pub heads: Option<HeadCounts>,
    /// The database; none if it was not given.
    pub database: Option<DatabaseCounts>,
}

impl Report {
    /// The verdict: the gravest of the findings.
    pub fn verdict(&self) -> Severity {
        self.findings.gravest()
    }
}
