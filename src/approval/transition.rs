//! The only way from one state of an approval to the next.
//!
//! INVARIANT (deny-wins): until a grant is redeemed, a no of anybody who may say it ends the approval, whatever came before.
//! INVARIANT (time-first): what the time has ended is ended before an event is looked at, so a sweeper that sleeps changes nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::closed::{Cause, Closed, ReportedOutcome, Status};
use super::event::{Actor, Event, Refusal, Standing, Withdrawal};
use super::record::{ControlRecord, Happening};
use super::state::{Approval, REPORT_WITHIN, Resolution, State, after};

/// What an event comes to. Whoever stores it stores all of it, or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The approval after the event. Unchanged if its version is.
    pub approval: Approval,
    /// What the control log must hold of it, refusals among it.
    pub records: Vec<ControlRecord>,
    /// Where people must be told how the approval stands now. Empty if nothing happened that they would want to know.
    pub tell: BTreeSet<String>,
    /// Whether the event did what it was meant to do.
    pub answer: Result<(), Refusal>,
}

impl Transition {
    /// The beginning of `approval`, which was just opened.
    pub fn opening(approval: Approval) -> Self {
        let now = approval.opened;
        let opened = Happening::Opened(Box::new(approval.clone()));
        let mut course = Course::new(approval, now);
        course.note(None, opened);
        course.tells = true;
        course.end(Ok(()))
    }
}

impl Approval {
    /// Lets `event` happen at `now`.
    pub fn apply(self, event: &Event, now: Timestamp) -> Transition {
        let mut course = Course::new(self, now);
        course.pass_time();
        let answer = match event {
            Event::Join => course.join(),
            Event::Vote(ballot) => course.vote(ballot),
            Event::Cancel(withdrawal) => course.cancel(withdrawal),
            Event::Revoke(withdrawal) => course.revoke(withdrawal),
            Event::Redeem(attempt) => course.redeem(attempt),
            Event::Supersede(cause, _) => course.supersede(*cause),
            Event::Strand(_) => course.strand(),
            Event::Report {
                caller,
                outcome,
                detail,
            } => course.report(caller, *outcome, detail.as_ref()),
            Event::Tick => return course.end(Ok(())),
        };
        match &answer {
            // An attempt that ends the approval is a change too.
            Ok(()) | Err(Refusal::Superseded(_)) => course.keep(event),
            Err(refusal) => course.note_refused(event, refusal),
        }
        course.end(answer)
    }
}

/// An approval under way from one version to the next.
pub(super) struct Course {
    pub(super) approval: Approval,
    pub(super) now: Timestamp,
    /// Where it stood before the event; time may have moved it already.
    from: Status,
    /// Whether the event changed anything.
    pub(super) is_changed: bool,
    records: Vec<ControlRecord>,
    tells: bool,
}

impl Course {
    fn new(approval: Approval, now: Timestamp) -> Self {
        Self {
            from: approval.status(),
            approval,
            now,
            is_changed: false,
            records: Vec::new(),
            tells: false,
        }
    }

    fn end(self, answer: Result<(), Refusal>) -> Transition {
        let tell = if self.tells {
            let destinations = self.approval.destinations();
            destinations.into_iter().map(str::to_owned).collect()
        } else {
            BTreeSet::new()
        };
        Transition {
            approval: self.approval,
            records: self.records,
            tell,
            answer,
        }
    }

    pub(super) fn note(&mut self, from: Option<Status>, what: Happening) {
        self.records.push(ControlRecord {
            at: self.now,
            approval: self.approval.id.clone(),
            version: self.approval.version,
            from,
            to: self.approval.status(),
            digest: self.approval.asked.digest,
            what,
        });
    }

    fn note_refused(&mut self, event: &Event, refusal: &Refusal) {
        let status = self.approval.status();
        self.note(
            Some(status),
            Happening::Refused(event.clone(), refusal.clone()),
        );
    }

    /// Records the change that `event` made, if it made one.
    fn keep(&mut self, event: &Event) {
        if !self.is_changed {
            return;
        }
        self.next_version();
        self.note(Some(self.from), Happening::Changed(event.clone()));
        self.tells |= !matches!(event, Event::Join);
    }

    fn next_version(&mut self) {
        self.approval.version = self.approval.version.saturating_add(1);
    }

    pub(super) fn become_state(&mut self, state: State) {
        self.approval.state = state;
        self.is_changed = true;
    }

    pub(super) fn close(
        &mut self,
        status: Status,
        by: Actor,
        cause: Option<Cause>,
        comment: Option<String>,
    ) {
        self.become_state(State::Closed(
            status,
            Closed {
                at: self.now,
                by,
                cause,
                comment,
            },
        ));
    }

    /// A change that nobody but time made: a version and a record of its own.
    fn time_did(&mut self, what: Happening) {
        self.next_version();
        self.note(Some(self.from), what);
        self.from = self.approval.status();
        self.is_changed = false;
        self.tells = true;
    }

