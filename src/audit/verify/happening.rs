//! What may happen to an approval, and when: votes, the use of the grant, and the ways to end.

use std::collections::{BTreeMap, BTreeSet};

use crate::approval::Status;
use crate::approval::quorum::fill;
use crate::audit::proto::{
    Actor, ApprovalWithdrawn, Choice, GrantRedeemed, OutcomeReported, Person, Standing, VoteCast,
    actor, approval_event::What,
};
use crate::model::{EntityRef, Seat};

use super::approvals::{CountedVote, Replayed, Spent, Step, Wrong, entity, seat, seat_counts};
use super::finding::Kind;

/// How long a caller may take to report what became of a redeemed request.
const REPORT_WITHIN_US: i64 = 24 * 3_600 * 1_000_000;

type Checked = Result<(), Wrong>;

fn vote(says: &str) -> Wrong {
    Wrong(Kind::ApprovalVote, says.to_owned())
}

fn redemption(says: &str) -> Wrong {
    Wrong(Kind::ApprovalRedemption, says.to_owned())
}

fn ending(says: &str) -> Wrong {
    Wrong(Kind::ApprovalEnding, says.to_owned())
}

impl Replayed {
    /// Lets a change happen, or says why it cannot.
    pub(super) fn happen(&mut self, step: Step<'_>) -> Checked {
        let what = step.event.what.as_ref();
        let what = what.ok_or_else(|| Wrong::course("a change to it says nothing"))?;
        self.leads_there(step, what)?;
        match what {
            What::Opened(_) => Err(Wrong::course("it is opened a second time")),
            What::Joined(_) => {
                self.joined = self.joined.saturating_add(1);
                self.in_time(step)
            }
            What::Reminded(_) | What::Escalated(_) | What::Superseded(_) | What::Stranded(_) => {
                self.in_time(step)
            }
            What::Voted(cast) => self.vote(step, cast),
            What::Cancelled(said) | What::Revoked(said) => self.withdraw(step, said),
            What::Redeemed(said) => self.redeem(step, said),
            What::Reported(said) => self.report(said),
            What::TimedOut(_) => self.time_out(step),
        }
    }

    /// Whether such a thing leads from where the approval stood to where it stands.
    fn leads_there(&self, step: Step<'_>, what: &What) -> Checked {
        use Status::{
            Approved, Cancelled, Denied, Expired, Lapsed, Pending, Redeemed, Revoked, Superseded,
        };
        let is_fit = match what {
            What::Opened(_) => false,
            What::Joined(_) | What::Reminded(_) | What::Escalated(_) => {
                matches!((self.status, step.to), (Pending, Pending))
            }
            What::Voted(cast) => matches!(
                (cast.choice(), self.status, step.to),
                (Choice::Approve, Pending, Pending | Approved)
                    | (Choice::Deny, Pending, Denied)
                    | (Choice::Deny, Approved, Revoked)
            ),
            What::Cancelled(_) => matches!((self.status, step.to), (Pending, Cancelled)),
            What::Revoked(_) => matches!((self.status, step.to), (Approved, Revoked)),
            What::Redeemed(_) => {
                matches!((self.status, step.to), (Approved, Redeemed | Superseded))
            }
            What::Superseded(_) => {
                matches!((self.status, step.to), (Pending | Approved, Superseded))
            }
            What::Stranded(_) => matches!((self.status, step.to), (Pending, Denied)),
            What::Reported(_) => matches!((self.status, step.to), (Redeemed, Redeemed)),
            What::TimedOut(_) => matches!(
                (self.status, step.to),
                (Pending, Expired) | (Approved, Lapsed) | (Redeemed, Redeemed)
            ),
        };
        let says = || {
            format!(
                "what happened cannot lead from {} to {}",
                self.status, step.to
            )
        };
        is_fit.then_some(()).ok_or_else(|| Wrong::course(says()))
    }

    /// Whether its time had not passed yet.
    fn in_time(&self, step: Step<'_>) -> Checked {
        let deadline = match self.status {
            Status::Pending => Some(self.expires_us),
            Status::Approved => self.redeem_before_us,
            Status::Redeemed
            | Status::Denied
            | Status::Expired
            | Status::Cancelled
            | Status::Superseded
            | Status::Revoked
            | Status::Lapsed => None,
        };
        let is_over = deadline.is_some_and(|deadline| step.at_us >= deadline);
        (!is_over)
            .then_some(())
            .ok_or_else(|| ending("something happened to it after its time had passed"))
    }

