//! A simple idea of an approval: flags and lists, judged by what is written in the table and nothing cleverer.

use std::collections::{BTreeMap, BTreeSet};

use countersign::approval::quorum::Seats;
use countersign::approval::{
    Actor, Approval, Ballot, Choice, Digest, Event, RedeemAttempt, Refusal, ReportedOutcome,
    Standing, State, Status, Transition, Voter, Withdrawal,
};
use countersign::model::{EntityRef, Seat};
use jiff::{SignedDuration, Timestamp};

use super::super::support::{CALLER, can_fill};

/// What an event is answered with: the name of the refusal, or nothing.
type Answer = Result<(), &'static str>;

/// A vote as the model remembers it.
struct Cast {
    account: EntityRef,
    name: EntityRef,
    is_yes: bool,
    seats: BTreeSet<Seat>,
}

/// All that the model knows.
pub(crate) struct Model {
    status: Status,
    version: u64,
    joined: u32,
    casts: Vec<Cast>,
    seats: Seats,
    barred: BTreeSet<EntityRef>,
    digest: Digest,
    view_digest: Digest,
    expires: Timestamp,
    remind_at: Option<Timestamp>,
    escalate_at: Option<Timestamp>,
    redeem_within: SignedDuration,
    until: Timestamp,
    redeemed: Option<(Timestamp, Option<String>)>,
    outcome: Option<ReportedOutcome>,
}

impl Model {
    pub(crate) fn new(first: &Approval) -> Self {
        let signed = |wait| SignedDuration::try_from(wait).unwrap();
        let rules = &first.requirements;
        let mut seats = Seats::new();
        for (seat, count) in rules.iter().flat_map(|rule| &rule.seats) {
            seats.insert(seat.clone(), *count);
        }
        let earliest = |waits: Vec<_>| {
            waits
                .into_iter()
                .min()
                .map(|wait| first.opened + signed(wait))
        };
        Self {
            status: Status::Pending,
            version: 1,
            joined: 0,
            casts: Vec::new(),
            seats,
            // Who asks, and for whom, is barred whether or not somebody wrote it down.
            barred: (first.asked.barred.keys())
                .chain([&first.asked.request.principal])
                .chain(&first.asked.request.on_behalf_of)
                .cloned()
                .collect(),
            digest: first.asked.digest,
            view_digest: first.asked.view_digest,
            expires: earliest(rules.iter().map(|rule| rule.expires_after).collect()).unwrap(),
            remind_at: earliest(rules.iter().filter_map(|rule| rule.remind_after).collect()),
            escalate_at: earliest(
                rules
                    .iter()
                    .filter_map(|rule| rule.escalate_after)
                    .collect(),
            ),
            redeem_within: signed(rules.iter().map(|rule| rule.redeem_within).min().unwrap()),
            until: Timestamp::MAX,
            redeemed: None,
            outcome: None,
        }
    }

    /// Lets `event` happen to the model.
    pub(crate) fn step(&mut self, event: &Event, now: Timestamp) -> Answer {
        self.pass_time(now);
        let changes = match event {
            Event::Join => self.join(),
            Event::Vote(ballot) => self.vote(ballot, now),
            Event::Cancel(withdrawal) => self.cancel(withdrawal),
            Event::Revoke(withdrawal) => self.revoke(withdrawal),
            Event::Redeem(attempt) => self.redeem(attempt, now),
            Event::Supersede(..) => self.end_if(
                matches!(self.status, Status::Pending | Status::Approved),
                Status::Superseded,
            ),
            Event::Strand(_) => self.end_if(self.status == Status::Pending, Status::Denied),
            Event::Report {
                caller, outcome, ..
            } => self.report(caller, *outcome),
            Event::Tick => Ok(false),
        };
        if matches!(changes, Ok(true) | Err("Superseded")) {
            self.version += 1;
        }
        changes.map(|_| ())
    }