    fn pass_time(&mut self) {
        let now = self.now;
        match &mut self.approval.state {
            State::Pending if now >= self.approval.expires => {
                self.close(Status::Expired, Actor::System, None, None);
                self.time_did(Happening::TimedOut);
            }
            State::Pending => self.remind(),
            State::Approved(grant) if now >= grant.until => {
                self.close(Status::Lapsed, Actor::System, None, None);
                self.time_did(Happening::TimedOut);
            }
            State::Redeemed {
                redemption,
                resolution,
                ..
            } if resolution.is_none() && now >= after(redemption.at, REPORT_WITHIN) => {
                *resolution = Some(Resolution {
                    at: now,
                    outcome: ReportedOutcome::Unknown,
                    detail: None,
                });
                self.time_did(Happening::TimedOut);
            }
            State::Approved(_) | State::Redeemed { .. } | State::Closed(..) => {}
        }
    }

    fn remind(&mut self) {
        let now = self.now;
        if self.approval.escalation_due().is_some_and(|due| now >= due) {
            self.approval.timers.escalated = Some(now);
            self.time_did(Happening::Escalated);
        }
        if self.approval.reminder_due().is_some_and(|due| now >= due) {
            self.approval.timers.reminded = Some(now);
            self.time_did(Happening::Reminded);
        }
    }

    pub(super) fn already_resolved(&self) -> Refusal {
        let (at, by) = self.approval.resolved_by();
        Refusal::AlreadyResolved {
            status: self.approval.status(),
            at,
            by: Box::new(by),
        }
    }

    fn join(&mut self) -> Result<(), Refusal> {
        if self.approval.status().is_terminal() {
            return Err(self.already_resolved());
        }
        if self.approval.status() == Status::Approved {
            // Nothing waits for people any more, and a version of its own would get into the redeemer's way.
            return Ok(());
        }
        self.approval.joined = self.approval.joined.saturating_add(1);
        self.is_changed = true;
        Ok(())
    }

    /// Whether whoever withdraws belongs to the requester's side.
    fn is_requesters_side(&self, withdrawal: &Withdrawal) -> bool {
        match (&withdrawal.by, &withdrawal.standing) {
            (Actor::Caller(name), _) => *name == self.approval.asked.request.caller,
            (Actor::Person(voter), Some(said)) => {
                matches!(
                    self.standing(&voter.account, &voter.canonical, said),
                    Standing::Barred(_)
                )
            }
            (Actor::Person(_), None) | (Actor::System, _) => false,
        }
    }

    fn cancel(&mut self, withdrawal: &Withdrawal) -> Result<(), Refusal> {
        if self.approval.status() != Status::Pending {
            return Err(self.already_resolved());
        }
        if !self.is_requesters_side(withdrawal) {
            return Err(Refusal::NotTheRequester);
        }
        self.close(
            Status::Cancelled,
            withdrawal.by.clone(),
            None,
            withdrawal.comment.clone(),
        );
        Ok(())
    }

    fn revoke(&mut self, withdrawal: &Withdrawal) -> Result<(), Refusal> {
        match self.approval.status() {
            Status::Pending => return Err(Refusal::StillPending),
            Status::Approved => {}
            Status::Redeemed
            | Status::Denied
            | Status::Expired
            | Status::Cancelled
            | Status::Superseded
            | Status::Revoked
            | Status::Lapsed => return Err(self.already_resolved()),
        }
        let may_approve = match (&withdrawal.by, &withdrawal.standing) {
            (Actor::Person(voter), Some(said)) => {
                match self.standing(&voter.account, &voter.canonical, said) {
                    Standing::MayFill(_) => true,
                    Standing::Barred(_) => false,
                    Standing::NotEligible(why) => return Err(Refusal::NotEligible { why }),
                }
            }
            (Actor::Person(_), None) | (Actor::Caller(_) | Actor::System, _) => false,
        };
        if !may_approve && !self.is_requesters_side(withdrawal) {
            return Err(Refusal::NotTheRequester);
        }
        self.close(
            Status::Revoked,
            withdrawal.by.clone(),
            None,
            withdrawal.comment.clone(),
        );
        Ok(())
    }

    fn supersede(&mut self, cause: Cause) -> Result<(), Refusal> {
        if self.approval.status().is_terminal() {
            return Err(self.already_resolved());
        }
        self.close(Status::Superseded, Actor::System, Some(cause), None);
        Ok(())
    }

    fn strand(&mut self) -> Result<(), Refusal> {
        if self.approval.status() != Status::Pending {
            return Err(self.already_resolved());
        }
        self.close(
            Status::Denied,
            Actor::System,
            Some(Cause::UnreachableQuorum),
            None,
        );
        Ok(())
    }

    fn report(
        &mut self,
        caller: &str,
        outcome: ReportedOutcome,
        detail: Option<&String>,
    ) -> Result<(), Refusal> {
        if caller != self.approval.asked.request.caller {
            return Err(Refusal::OtherCaller);
        }
        let now = self.now;
        let State::Redeemed { resolution, .. } = &mut self.approval.state else {
            return Err(Refusal::NotRedeemed);
        };
        match resolution {
            Some(known) if known.outcome == outcome => return Ok(()),
            // A late report is better than none.
            Some(known) if known.outcome == ReportedOutcome::Unknown => {}
            Some(known) => return Err(Refusal::AlreadyReported(known.outcome)),
            None => {}
        }
        *resolution = Some(Resolution {
            at: now,
            outcome,
            detail: detail.cloned(),
        });
        self.is_changed = true;
        Ok(())
    }
}
