//! What every store of approvals does alike: which columns an approval has, and what a command comes to.
//!
//! A store looks up what a plan needs, asks for the plan, and writes all of it in one transaction, the bytes of its records with it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::approval::flood::{Facts, FloodLimits, Verdict, judge};
use crate::approval::{
    Approval, ControlRecord, Digest, Event, Opening, Redemption, State, Status, Transition, Vote,
};
use crate::audit::tree::Frontier;
use crate::usecase::approval_store::{Applied, COMMAND_MEMORY, ListCursor, Opened, StoreError};
use crate::usecase::control_log::{ControlHead, RecordEncoder, SequenceCommand};

/// How many denials of one request a store looks up at most: further ones cannot double the longest cool-down any more.
pub(super) const DENIALS_LOOKED_AT: usize = 32;

/// How far back a store looks for approvals that a requester opened.
const OPENED_WITHIN: Duration = Duration::from_secs(60);

/// The most rows that any list is given in one piece.
const LONGEST_LIST: u32 = 1000;

/// Limits how many rows are read at once.
pub(super) fn rows_at_once(limit: u32) -> u32 {
    limit.clamp(1, LONGEST_LIST)
}

/// `moment` in whole microseconds since the epoch, which is as fine as stores keep time.
pub(super) fn micros(moment: Timestamp) -> i64 {
    moment.as_microsecond()
}

/// The first whole microsecond that is not before `deadline`: by `now` in whole microseconds, neither is reached before the other.
pub(super) fn deadline_micros(deadline: Timestamp) -> i64 {
    let whole = micros(deadline);
    if whole_micros(deadline) < deadline {
        whole.saturating_add(1)
    } else {
        whole
    }
}

/// `now` without what is finer than a microsecond. Every operation begins with this.
pub(super) fn whole_micros(now: Timestamp) -> Timestamp {
    moment(micros(now)).unwrap_or(now)
}

/// The moment that a column holds.
pub(super) fn moment(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// `wait` after `now`, or the end of time.
pub(super) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    whole_micros(now.checked_add(wait).unwrap_or(Timestamp::MAX))
}

/// `wait` before `now`, or the beginning of time.
fn earlier(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.checked_sub(wait).unwrap_or(Timestamp::MIN)
}

/// What must have been denied after, to count for a cool-down.
pub(super) fn denied_after(limits: &FloodLimits, now: Timestamp) -> Timestamp {
    earlier(now, limits.longest_cool_down)
}

/// What must have been opened after, to count for the minute.
pub(super) fn opened_after(now: Timestamp) -> Timestamp {
    earlier(now, OPENED_WITHIN)
}

/// Commands kept before this are forgotten.
pub(super) fn forgotten_before(now: Timestamp) -> Timestamp {
    earlier(now, COMMAND_MEMORY)
}

/// The columns of an approval that change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Where it stands.
    pub(super) status: Status,
    /// When time ends what it is now: a pending or an approved one.
    pub(super) deadline_us: Option<i64>,
    /// When time changes anything next.
    pub(super) next_timer_us: Option<i64>,
    /// When it was closed without being redeemed.
    pub(super) closed_us: Option<i64>,
}

impl Columns {
    /// The columns of `approval`.
    pub(super) fn of(approval: &Approval) -> Self {
        let (deadline, closed) = match &approval.state {
            State::Pending => (Some(approval.expires), None),
            State::Approved(grant) => (Some(grant.until), None),
            State::Redeemed { .. } => (None, None),
            State::Closed(_, closed) => (None, Some(closed.at)),
        };
        Self {
            status: approval.status(),
            deadline_us: deadline.map(deadline_micros),
            next_timer_us: approval.next_timer().map(deadline_micros),
            closed_us: closed.map(micros),
        }
    }
}

/// The requester of an approval, as filters name them: `Type::"id"`.
pub(super) fn requester_of(approval: &Approval) -> String {
    approval.asked.request.principal.to_string()
}