    fn vote(&mut self, step: Step<'_>, cast: &VoteCast) -> Checked {
        let checked = self.may_vote(step, cast);
        let voter = cast.voter.clone().unwrap_or_default();
        let is_approve = cast.choice() == Choice::Approve;
        self.votes.push(CountedVote {
            canonical: voter.canonical.as_ref().map_or_else(nobody, entity),
            account: voter.account.as_ref().map_or_else(nobody, entity),
            person: (voter.issuer, voter.subject),
            is_approve,
            at_us: step.at_us,
            seats: self.seats_in(cast.standing.as_ref()),
        });
        let counted = self.quorum(step, is_approve);
        checked.and(counted)
    }

    /// Whether the votes fill the seats exactly if it was granted.
    fn quorum(&mut self, step: Step<'_>, is_approve: bool) -> Checked {
        if !is_approve {
            return Ok(());
        }
        let approving = self.approving();
        let persons: Vec<&BTreeSet<Seat>> = approving.iter().map(|vote| &vote.seats).collect();
        let is_full = fill(&self.seats, &persons).is_full();
        if step.to == Status::Approved {
            self.redeem_before_us = Some(step.at_us.saturating_add(self.redeem_within_us));
        }
        let says = match (is_full, step.to) {
            (false, Status::Approved) => "it was granted although its votes do not fill the quorum",
            (true, Status::Pending) => "it was not granted although its votes fill the quorum",
            _ => return Ok(()),
        };
        Err(Wrong(Kind::ApprovalQuorum, says.to_owned()))
    }

    fn may_vote(&self, step: Step<'_>, cast: &VoteCast) -> Checked {
        self.in_time(step)
            .map_err(|_| vote("a vote counts that came too late"))?;
        if cast.request_digest != self.digest || cast.view_digest != self.view_digest {
            return Err(vote("a vote counts that was cast on something else"));
        }
        let voter = cast.voter.as_ref();
        let voter = voter.ok_or_else(|| vote("a vote of nobody counts"))?;
        let (Some(account), Some(canonical)) = (&voter.account, &voter.canonical) else {
            return Err(vote("a vote of somebody without an account counts"));
        };
        let names = [entity(account), entity(canonical)];
        let earlier = self.earlier_choice(voter, &names);
        let standing = cast.standing.clone().unwrap_or_default();
        let is_barred =
            names.iter().any(|name| self.is_barred(name)) || !standing.barred.is_empty();
        let fills = !self.seats_in(Some(&standing)).is_empty();
        match (cast.choice(), earlier) {
            (Choice::Unspecified, _) => Err(vote("a vote counts that says neither yes nor no")),
            (_, Some(false)) | (Choice::Approve, Some(true)) => {
                Err(vote("a second vote of the same person counts"))
            }
            (Choice::Approve, None) if is_barred => {
                Err(vote("a vote of the requester's side counts"))
            }
            (Choice::Approve, None) if !fills => {
                Err(vote("a vote counts of somebody who may not approve"))
            }
            (Choice::Deny, None) if !is_barred && !fills => {
                Err(vote("a vote counts of somebody who may not vote"))
            }
            (Choice::Approve | Choice::Deny, _) => Ok(()),
        }
    }

    /// What the same person said before, under whatever name: yes or no.
    fn earlier_choice(
        &self,
        voter: &Person,
        [account, canonical]: &[EntityRef; 2],
    ) -> Option<bool> {
        let is_same = |vote: &&CountedVote| {
            let (issuer, subject) = &vote.person;
            vote.account == *account
                || vote.canonical == *canonical
                || (*issuer == voter.issuer && *subject == voter.subject)
        };
        self.votes
            .iter()
            .rev()
            .find(is_same)
            .map(|vote| vote.is_approve)
    }

    /// The seats of this approval that somebody may fill.
    fn seats_in(&self, standing: Option<&Standing>) -> BTreeSet<Seat> {
        let seats = standing.into_iter().flat_map(|standing| &standing.seats);
        seats
            .map(seat)
            .filter(|seat| self.seats.contains_key(seat))
            .collect()
    }

    /// Gives up, or takes the grant back: the caller who asked, somebody of the requester's side, or a reviewer.
    fn withdraw(&mut self, step: Step<'_>, said: &ApprovalWithdrawn) -> Checked {
        self.in_time(step)?;
        let is_fit = match said.by.as_ref().and_then(|Actor { kind }| kind.as_ref()) {
            Some(actor::Kind::Caller(caller)) => *caller == self.caller,
            Some(actor::Kind::Person(person)) => {
                self.may_withdraw(step, person, said.standing.as_ref())
            }
            Some(actor::Kind::System(_)) | None => false,
        };
        is_fit
            .then_some(())
            .ok_or_else(|| ending("it was given up or taken back by somebody who may not"))
    }

