//! Compares what a store of approvals holds with what was replayed from the control log.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use uuid::Uuid;

use crate::approval::{
    Approval, Choice, ControlRecord, Digest, ExtensionTexts, Happening, State, Status,
    request_digest,
};
use crate::audit::control_record::encode_plain;
use crate::audit::proto::{ApprovalOpened, Record, approval_event, record};
use crate::audit::tree::{Frontier, leaf_hash};

use super::approvals::{Approvals, CountedVote, Replayed, opening_hash};
use super::control::ControlFacts;
use super::database_shown::is_shown_so;
use super::finding::{Finding, Findings, Kind};
use super::replicas::Place;
use super::report::DatabaseCounts;

/// What the store is called in findings.
const DATABASE: &str = "database";

/// A vote as the store's own row has it.
#[derive(Clone, Copy, Debug)]
pub struct StoredVote<'a> {
    /// The one name of the person, as the store writes it.
    pub person: &'a str,
    /// The account, as the store writes it.
    pub account: &'a str,
    /// Yes or no.
    pub choice: Choice,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// The digest of the request they voted on.
    pub request_digest: Digest,
    /// The digest of what they were shown.
    pub view_digest: Digest,
}

/// A redemption as the store's own row has it.
#[derive(Clone, Copy, Debug)]
pub struct StoredRedemption<'a> {
    /// Who redeemed it.
    pub caller: &'a str,
    /// The digest of the request it was redeemed for.
    pub digest: Digest,
    /// The key it was redeemed by.
    pub key: Option<&'a str>,
    /// The decision it became.
    pub decision_id: &'a str,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
}

/// What a store holds of an approval.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// Its name.
    pub id: &'a str,
    /// The approval; none if the store cannot read it.
    pub approval: Option<&'a Approval>,
    /// The rows of its votes.
    pub votes: Vec<StoredVote<'a>>,
    /// The row of its redemption.
    pub redemption: Option<StoredRedemption<'a>>,
}

/// Compares a store with the log: its records of the control log first, then its approvals, ordered by id.
#[derive(Debug)]
pub struct DatabaseCheck<'c> {
    approvals: &'c mut Approvals,
    texts: ExtensionTexts,
    /// What the log says that was asked and shown, by approval.
    opened: BTreeMap<String, ApprovalOpened>,
    frontier: Frontier,
    seen: BTreeSet<String>,
    /// Whether it was said that the database has more records than the log.
    is_ahead: bool,
    counts: DatabaseCounts,
}

impl<'c> DatabaseCheck<'c> {
    /// Compares with what `control` says. Digests of requests are made again with `texts`.
    pub fn new(control: &'c mut ControlFacts, texts: ExtensionTexts) -> Self {
        Self {
            approvals: &mut control.approvals,
            texts,
            opened: BTreeMap::new(),
            frontier: Frontier::new(),
            seen: BTreeSet::new(),
            is_ahead: false,
            counts: DatabaseCounts::default(),
        }
    }

    /// Compares the next record with that of the log; what the log has not yet is replayed on top of it.
    pub fn record(&mut self, body: &[u8], in_log: Option<&[u8]>, findings: &mut Findings) {
        let index = self.frontier.size();
        self.frontier.push(leaf_hash(body));
        self.counts.records = self.counts.records.saturating_add(1);
        self.keep_opening(in_log.unwrap_or(body));
        match in_log {
            Some(leaf) if leaf == body => {}
            Some(_) => {
                let says = "a record of the control log is another in the database";
                findings.add(Finding::new(Kind::DatabaseControl, DATABASE, says).at(index));
            }
            None => self.ahead(body, findings),
        }
    }

    /// Keeps what the record in `leaf` says that was asked and shown, if it is an opening.
    fn keep_opening(&mut self, leaf: &[u8]) {
        if let Some((id, opened)) = opened_in(leaf) {
            self.opened.entry(id).or_insert(opened);
        }
    }

    /// Replays a record that the log has not yet.
    pub fn ahead(&mut self, body: &[u8], findings: &mut Findings) {
        self.keep_opening(body);
        let place = Place {
            log: DATABASE,
            index: self.frontier.size(),
        };
        let record = Record::decode(body).ok();
        match record.and_then(|record| Some((record.at_us, record.what?))) {
            Some((at_us, record::What::Approval(event))) => {
                self.approvals.take(place, at_us, &event, findings);
            }
            Some(_) => {}
            None => {
                findings.add(place.finding(Kind::RecordUnreadable, "these bytes are not a record"));
            }
        }
        if !self.is_ahead {
            self.is_ahead = true;
            let says = "from here on the database has records that the log has not got yet";
            findings.add(Finding::new(Kind::DatabaseAhead, DATABASE, says).at(place.index));
        }
    }

