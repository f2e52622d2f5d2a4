//! Spends a grant, once.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{EntityRef, Seat};

use super::closed::{Cause, Status};
use super::event::{Actor, RedeemAttempt, Refusal, Standing};
use super::quorum::fill;
use super::state::{Approval, Redemption, State};
use super::transition::Course;

impl Course {
    pub(super) fn redeem(&mut self, attempt: &RedeemAttempt) -> Result<(), Refusal> {
        let asked = &self.approval.asked;
        if attempt.caller != asked.request.caller {
            return Err(Refusal::OtherCaller);
        }
        if attempt.digest != asked.digest {
            return Err(Refusal::RequestMismatch);
        }
        let grant = match &self.approval.state {
            State::Pending => return Err(Refusal::StillPending),
            // A lost answer is given again, until the caller has said what became of the request, or should have.
            State::Redeemed {
                redemption,
                resolution: None,
                ..
            } if attempt.key.is_some() && redemption.key == attempt.key => return Ok(()),
            State::Redeemed { redemption, .. } => {
                return Err(Refusal::AlreadyRedeemed { at: redemption.at });
            }
            State::Closed(..) => return Err(self.already_resolved()),
            State::Approved(grant) => grant.clone(),
        };
        if let Err(cause) = still_fulfilled(&self.approval, attempt) {
            self.close(Status::Superseded, Actor::System, Some(cause), None);
            return Err(Refusal::Superseded(cause));
        }
        let redemption = Redemption {
            at: self.now,
            decision_id: attempt.decision_id.clone(),
            key: attempt.key.clone(),
            caller: attempt.caller.clone(),
            policy_version: attempt.policy_version.clone(),
        };
        self.become_state(State::Redeemed {
            grant,
            redemption,
            resolution: None,
        });
        Ok(())
    }
}

/// Whether the votes still do what the policies ask for now: each by somebody who may still approve, and each by another person.
fn still_fulfilled(approval: &Approval, attempt: &RedeemAttempt) -> Result<(), Cause> {
    let is_barred = |account: &EntityRef| approval.asked.bars(account).is_some();
    let mut persons: BTreeMap<&EntityRef, BTreeSet<Seat>> = BTreeMap::new();
    let mut lost = false;
    for vote in approval.approving_votes() {
        let voter = &vote.voter;
        let was_barred = is_barred(&voter.canonical) || is_barred(&voter.account);
        match attempt.standings.get(&voter.canonical) {
            Some((person, Standing::MayFill(seats))) if !was_barred && !is_barred(person) => {
                let known = persons.entry(person).or_default();
                // Two accounts that turn out to be one person are one vote.
                lost |= !known.is_empty();
                known.extend(seats.iter().cloned());
            }
            Some(_) | None => lost = true,
        }
    }
    let persons: Vec<&BTreeSet<Seat>> = persons.values().collect();
    // A requirement of nothing is no requirement: in doubt it is not fulfilled.
    if attempt.seats.values().any(|count| *count > 0) && fill(&attempt.seats, &persons).is_full() {
        return Ok(());
    }
    Err(if lost {
        Cause::ApproverIneligible
    } else {
        Cause::RequirementStronger
    })
}
