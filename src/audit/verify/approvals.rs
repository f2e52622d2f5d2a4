//! Replays the lives of approvals, record by record, and finds what could not have happened.
//!
//! Nothing here is shared with the code that let it happen, but for the counting of seats and the table of transitions.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::approval::Status;
use crate::approval::quorum::Seats;
use crate::audit::proto::{self, ApprovalEvent, ApprovalOpened, approval_event::What};
use crate::model::{EntityRef, Seat};

use super::finding::{Finding, Findings, Kind};
use super::replicas::Place;
use super::report::ApprovalCounts;

/// A vote that counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedVote {
    /// The one name of the person.
    pub canonical: EntityRef,
    /// The account they voted by.
    pub account: EntityRef,
    /// Who signed in: issuer and subject.
    pub person: (String, String),
    /// Whether it was a yes.
    pub is_approve: bool,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// The seats they could fill.
    pub(super) seats: BTreeSet<Seat>,
}

/// A grant that was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The decision that spent it, 16 bytes.
    pub decision_id: Vec<u8>,
    /// The digest of the request.
    pub digest: Vec<u8>,
    /// Who spent it.
    pub caller: String,
    /// By which key; empty if none.
    pub key: String,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// Whether a decision in a decision log says so.
    pub(super) has_decision: bool,
}

/// An approval, as far as it was replayed.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Its version.
    pub version: u64,
    /// Where it stands.
    pub status: Status,
    /// The digest of its request.
    pub digest: Vec<u8>,
    /// The digest of what reviewers are shown.
    pub view_digest: Vec<u8>,
    /// A hash over the record of its opening, without the values that policies may keep out.
    pub opening: [u8; 32],
    /// The moment from which votes do not count, in microseconds since the epoch.
    pub expires_us: i64,
    /// The votes that counted, in their order.
    pub votes: Vec<CountedVote>,
    /// How often the same request was asked again.
    pub joined: u32,
    /// The spending of its grant.
    pub spent: Option<Spent>,
    /// What was reported of the request, or is unknown for good.
    pub reported: Option<String>,
    pub(super) caller: String,
    pub(super) barred: BTreeSet<EntityRef>,
    pub(super) seats: Seats,
    pub(super) redeem_within_us: i64,
    pub(super) redeem_before_us: Option<i64>,
}

impl Replayed {
    /// Each person's last vote, by the one name of the person.
    pub fn counted(&self) -> BTreeMap<&EntityRef, &CountedVote> {
        self.votes
            .iter()
            .map(|vote| (&vote.canonical, vote))
            .collect()
    }

    pub(super) fn approving(&self) -> Vec<&CountedVote> {
        let counted = self.counted().into_values();
        counted.filter(|vote| vote.is_approve).collect()
    }

    pub(super) fn is_barred(&self, person: &EntityRef) -> bool {
        self.barred.contains(person)
    }
}

/// All approvals of a control log.
#[derive(Debug, Default)]
pub struct Approvals {
    known: BTreeMap<String, Replayed>,
    counts: ApprovalCounts,
}

/// What is wrong with a record about an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) Kind, pub(super) String);

impl Wrong {
    pub(super) fn course(says: impl Into<String>) -> Self {
        Self(Kind::ApprovalCourse, says.into())
    }
}

/// A record about an approval, with its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) at_us: i64,
    pub(super) event: &'a ApprovalEvent,
    pub(super) from: Option<Status>,
    pub(super) to: Status,
}

impl Approvals {
    /// The approval called `id`.
    pub fn get(&self, id: &str) -> Option<&Replayed> {
        self.known.get(id)
    }