    /// There are no more records with a place: compares with the head that the store keeps, and the `size` of the log.
    pub fn head(&mut self, head: &Frontier, size: u64, findings: &mut Findings) {
        let reached = self.frontier.size();
        if *head != self.frontier {
            let says = "the head of the control log in the database is not that of its records";
            findings.add(Finding::new(Kind::DatabaseControl, DATABASE, says));
        }
        if reached < size {
            let says = format!(
                "the database has {reached} records of the control log, and the log has {size}"
            );
            findings.add(Finding::new(Kind::DatabaseControl, DATABASE, says).at(reached));
        }
    }

    /// Compares an approval.
    pub fn approval(&mut self, stored: &Stored<'_>, findings: &mut Findings) {
        let id = stored.id;
        let found = |kind, says: String| Finding::new(kind, DATABASE, says).of(id);
        self.seen.insert(id.to_owned());
        self.counts.approvals = self.counts.approvals.saturating_add(1);
        let Some(replayed) = self.approvals.get(id) else {
            let says = "the database has an approval that the log does not know".to_owned();
            findings.add(found(Kind::DatabaseApproval, says));
            return;
        };
        let votes = u64::try_from(stored.votes.len()).unwrap_or(u64::MAX);
        self.counts.votes = self.counts.votes.saturating_add(votes);
        let Some(approval) = stored.approval else {
            let says = "the approval in the database cannot be read".to_owned();
            findings.add(found(Kind::DatabaseApproval, says));
            return;
        };
        let now = opening_of(approval);
        let is_shown = match (self.opened.get(id), &now) {
            (Some(logged), Some(now)) => is_shown_so(logged, now),
            _ => false,
        };
        if !is_shown {
            let says = "what reviewers are shown by the database is not what the log holds";
            findings.add(found(Kind::DatabaseApproval, says.to_owned()));
        }
        for wrong in made_again(approval, replayed, self.texts) {
            let says = format!("{wrong} does not belong to what the database holds");
            findings.add(found(Kind::DatabaseApproval, says));
        }
        for wrong in differences(approval, replayed, now) {
            let says = format!("{wrong} is another in the database than in the log");
            findings.add(found(Kind::DatabaseApproval, says));
        }
        if !same_votes(approval, replayed) || !same_rows(stored, replayed) {
            let says = "the votes in the database are not those in the log".to_owned();
            findings.add(found(Kind::DatabaseVote, says));
        }
        if !same_redemption(approval, stored.redemption, replayed) {
            let says = "the redemption in the database is not that in the log".to_owned();
            findings.add(found(Kind::DatabaseRedemption, says));
        }
    }

    /// What was compared so far.
    pub fn counts(&self) -> DatabaseCounts {
        self.counts
    }

    /// There are no more approvals in the store.
    pub fn end(self, findings: &mut Findings) -> DatabaseCounts {
        for (id, _) in self
            .approvals
            .all()
            .filter(|(id, _)| !self.seen.contains(*id))
        {
            let says = "the log has an approval that the database has not";
            findings.add(Finding::new(Kind::DatabaseApproval, DATABASE, says).of(id));
        }
        self.counts
    }
}

/// Whether there is one row for each person's last vote, as the log has it.
fn same_rows(stored: &Stored<'_>, replayed: &Replayed) -> bool {
    let counted = replayed.counted();
    let is_same = |row: &StoredVote<'_>| {
        counted.iter().any(|(person, vote)| {
            row.person == person.to_string()
                && row.account == vote.account.to_string()
                && (row.choice == Choice::Approve) == vote.is_approve
                && row.at_us == vote.at_us
                && row.request_digest.as_bytes() == replayed.digest.as_slice()
                && row.view_digest.as_bytes() == replayed.view_digest.as_slice()
        })
    };
    stored.votes.len() == counted.len() && stored.votes.iter().all(is_same)
}

/// What of an approval is otherwise in the store.
fn differences(
    approval: &Approval,
    replayed: &Replayed,
    now: Option<ApprovalOpened>,
) -> Vec<&'static str> {
    let us = |time: jiff::Timestamp| time.as_microsecond();
    let until = match &approval.state {
        State::Approved(grant) | State::Redeemed { grant, .. } => Some(us(grant.until)),
        State::Pending | State::Closed(..) => None,
    };
    let is_granted = matches!(replayed.status, Status::Approved | Status::Redeemed);
    let checks = [
        ("the version", approval.version == replayed.version),
        ("the status", approval.status() == replayed.status),
        (
            "the digest of the request",
            approval.asked.digest.as_bytes() == replayed.digest.as_slice(),
        ),
        (
            "what was asked",
            now.map(opening_hash) == Some(replayed.opening),
        ),
        (
            "the time to vote",
            us(approval.expires) == replayed.expires_us,
        ),
        (
            "the time to redeem",
            until == replayed.redeem_before_us.filter(|_| is_granted),
        ),
        ("how often it was asked", approval.joined == replayed.joined),
        (
            "what became of it",
            reported(approval) == replayed.reported.as_deref(),
        ),
    ];
    let wrong = checks.into_iter().filter(|(_, is_same)| !is_same);
    wrong.map(|(what, _)| what).collect()
}