    fn may_withdraw(&self, step: Step<'_>, person: &Person, standing: Option<&Standing>) -> bool {
        let names = [&person.account, &person.canonical];
        let mut names = names.into_iter().flatten().map(entity);
        let is_barred = names.any(|name| self.is_barred(&name))
            || standing.is_some_and(|said| !said.barred.is_empty());
        let may_approve = step.to == Status::Revoked && !self.seats_in(standing).is_empty();
        is_barred || may_approve
    }

    fn redeem(&mut self, step: Step<'_>, said: &GrantRedeemed) -> Checked {
        let checked = self.may_redeem(step, said);
        if step.to == Status::Redeemed {
            self.spent = Some(Spent {
                decision_id: said.decision_id.clone(),
                digest: said.request_digest.clone(),
                caller: said.caller.clone(),
                key: said.request_id.clone(),
                at_us: step.at_us,
                has_decision: false,
            });
        }
        checked
    }

    fn may_redeem(&self, step: Step<'_>, said: &GrantRedeemed) -> Checked {
        self.in_time(step)
            .map_err(|_| redemption("its grant was spent too late"))?;
        if said.caller != self.caller {
            return Err(redemption("its grant was spent by another caller"));
        }
        if said.request_digest != self.digest {
            return Err(redemption("its grant was spent for another request"));
        }
        let is_spent = step.to == Status::Redeemed;
        if is_spent && said.decision_id.len() != 16 {
            return Err(redemption("its grant was spent by no decision"));
        }
        if is_spent != self.still_fulfilled(said) {
            return Err(redemption(if is_spent {
                "its grant was spent although those who approved may not approve any more"
            } else {
                "its grant was refused although those who approved still may"
            }));
        }
        Ok(())
    }

    /// Whether those who approved still may, each as another person.
    fn still_fulfilled(&self, said: &GrantRedeemed) -> bool {
        let wanted = seat_counts(&said.seats).collect();
        let standings = said.standings.iter().filter_map(|each| {
            let (voter, person) = (each.voter.as_ref()?, each.canonical.as_ref()?);
            Some((entity(voter), (entity(person), each.standing.as_ref()?)))
        });
        let standings: BTreeMap<EntityRef, (EntityRef, &Standing)> = standings.collect();
        let mut persons: BTreeMap<&EntityRef, BTreeSet<Seat>> = BTreeMap::new();
        for vote in self.approving() {
            let Some((person, standing)) = standings.get(&vote.canonical) else {
                continue;
            };
            let names = [&vote.canonical, &vote.account, person];
            if names.into_iter().any(|name| self.is_barred(name)) || !standing.barred.is_empty() {
                continue;
            }
            persons
                .entry(person)
                .or_default()
                .extend(standing.seats.iter().map(seat));
        }
        let persons: Vec<&BTreeSet<Seat>> = persons.values().collect();
        let is_asked = said.seats.iter().any(|each| each.count > 0);
        is_asked && fill(&wanted, &persons).is_full()
    }

    fn report(&mut self, said: &OutcomeReported) -> Checked {
        let is_open = self
            .reported
            .as_deref()
            .is_none_or(|before| before == "UNKNOWN");
        let is_fit = said.caller == self.caller && is_open;
        self.reported = Some(said.outcome.clone());
        is_fit.then_some(()).ok_or_else(|| {
            ending("what became of it was reported by another caller, or a second time")
        })
    }

    fn time_out(&mut self, step: Step<'_>) -> Checked {
        let due = match self.status {
            Status::Pending => Some(self.expires_us),
            Status::Approved => self.redeem_before_us,
            Status::Redeemed if self.reported.is_none() => {
                self.reported = Some("UNKNOWN".to_owned());
                self.spent
                    .as_ref()
                    .map(|spent| spent.at_us.saturating_add(REPORT_WITHIN_US))
            }
            Status::Redeemed
            | Status::Denied
            | Status::Expired
            | Status::Cancelled
            | Status::Superseded
            | Status::Revoked
            | Status::Lapsed => None,
        };
        due.is_some_and(|due| step.at_us >= due)
            .then_some(())
            .ok_or_else(|| ending("its time had not passed when it was ended by time"))
    }
}

fn nobody() -> EntityRef {
    EntityRef::new("", "")
}