    /// All of them, by id.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Replayed)> {
        self.known
            .iter()
            .map(|(id, approval)| (id.as_str(), approval))
    }

    /// What was replayed.
    pub fn counts(&self) -> &ApprovalCounts {
        &self.counts
    }

    /// The spending of the grant of the approval called `id`.
    pub(super) fn spent(&mut self, id: &str) -> Option<&mut Spent> {
        self.known.get_mut(id)?.spent.as_mut()
    }

    /// Takes over which grants a decision speaks of.
    pub(super) fn go_on_from(&mut self, earlier: &Self) {
        for (id, before) in &earlier.known {
            let is_told = before.spent.as_ref().is_some_and(|each| each.has_decision);
            if is_told && let Some(spent) = self.spent(id) {
                spent.has_decision = true;
            }
        }
    }

    /// Takes the next record about any approval.
    pub(super) fn take(
        &mut self,
        place: Place<'_>,
        at_us: i64,
        event: &ApprovalEvent,
        findings: &mut Findings,
    ) {
        let id = &event.approval_id;
        if let Err(Wrong(kind, says)) = self.replay(at_us, event) {
            findings.add(place.finding(kind, says).of(id));
        }
    }

    fn replay(&mut self, at_us: i64, event: &ApprovalEvent) -> Result<(), Wrong> {
        let from = status(event.from);
        if from.is_none() && event.from != 0 {
            return Err(Wrong::course("its status before is none"));
        }
        let to = status(event.to);
        let step = Step {
            at_us,
            event,
            from,
            to: to.ok_or_else(|| Wrong::course("its status afterwards is none"))?,
        };
        if let Some(What::Opened(opened)) = &event.what {
            return self.open(step, opened);
        }
        let known = self.known.get_mut(&event.approval_id);
        let approval =
            known.ok_or_else(|| Wrong::course("something happened to it before it was opened"))?;
        if event.request_digest != approval.digest {
            let says = "something that happened to it is about another request".to_owned();
            return Err(Wrong(Kind::ApprovalDigest, says));
        }
        if !event.refusal_kind.is_empty() || !event.refusal.is_empty() {
            return self.refuse(step);
        }
        let checked = in_order(approval, step).and_then(|()| approval.happen(step));
        // What is wrong is told once: the next record is judged by what this one says.
        approval.version = event.version;
        approval.status = step.to;
        count(&mut self.counts, step);
        checked
    }

    fn open(&mut self, step: Step<'_>, opened: &ApprovalOpened) -> Result<(), Wrong> {
        let event = step.event;
        let is_beginning = step.from.is_none() && step.to == Status::Pending && event.version == 1;
        let is_refused = !event.refusal_kind.is_empty() || !event.refusal.is_empty();
        if self.known.contains_key(&event.approval_id) {
            return Err(Wrong::course("it is opened a second time"));
        }
        let approval = opening(step, opened);
        let takes = approval
            .seats
            .values()
            .fold(0_u32, |all, count| all.saturating_add(*count));
        self.known.insert(event.approval_id.clone(), approval);
        self.counts.opened = self.counts.opened.saturating_add(1);
        if !is_beginning || is_refused || takes == 0 || event.request_digest.len() != 32 {
            return Err(Wrong::course("its opening is none"));
        }
        Ok(())
    }

    /// A refusal changes nothing. It may have been written behind a later change.
    fn refuse(&mut self, step: Step<'_>) -> Result<(), Wrong> {
        let refused = &mut self.counts.refused;
        let count = refused.entry(step.event.refusal_kind.clone()).or_default();
        *count = count.saturating_add(1);
        let version = self
            .known
            .get(&step.event.approval_id)
            .map(|known| known.version);
        let is_known = (1..=version.unwrap_or(0)).contains(&step.event.version);
        (is_known && step.from == Some(step.to))
            .then_some(())
            .ok_or_else(|| Wrong::course("something was refused and changed it"))
    }
}

/// Whether a change follows what was before.
fn in_order(approval: &Replayed, step: Step<'_>) -> Result<(), Wrong> {
    let (version, from) = (step.event.version, approval.status);
    if Some(version) != approval.version.checked_add(1) {
        let before = approval.version;
        return Err(Wrong::course(format!(
            "version {version} follows version {before}"
        )));
    }
    if step.from != Some(from) {
        return Err(Wrong::course(format!(
            "it was {from}, and a change says otherwise"
        )));
    }
    let is_allowed = from == step.to || Status::TRANSITIONS.contains(&(from, step.to));
    is_allowed
        .then_some(())
        .ok_or_else(|| Wrong::course(format!("it was {from} and cannot become {}", step.to)))
}