/// The digests that are not those of the request and the view that are stored beside them: whoever changes what reviewers are shown
/// cannot keep the digest.
fn made_again(
    approval: &Approval,
    replayed: &Replayed,
    texts: ExtensionTexts,
) -> Vec<&'static str> {
    let asked = &approval.asked;
    let request = request_digest(&asked.request, &asked.action, texts);
    let checks = [
        (
            "the digest of the request",
            request.as_bytes() == replayed.digest.as_slice(),
        ),
        (
            "the digest of what reviewers are shown",
            asked.view.digest().as_bytes() == replayed.view_digest.as_slice(),
        ),
    ];
    let wrong = checks.into_iter().filter(|(_, is_same)| !is_same);
    wrong.map(|(what, _)| what).collect()
}

/// The opening in the record `leaf`, with the approval's name, if it is one that happened.
fn opened_in(leaf: &[u8]) -> Option<(String, ApprovalOpened)> {
    let Some(record::What::Approval(event)) = Record::decode(leaf).ok()?.what else {
        return None;
    };
    let Some(approval_event::What::Opened(opened)) = event.what else {
        return None;
    };
    Some((event.approval_id, opened))
}

/// The record of its opening, as it would be written now with nothing kept out.
fn opening_of(approval: &Approval) -> Option<ApprovalOpened> {
    let record = ControlRecord {
        at: approval.opened,
        approval: approval.id.clone(),
        version: 1,
        from: None,
        to: Status::Pending,
        digest: approval.asked.digest,
        what: Happening::Opened(Box::new(approval.clone())),
    };
    opened_in(&encode_plain(&record)).map(|(_, opened)| opened)
}

fn reported(approval: &Approval) -> Option<&'static str> {
    match &approval.state {
        State::Redeemed { resolution, .. } => {
            resolution.as_ref().map(|known| known.outcome.as_str())
        }
        State::Pending | State::Approved(_) | State::Closed(..) => None,
    }
}

fn same_votes(approval: &Approval, replayed: &Replayed) -> bool {
    let is_same = |(stored, vote): (&crate::approval::Vote, &CountedVote)| {
        let voter = &stored.voter;
        voter.canonical == vote.canonical
            && voter.account == vote.account
            && (voter.person.issuer.as_str(), voter.person.subject.as_str())
                == (vote.person.0.as_str(), vote.person.1.as_str())
            && (stored.choice == Choice::Approve) == vote.is_approve
            && stored.at.as_microsecond() == vote.at_us
            && (!vote.is_approve || stored.seats == vote.seats)
            && stored.request_digest.as_bytes() == replayed.digest.as_slice()
            && stored.view_digest.as_bytes() == replayed.view_digest.as_slice()
    };
    approval.votes.len() == replayed.votes.len()
        && approval.votes.iter().zip(&replayed.votes).all(is_same)
}

fn same_redemption(
    approval: &Approval,
    row: Option<StoredRedemption<'_>>,
    replayed: &Replayed,
) -> bool {
    let kept = match &approval.state {
        State::Redeemed { redemption, .. } => Some(StoredRedemption {
            caller: &redemption.caller,
            digest: approval.asked.digest,
            key: redemption.key.as_deref(),
            decision_id: &redemption.decision_id,
            at_us: redemption.at.as_microsecond(),
        }),
        State::Pending | State::Approved(_) | State::Closed(..) => None,
    };
    let is_same = |stored: StoredRedemption<'_>| {
        let id = stored.decision_id.parse::<Uuid>().ok();
        replayed.spent.as_ref().is_some_and(|spent| {
            spent.caller == stored.caller
                && spent.digest == stored.digest.as_bytes()
                && spent.key == stored.key.unwrap_or_default()
                && id.is_some_and(|id| spent.decision_id == id.as_bytes())
                && spent.at_us == stored.at_us
        })
    };
    let is_spent = replayed.spent.is_some();
    [kept, row]
        .into_iter()
        .all(|stored| stored.is_some() == is_spent && stored.is_none_or(is_same))
}
