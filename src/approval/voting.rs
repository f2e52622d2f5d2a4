//! Counts votes.
//!
//! INVARIANT (one-human-one-vote): a human is known again by account, by person and by the one name policies give them.

use std::collections::BTreeSet;

use crate::model::{EntityRef, Seat};

use super::closed::{Cause, Status};
use super::event::{Actor, Ballot, Choice, Refusal, Standing};
use super::state::{Grant, State, Vote, after};
use super::transition::Course;

impl Course {
    pub(super) fn vote(&mut self, ballot: &Ballot) -> Result<(), Refusal> {
        let status = self.approval.status();
        let is_open = status == Status::Pending
            || (status == Status::Approved && ballot.choice == Choice::Deny);
        if !is_open {
            return Err(self.already_resolved());
        }
        let asked = &self.approval.asked;
        if ballot.request_digest != asked.digest {
            return Err(Refusal::OtherRequest);
        }
        if ballot.view_digest != asked.view_digest {
            return Err(Refusal::OtherView);
        }
        let earlier = self.earlier_choice(ballot);
        let standing = self.standing(
            &ballot.voter.account,
            &ballot.voter.canonical,
            &ballot.standing,
        );
        let seats = match (ballot.choice, standing) {
            (_, Standing::MayFill(seats)) => seats,
            (Choice::Approve, Standing::Barred(why)) => return Err(Refusal::OwnRequest { why }),
            (Choice::Deny, Standing::Barred(_)) => BTreeSet::new(),
            // Whoever said yes may take it back, whatever policy says of them by now.
            (Choice::Deny, Standing::NotEligible(_)) if earlier == Some(Choice::Approve) => {
                BTreeSet::new()
            }
            (_, Standing::NotEligible(why)) => return Err(Refusal::NotEligible { why }),
        };
        match (earlier, ballot.choice) {
            (None, _) | (Some(Choice::Approve), Choice::Deny) => {}
            (Some(Choice::Approve | Choice::Deny), _) => return Err(Refusal::AlreadyVoted),
        }
        self.count(ballot, seats);
        Ok(())
    }

    /// What the same human said before, under whatever name.
    fn earlier_choice(&self, ballot: &Ballot) -> Option<Choice> {
        let votes = self.approval.votes.iter().rev();
        let mut same = votes.filter(|vote| vote.voter.is_same_human(&ballot.voter));
        same.next().map(|vote| vote.choice)
    }

    /// What a person may do: what policy says, below the floor that was laid when the approval was opened.
    pub(super) fn standing(
        &self,
        account: &EntityRef,
        canonical: &EntityRef,
        said: &Standing,
    ) -> Standing {
        let member = [account, canonical]
            .into_iter()
            .find_map(|name| Some((name, self.approval.asked.bars(name)?)));
        if let Some((member, why)) = member {
            return Standing::Barred(format!("`{member}` {why}"));
        }
        match said {
            Standing::MayFill(seats) => {
                let wanted = self.approval.seats();
                let seats: BTreeSet<Seat> = seats
                    .iter()
                    .filter(|seat| wanted.contains_key(*seat))
                    .cloned()
                    .collect();
                if seats.is_empty() {
                    return Standing::NotEligible("this person fills none of the seats".to_owned());
                }
                Standing::MayFill(seats)
            }
            Standing::Barred(_) | Standing::NotEligible(_) => said.clone(),
        }
    }

    fn count(&mut self, ballot: &Ballot, seats: BTreeSet<Seat>) {
        let now = self.now;
        let was_approved = self.approval.status() == Status::Approved;
        self.approval.votes.push(Vote {
            voter: ballot.voter.clone(),
            choice: ballot.choice,
            seats,
            at: now,
            policy_version: ballot.policy_version.clone(),
            request_digest: ballot.request_digest,
            view_digest: ballot.view_digest,
            comment: ballot.comment.clone(),
        });
        self.is_changed = true;
        match ballot.choice {
            Choice::Deny => {
                let status = if was_approved {
                    Status::Revoked
                } else {
                    Status::Denied
                };
                let by = Actor::Person(ballot.voter.clone());
                self.close(status, by, Some(Cause::Veto), ballot.comment.clone());
            }
            Choice::Approve if self.approval.progress().is_full() => {
                let until = after(now, self.approval.redeem_within());
                self.become_state(State::Approved(Grant { since: now, until }));
            }
            Choice::Approve => {}
        }
    }
}