fn count(counts: &mut ApprovalCounts, step: Step<'_>) {
    let add = |count: &mut u64| *count = count.saturating_add(1);
    match &step.event.what {
        Some(What::Voted(_)) => add(&mut counts.votes),
        Some(What::Joined(_)) => add(&mut counts.joined),
        _ => {}
    }
    if step.from != Some(step.to) {
        match step.to {
            Status::Approved => add(&mut counts.approved),
            Status::Redeemed => add(&mut counts.redeemed),
            Status::Denied => add(&mut counts.denied),
            Status::Pending
            | Status::Expired
            | Status::Cancelled
            | Status::Superseded
            | Status::Revoked
            | Status::Lapsed => {}
        }
    }
}

fn opening(step: Step<'_>, opened: &ApprovalOpened) -> Replayed {
    let barred = opened
        .barred
        .iter()
        .filter_map(|barred| barred.person.as_ref());
    let barred = barred.chain(&opened.principal).chain(&opened.on_behalf_of);
    let mut seats = Seats::new();
    for (seat, count) in opened
        .requirements
        .iter()
        .flat_map(|each| seat_counts(&each.seats))
    {
        let known = seats.entry(seat).or_default();
        *known = (*known).max(count);
    }
    let lives = opened.requirements.iter().map(|each| each.redeem_within_us);
    Replayed {
        version: step.event.version,
        status: step.to,
        digest: step.event.request_digest.clone(),
        view_digest: opened.view_digest.clone(),
        opening: opening_hash(opened.clone()),
        expires_us: opened.expires_us,
        votes: Vec::new(),
        joined: 0,
        spent: None,
        reported: None,
        caller: opened.caller.clone(),
        barred: barred.map(entity).collect(),
        seats,
        redeem_within_us: lives.min().unwrap_or(0),
        redeem_before_us: None,
    }
}

/// A hash over `opened` without the values that policies may keep out of the log; digests stand for them.
pub(super) fn opening_hash(opened: ApprovalOpened) -> [u8; 32] {
    let kept = ApprovalOpened {
        context: Vec::new(),
        entities: Vec::new(),
        shown: Vec::new(),
        ..opened
    };
    Sha256::digest(prost::Message::encode_to_vec(&kept)).into()
}

pub(super) fn entity(entity: &proto::Entity) -> EntityRef {
    EntityRef::new(entity.r#type.clone(), entity.id.clone())
}

pub(super) fn seat(seat: &proto::Seat) -> Seat {
    Seat {
        rule: seat.rule.clone(),
        slot: seat.slot.clone(),
    }
}

pub(super) fn seat_counts(counts: &[proto::SeatCount]) -> impl Iterator<Item = (Seat, u32)> {
    let counts = counts.iter();
    counts.filter_map(|each| each.seat.as_ref().map(|of| (seat(of), each.count)))
}

/// The status of this number; none for "no approval yet", and for a number that is no status.
fn status(number: i32) -> Option<Status> {
    match proto::Status::try_from(number).ok()? {
        proto::Status::Unspecified => None,
        proto::Status::Pending => Some(Status::Pending),
        proto::Status::Approved => Some(Status::Approved),
        proto::Status::Redeemed => Some(Status::Redeemed),
        proto::Status::Denied => Some(Status::Denied),
        proto::Status::Expired => Some(Status::Expired),
        proto::Status::Cancelled => Some(Status::Cancelled),
        proto::Status::Superseded => Some(Status::Superseded),
        proto::Status::Revoked => Some(Status::Revoked),
        proto::Status::Lapsed => Some(Status::Lapsed),
    }
}

/// Grants that were spent and that no decision speaks of: a crash came between, or the decision log is not there.
pub(super) fn tell_silent(log: &str, approvals: &Approvals, findings: &mut Findings) {
    for (id, approval) in approvals.all() {
        if approval
            .spent
            .as_ref()
            .is_some_and(|spent| !spent.has_decision)
        {
            let says = "its grant was spent, and no decision in the logs says so";
            findings.add(Finding::new(Kind::RedeemedWithoutDecision, log, says).of(id));
        }
    }
}