/// The status that is stored for one that stands as `status` now: time may have moved it further than anybody has written.
pub(super) fn stored_as(status: Status) -> Option<Status> {
    match status {
        Status::Expired => Some(Status::Pending),
        Status::Lapsed => Some(Status::Approved),
        Status::Pending
        | Status::Approved
        | Status::Redeemed
        | Status::Denied
        | Status::Cancelled
        | Status::Superseded
        | Status::Revoked => None,
    }
}

/// Where a list goes on behind `last`.
pub(super) fn cursor_behind(last: &Approval) -> ListCursor {
    ListCursor {
        opened_us: micros(last.opened),
        id: last.id.clone(),
    }
}

/// What a command that was kept under a key means for one that comes with the same key.
pub(super) fn is_same_payload(kept: &str, payload: &Digest) -> bool {
    kept == payload.to_string()
}

/// What an approval was before a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    version: u64,
    status: Status,
    votes: usize,
}

/// One transition to be written.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What was stored; none for an opening.
    before: Option<Before>,
    /// What is to be stored.
    pub(super) transition: Transition,
    /// The bytes of each record, as the control log keeps them.
    bodies: Vec<Vec<u8>>,
}

impl Step {
    /// The opening of an approval.
    fn opening(opening: Opening, now: Timestamp, encoder: &dyn RecordEncoder) -> Self {
        let transition = Transition::opening(Approval::open(opening, now));
        Self::new(None, transition, encoder)
    }

    /// What `event` does to `approval`.
    fn applying(
        approval: Approval,
        event: &Event,
        now: Timestamp,
        encoder: &dyn RecordEncoder,
    ) -> Self {
        let before = Before {
            version: approval.version,
            status: approval.status(),
            votes: approval.votes.len(),
        };
        Self::new(Some(before), approval.apply(event, now), encoder)
    }

    fn new(before: Option<Before>, transition: Transition, encoder: &dyn RecordEncoder) -> Self {
        let records = transition.records.iter();
        let bodies = records.map(|record| encoder.encode(record)).collect();
        Self {
            before,
            transition,
            bodies,
        }
    }

    /// The records to be written, in this order, each with its bytes.
    pub(super) fn records(&self) -> impl ExactSizeIterator<Item = (&ControlRecord, &[u8])> {
        let bodies = self.bodies.iter().map(Vec::as_slice);
        self.transition.records.iter().zip(bodies)
    }

    /// The approval after the step.
    pub(super) fn approval(&self) -> &Approval {
        &self.transition.approval
    }

    /// The version and the status that must be stored for the step to be written; none for an opening.
    pub(super) fn replaces(&self) -> Option<(u64, Status)> {
        self.before.map(|before| (before.version, before.status))
    }

    /// Whether the approval is another than before.
    pub(super) fn is_change(&self) -> bool {
        self.before
            .is_none_or(|before| before.version != self.approval().version)
    }

    /// The votes that were cast with this step.
    pub(super) fn new_votes(&self) -> &[Vote] {
        let known = self.before.map_or(0, |before| before.votes);
        self.approval().votes.get(known..).unwrap_or_default()
    }

    /// The redemption that happened with this step.
    pub(super) fn new_redemption(&self) -> Option<&Redemption> {
        let was_redeemed = self
            .before
            .is_some_and(|before| before.status == Status::Redeemed);
        match &self.approval().state {
            State::Redeemed { redemption, .. } if !was_redeemed => Some(redemption),
            State::Redeemed { .. } | State::Pending | State::Approved(_) | State::Closed(..) => {
                None
            }
        }
    }
}

/// What a command comes to.
#[derive(Clone, Debug)]
pub(super) struct Plan<A> {
    /// What must be written, in this order, all or nothing.
    pub(super) steps: Vec<Step>,
    /// What is answered once it is written.
    pub(super) answer: A,
    /// Whether the command's key is remembered, for this approval: only for what was done.
    pub(super) is_accepted: bool,
}

