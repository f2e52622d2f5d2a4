//! Whether another approval may be opened: identical requests join, requesters have limits, and a no is not asked again at once.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::closed::{Cause, Status};
use super::state::{Approval, State, after};

/// How much may be asked of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloodLimits {
    /// How many approvals of one requester may wait at once.
    pub pending_per_requester: u32,
    /// How many approvals one requester may open within a minute.
    pub opened_per_minute: u32,
    /// How long a denied request is answered without asking anybody again; doubled for each denial in a row.
    pub cool_down: Duration,
    /// The longest cool-down.
    pub longest_cool_down: Duration,
}

impl Default for FloodLimits {
    /// 20 waiting, 10 a minute, 15 minutes doubling to a day.
    fn default() -> Self {
        Self {
            pending_per_requester: 20,
            opened_per_minute: 10,
            cool_down: Duration::from_secs(15 * 60),
            longest_cool_down: Duration::from_secs(24 * 3_600),
        }
    }
}

/// What the store knows of a requester and a request. Requester means principal, request means caller and digest.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The approval that is pending or approved for the very request.
    pub open: Option<Approval>,
    /// Where the very request was denied, or revoked after it was approved, latest first, as far back as the longest cool-down.
    pub denied: Vec<Approval>,
    /// How many approvals of the requester wait, by now.
    pub pending: u32,
    /// When the requester opened approvals within the last minute, earliest first.
    pub opened: Vec<Timestamp>,
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FloodLimit {
    /// Too many wait.
    PendingPerRequester(u32),
    /// Too many within a minute.
    OpenedPerMinute(u32),
}

/// What becomes of a wish to open an approval.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is opened.
    Open,
    /// The request waits already, or is approved and waits to be redeemed.
    Join(Box<Approval>),
    /// The request was denied a short while ago.
    CoolDown {
        /// The denial.
        denied: Box<Approval>,
        /// When people may be asked again.
        until: Timestamp,
    },
    /// The requester asks too much.
    TooMany {
        /// The limit.
        limit: FloodLimit,
        /// When asking again may help.
        retry_at: Timestamp,
    },
}

/// Judges a wish to open an approval at `now`.
pub fn judge(limits: &FloodLimits, facts: Facts, now: Timestamp) -> Verdict {
    let still_open = |open: &Approval| !open.status_at(now).is_terminal();
    if let Some(open) = facts.open.filter(still_open) {
        return Verdict::Join(Box::new(open));
    }
    let minute = Duration::from_secs(60);
    if let Some((denied, until)) = cool_down(limits, facts.denied).filter(|(_, until)| *until > now)
    {
        return Verdict::CoolDown {
            denied: Box::new(denied),
            until,
        };
    }
    if facts.pending >= limits.pending_per_requester {
        return Verdict::TooMany {
            limit: FloodLimit::PendingPerRequester(limits.pending_per_requester),
            retry_at: after(now, minute),
        };
    }
    let opened = u32::try_from(facts.opened.len()).unwrap_or(u32::MAX);
    if opened >= limits.opened_per_minute {
        // So many must fall out of the minute that fewer than the limit are left.
        let over = facts
            .opened
            .len()
            .saturating_sub(usize::try_from(limits.opened_per_minute).unwrap_or(usize::MAX));
        let earliest = facts.opened.get(over).copied().unwrap_or(now);
        return Verdict::TooMany {
            limit: FloodLimit::OpenedPerMinute(limits.opened_per_minute),
            retry_at: after(earliest, minute),
        };
    }
    Verdict::Open
}

/// Until when the last denial counts: twice as long for each denial before it. Where nobody was left to approve, nobody said no.
fn cool_down(limits: &FloodLimits, mut denied: Vec<Approval>) -> Option<(Approval, Timestamp)> {
    denied.retain(is_vetoed);
    let times = u32::try_from(denied.len()).unwrap_or(u32::MAX);
    let last = denied.into_iter().next()?;
    let factor = 2_u32.saturating_pow(times.saturating_sub(1));
    let wait = limits
        .cool_down
        .saturating_mul(factor)
        .min(limits.longest_cool_down);
    let (at, _) = last.resolved_by();
    Some((last, after(at, wait)))
}

fn is_vetoed(approval: &Approval) -> bool {
    match &approval.state {
        State::Closed(Status::Denied | Status::Revoked, closed) => {
            closed.cause == Some(Cause::Veto)
        }
        State::Closed(..) | State::Pending | State::Approved(_) | State::Redeemed { .. } => false,
    }
}