    fn pass_time(&mut self, now: Timestamp) {
        let is_due = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= now);
        if self.status == Status::Pending && self.expires <= now {
            self.status = Status::Expired;
            self.version += 1;
        }
        if self.status == Status::Approved && self.until <= now {
            self.status = Status::Lapsed;
            self.version += 1;
        }
        for moment in [&mut self.remind_at, &mut self.escalate_at] {
            if self.status == Status::Pending && is_due(*moment) {
                *moment = None;
                self.version += 1;
            }
        }
        if let (Some((at, _)), None) = (&self.redeemed, self.outcome)
            && *at + SignedDuration::from_hours(24) <= now
        {
            self.outcome = Some(ReportedOutcome::Unknown);
            self.version += 1;
        }
    }

    fn end_if(&mut self, may: bool, status: Status) -> Result<bool, &'static str> {
        if !may {
            return Err("AlreadyResolved");
        }
        self.status = status;
        Ok(true)
    }

    fn join(&mut self) -> Result<bool, &'static str> {
        if !matches!(self.status, Status::Pending | Status::Approved) {
            return Err("AlreadyResolved");
        }
        if self.status == Status::Approved {
            return Ok(false);
        }
        self.joined += 1;
        Ok(true)
    }

    fn is_barred(&self, voter: &Voter, said: &Standing) -> bool {
        self.barred.contains(&voter.account)
            || self.barred.contains(&voter.canonical)
            || matches!(said, Standing::Barred(_))
    }

    /// The seats there are that a person may fill.
    fn seats_for(&self, said: &Standing) -> BTreeSet<Seat> {
        let Standing::MayFill(seats) = said else {
            return BTreeSet::new();
        };
        let mut seats = seats.clone();
        seats.retain(|seat| self.seats.contains_key(seat));
        seats
    }

    fn vote(&mut self, ballot: &Ballot, now: Timestamp) -> Result<bool, &'static str> {
        let is_yes = ballot.choice == Choice::Approve;
        let voter = &ballot.voter;
        let is_barred = self.is_barred(voter, &ballot.standing);
        let seats = self.seats_for(&ballot.standing);
        let is_known = |cast: &Cast| cast.account == voter.account || cast.name == voter.canonical;
        match self.status {
            Status::Pending => {}
            Status::Approved if !is_yes => {}
            _ => return Err("AlreadyResolved"),
        }
        if ballot.request_digest != self.digest {
            return Err("OtherRequest");
        }
        if ballot.view_digest != self.view_digest {
            return Err("OtherView");
        }
        if is_barred && is_yes {
            return Err("OwnRequest");
        }
        let takes_back = !is_yes && self.casts.iter().any(|cast| is_known(cast) && cast.is_yes);
        if !is_barred && seats.is_empty() && !takes_back {
            return Err("NotEligible");
        }
        if is_yes && self.casts.iter().any(is_known) {
            return Err("AlreadyVoted");
        }
        self.casts.push(Cast {
            account: voter.account.clone(),
            name: voter.canonical.clone(),
            is_yes,
            seats,
        });
        if !is_yes {
            self.status = match self.status {
                Status::Approved => Status::Revoked,
                _ => Status::Denied,
            };
        } else if self.is_full() {
            self.status = Status::Approved;
            self.until = now + self.redeem_within;
        }
        Ok(true)
    }

    /// While it is open there are only approving votes, one of each person.
    fn is_full(&self) -> bool {
        let persons: Vec<BTreeSet<Seat>> =
            self.casts.iter().map(|cast| cast.seats.clone()).collect();
        can_fill(&self.seats, &persons)
    }

    fn is_requesters_side(&self, withdrawal: &Withdrawal) -> bool {
        match (&withdrawal.by, &withdrawal.standing) {
            (Actor::Caller(caller), _) => caller == CALLER,
            (Actor::Person(voter), Some(said)) => self.is_barred(voter, said),
            (Actor::Person(_), None) | (Actor::System, _) => false,
        }
    }

    fn cancel(&mut self, withdrawal: &Withdrawal) -> Result<bool, &'static str> {
        if self.status != Status::Pending {
            return Err("AlreadyResolved");
        }
        if !self.is_requesters_side(withdrawal) {
            return Err("NotTheRequester");
        }
        self.end_if(true, Status::Cancelled)
    }

    fn revoke(&mut self, withdrawal: &Withdrawal) -> Result<bool, &'static str> {
        match self.status {
            Status::Approved => {}
            Status::Pending => return Err("StillPending"),
            _ => return Err("AlreadyResolved"),
        }
        if !self.is_requesters_side(withdrawal) {
            match (&withdrawal.by, &withdrawal.standing) {
                (Actor::Person(_), Some(said)) if self.seats_for(said).is_empty() => {
                    return Err("NotEligible");
                }
                (Actor::Person(_), Some(_)) => {}
                _ => return Err("NotTheRequester"),
            }
        }
        self.end_if(true, Status::Revoked)
    }

    fn redeem(&mut self, attempt: &RedeemAttempt, now: Timestamp) -> Result<bool, &'static str> {
        if attempt.caller != CALLER {
            return Err("OtherCaller");
        }
        if attempt.digest != self.digest {
            return Err("RequestMismatch");
        }
        if let Some((_, key)) = &self.redeemed {
            return match key.is_some() && *key == attempt.key && self.outcome.is_none() {
                true => Ok(false),
                false => Err("AlreadyRedeemed"),
            };
        }
        match self.status {
            Status::Approved => {}
            Status::Pending => return Err("StillPending"),
            _ => return Err("AlreadyResolved"),
        }
        if !self.is_still_full(attempt) {
            self.status = Status::Superseded;
            return Err("Superseded");
        }
        self.status = Status::Redeemed;
        self.redeemed = Some((now, attempt.key.clone()));
        Ok(true)
    }

    fn is_still_full(&self, attempt: &RedeemAttempt) -> bool {
        let mut persons: BTreeMap<&EntityRef, BTreeSet<Seat>> = BTreeMap::new();
        for cast in &self.casts {
            if let Some((today, Standing::MayFill(seats))) = attempt.standings.get(&cast.name) {
                let mut names = [today, &cast.name, &cast.account].into_iter();
                if !names.any(|name| self.barred.contains(name)) {
                    persons.entry(today).or_default().extend(seats.clone());
                }
            }
        }
        let persons: Vec<BTreeSet<Seat>> = persons.into_values().collect();
        attempt.seats.values().sum::<u32>() > 0 && can_fill(&attempt.seats, &persons)
    }

    fn report(&mut self, caller: &str, outcome: ReportedOutcome) -> Result<bool, &'static str> {
        if caller != CALLER {
            return Err("OtherCaller");
        }
        if self.redeemed.is_none() {
            return Err("NotRedeemed");
        }
        match self.outcome {
            Some(known) if known == outcome => Ok(false),
            Some(known) if known != ReportedOutcome::Unknown => Err("AlreadyReported"),
            Some(_) | None => {
                self.outcome = Some(outcome);
                Ok(true)
            }
        }
    }

    /// Whether what became of the event is what the model expects.
    pub(crate) fn compare(&self, expected: &Answer, found: &Transition) -> Result<(), String> {
        let approval = &found.approval;
        let answer = match &found.answer {
            Ok(()) => Ok(()),
            Err(refusal) => Err(name_of(refusal)),
        };
        if answer != *expected {
            return Err(format!("answered {answer:?}, the model says {expected:?}"));
        }
        let outcome = match &approval.state {
            State::Redeemed { resolution, .. } => resolution.as_ref().map(|known| known.outcome),
            State::Pending | State::Approved(_) | State::Closed(..) => None,
        };
        let is_same = approval.status() == self.status
            && approval.version == self.version
            && approval.joined == self.joined
            && outcome == self.outcome
            && approval.is_escalated() == (self.escalate_at.is_none() && has_escalation(approval))
            && approval.votes.len() == self.casts.len();
        if !is_same {
            return Err(format!(
                "at {} version {}, the model at {} version {}",
                approval.status(),
                approval.version,
                self.status,
                self.version
            ));
        }
        let is_as_cast = approval.votes.iter().zip(&self.casts).all(|(vote, cast)| {
            vote.voter.canonical == cast.name
                && (vote.choice == Choice::Approve) == cast.is_yes
                && (vote.seats == cast.seats || !cast.is_yes)
        });
        match is_as_cast {
            true => Ok(()),
            false => Err("the model counts other votes".to_owned()),
        }
    }
}

fn has_escalation(approval: &Approval) -> bool {
    let mut rules = approval.requirements.iter();
    rules.any(|rule| rule.escalate_after.is_some())
}

fn name_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::AlreadyResolved { .. } => "AlreadyResolved",
        Refusal::StillPending => "StillPending",
        Refusal::AlreadyVoted => "AlreadyVoted",
        Refusal::OwnRequest { .. } => "OwnRequest",
        Refusal::NotEligible { .. } => "NotEligible",
        Refusal::OtherRequest => "OtherRequest",
        Refusal::OtherView => "OtherView",
        Refusal::NotTheRequester => "NotTheRequester",
        Refusal::OtherCaller => "OtherCaller",
        Refusal::RequestMismatch => "RequestMismatch",
        Refusal::AlreadyRedeemed { .. } => "AlreadyRedeemed",
        Refusal::Superseded(_) => "Superseded",
        Refusal::NotRedeemed => "NotRedeemed",
        Refusal::AlreadyReported(_) => "AlreadyReported",
    }
}