/// What a wish to open an approval comes to. [`Facts`] are what is stored, of the same request and the same requester.
pub(super) fn plan_opening(
    opening: Opening,
    limits: &FloodLimits,
    facts: Facts,
    now: Timestamp,
    encoder: &dyn RecordEncoder,
) -> Plan<Opened> {
    let ended = facts
        .open
        .clone()
        .filter(|open| open.status_at(now).is_terminal());
    let refused = |answer| Plan {
        steps: Vec::new(),
        answer,
        is_accepted: false,
    };
    match judge(limits, facts, now) {
        Verdict::Open => {
            // What time has ended makes room before anything else takes its place.
            let ended = ended.map(|ended| Step::applying(ended, &Event::Tick, now, encoder));
            let step = Step::opening(opening, now, encoder);
            let answer = Opened::New(Box::new(step.approval().clone()));
            Plan {
                steps: ended.into_iter().chain([step]).collect(),
                answer,
                is_accepted: true,
            }
        }
        Verdict::Join(open) => {
            let step = Step::applying(*open, &Event::Join, now, encoder);
            Plan {
                answer: Opened::Joined(Box::new(step.approval().clone())),
                steps: vec![step],
                is_accepted: true,
            }
        }
        Verdict::CoolDown { denied, until } => refused(Opened::CoolDown { denied, until }),
        Verdict::TooMany { limit, retry_at } => refused(Opened::TooMany { limit, retry_at }),
    }
}

/// What an event comes to, meant for `version` of `approval`.
pub(super) fn plan_event(
    approval: Approval,
    event: &Event,
    version: Option<u64>,
    now: Timestamp,
    encoder: &dyn RecordEncoder,
) -> Plan<Applied> {
    if version.is_some_and(|version| version != approval.version) {
        return Plan {
            steps: Vec::new(),
            answer: Applied::Moved(Box::new(approval)),
            is_accepted: false,
        };
    }
    let step = Step::applying(approval, event, now, encoder);
    let after = Box::new(step.approval().clone());
    let (answer, is_accepted) = match step.transition.answer.clone() {
        Ok(()) => (Applied::Done(after), true),
        Err(refusal) => (Applied::Refused(after, refusal), false),
    };
    Plan {
        steps: vec![step],
        answer,
        is_accepted,
    }
}

/// Refuses a command whose tree is not one over its records and those before them.
pub(super) fn check_sequence(command: &SequenceCommand) -> Result<(), StoreError> {
    let entries = u64::try_from(command.entries.len()).unwrap_or(u64::MAX);
    let (size, wanted) = (
        command.frontier.size(),
        command.from.saturating_add(entries),
    );
    if size == wanted {
        return Ok(());
    }
    Err(StoreError::RuleBroken(format!(
        "a tree over {size} records is not the head of a log of {wanted}"
    )))
}

/// The head of the control log, from its columns.
pub(super) fn head_of(
    size: u64,
    frontier: &[u8],
    checkpoint: Option<String>,
) -> Result<ControlHead, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt(format!("the head of the control log: {why}"));
    let frontier = Frontier::from_bytes(frontier).map_err(|error| corrupt(error.to_string()))?;
    if frontier.size() != size {
        let found = frontier.size();
        return Err(corrupt(format!(
            "its tree has {found} records, and not {size}"
        )));
    }
    Ok(ControlHead {
        frontier,
        checkpoint,
    })
}

/// The bodies of records that were read with their places, which must follow each other from `from` on.
pub(super) fn bodies_from(
    from: u64,
    rows: impl IntoIterator<Item = (u64, Vec<u8>)>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut bodies = Vec::new();
    let mut wanted = from;
    for (place, body) in rows {
        if place != wanted {
            let what = format!("the control log has no record at place {wanted}");
            return Err(StoreError::Corrupt(what));
        }
        bodies.push(body);
        wanted = wanted.saturating_add(1);
    }
    Ok(bodies)
}
