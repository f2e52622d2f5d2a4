//! Approvals on the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::approval::{
    Approval, Cause, Choice, Closed, Fact, FrozenRequirement, Reason, ReportedOutcome, SafeText,
    State, Status, View, Vote,
};
use crate::model::Seat;
use crate::usecase::approval_store::DeliveryState;
use crate::usecase::approvals::{ApprovalDetails, Reviewers};

use super::convert::timestamp;
use super::proto;

/// How soon reading a pending approval again makes sense.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// An approval without what is kept beside it, as of the moment it was written.
pub(super) fn summary(approval: &Approval) -> proto::Approval {
    let status = approval.status();
    let (cause, closing) = closing(&approval.state);
    proto::Approval {
        id: approval.id.to_string(),
        requirements: approval.requirements.iter().map(requirement).collect(),
        status: status_of(status).into(),
        cause: cause
            .map_or(proto::ApprovalCause::Unspecified, cause_of)
            .into(),
        version: approval.version,
        request_digest: approval.asked.digest.to_string(),
        view_digest: approval.asked.view_digest.to_string(),
        view: Some(view(&approval.asked.view)),
        policy_version: approval.asked.policy_version.to_string(),
        open_time: Some(timestamp(approval.opened)),
        expire_time: Some(timestamp(approval.expires)),
        redeem_before_time: approval.redeem_before().map(timestamp),
        votes: approval.votes.iter().map(vote).collect(),
        missing: approval.progress().missing.iter().map(seat).collect(),
        joined: approval.joined,
        closing,
        redemption: redemption(&approval.state),
        failed_notifications: Vec::new(),
        escalate_time: approval.timers.escalated.map(timestamp),
        poll_interval: (!status.is_terminal())
            .then_some(POLL_INTERVAL)
            .and_then(duration),
    }
}

/// An approval as it stands at `now`: a deadline counts although nobody has written it down yet.
pub(super) fn at(approval: &Approval, now: Timestamp) -> proto::Approval {
    proto::Approval {
        status: status_of(approval.status_at(now)).into(),
        ..summary(approval)
    }
}

/// An approval with the places that could not be told.
pub(super) fn details(details: &ApprovalDetails) -> proto::Approval {
    proto::Approval {
        failed_notifications: details.failed.iter().map(failed).collect(),
        ..at(&details.approval, details.now)
    }
}

fn failed(delivery: &DeliveryState) -> proto::FailedNotification {
    proto::FailedNotification {
        destination: delivery.destination.clone(),
        error: delivery.error.clone().unwrap_or_default(),
        given_up: delivery.is_dead,
    }
}

/// Where an approval stands, on the wire.
pub(super) fn status_of(status: Status) -> proto::ApprovalStatus {
    match status {
        Status::Pending => proto::ApprovalStatus::Pending,
        Status::Approved => proto::ApprovalStatus::Approved,
        Status::Redeemed => proto::ApprovalStatus::Redeemed,
        Status::Denied => proto::ApprovalStatus::Denied,
        Status::Expired => proto::ApprovalStatus::Expired,
        Status::Cancelled => proto::ApprovalStatus::Cancelled,
        Status::Superseded => proto::ApprovalStatus::Superseded,
        Status::Revoked => proto::ApprovalStatus::Revoked,
        Status::Lapsed => proto::ApprovalStatus::Lapsed,
    }
}

/// Where an approval stands, from the wire; none for what says nothing.
pub(super) fn status_from(status: proto::ApprovalStatus) -> Option<Status> {
    Status::ALL
        .into_iter()
        .find(|known| status_of(*known) == status)
}

fn cause_of(cause: Cause) -> proto::ApprovalCause {
    match cause {
        Cause::Veto => proto::ApprovalCause::Veto,
        Cause::UnreachableQuorum => proto::ApprovalCause::UnreachableQuorum,
        Cause::PolicyNowDenies => proto::ApprovalCause::PolicyNowDenies,
        Cause::RequirementStronger => proto::ApprovalCause::RequirementStronger,
        Cause::ApproverIneligible => proto::ApprovalCause::ApproverIneligible,
    }
}

/// What became of a request, on the wire.
fn outcome_of(outcome: ReportedOutcome) -> proto::ApprovalOutcome {
    match outcome {
        ReportedOutcome::Succeeded => proto::ApprovalOutcome::Succeeded,
        ReportedOutcome::Failed => proto::ApprovalOutcome::Failed,
        ReportedOutcome::Unknown => proto::ApprovalOutcome::Unknown,
    }
}

/// What became of a request, from the wire; none for what says nothing.
pub(super) fn outcome_from(outcome: proto::ApprovalOutcome) -> Option<ReportedOutcome> {
    let known = [
        ReportedOutcome::Succeeded,
        ReportedOutcome::Failed,
        ReportedOutcome::Unknown,
    ];
    known
        .into_iter()
        .find(|known| outcome_of(*known) == outcome)
}

fn choice_of(choice: Choice) -> proto::VoteChoice {
    match choice {
        Choice::Approve => proto::VoteChoice::Approve,
        Choice::Deny => proto::VoteChoice::Deny,
    }
}

fn closing(state: &State) -> (Option<Cause>, Option<proto::ApprovalClosing>) {
    let State::Closed(
        _,
        Closed {
            at,
            by,
            cause,
            comment,
        },
    ) = state
    else {
        return (None, None);
    };
    let closing = proto::ApprovalClosing {
        close_time: Some(timestamp(*at)),
        by: SafeText::of(&by.to_string()).as_str().to_owned(),
        comment: safe_lines(comment.as_deref()),
    };
    (*cause, Some(closing))
}

fn safe_lines(text: Option<&str>) -> String {
    text.map(|text| SafeText::lines_of(text).as_str().to_owned())
        .unwrap_or_default()
}

fn redemption(state: &State) -> Option<proto::ApprovalRedemption> {
    let State::Redeemed {
        redemption,
        resolution,
        ..
    } = state
    else {
        return None;
    };
    let outcome = resolution
        .as_ref()
        .map(|resolution| outcome_of(resolution.outcome));
    Some(proto::ApprovalRedemption {
        redeem_time: Some(timestamp(redemption.at)),
        decision_id: redemption.decision_id.clone(),
        outcome: outcome
            .unwrap_or(proto::ApprovalOutcome::Unspecified)
            .into(),
        detail: safe_lines(
            resolution
                .as_ref()
                .and_then(|resolution| resolution.detail.as_deref()),
        ),
    })
}

/// What one rule asks for.
pub(super) fn requirement(requirement: &FrozenRequirement) -> proto::ApprovalRequirement {
    let named = requirement
        .seats
        .iter()
        .filter(|(seat, _)| !seat.slot.is_empty());
    let slots: BTreeMap<String, u32> = named
        .map(|(seat, count)| (seat.slot.clone(), *count))
        .collect();
    let persons = requirement.seats.iter().map(|(_, count)| *count);
    proto::ApprovalRequirement {
        rule: requirement.rule.clone(),
        title: requirement.title.clone(),
        approvals: persons.fold(0, u32::saturating_add),
        slots,
        expires_after: duration(requirement.expires_after),
        redeem_within: duration(requirement.redeem_within),
        require: requirement.require.clone(),
        gates: requirement.gates.clone(),
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn seat((seat, count): (&Seat, &u32)) -> proto::ApprovalSeat {
    proto::ApprovalSeat {
        rule: seat.rule.clone(),
        slot: seat.slot.clone(),
        count: *count,
    }
}

fn vote(vote: &Vote) -> proto::ApprovalVote {
    let voter = &vote.voter;
    proto::ApprovalVote {
        person: Some(proto::Person {
            issuer: voter.person.issuer.clone(),
            subject: voter.person.subject.clone(),
            account: SafeText::of(&voter.account.to_string()).as_str().to_owned(),
        }),
        choice: choice_of(vote.choice).into(),
        vote_time: Some(timestamp(vote.at)),
        comment: safe_lines(vote.comment.as_deref()),
        seats: vote.seats.iter().map(ToString::to_string).collect(),
        channel: voter.channel.clone(),
    }
}

fn view(view: &View) -> proto::ApprovalView {
    let text = |text: &SafeText| text.as_str().to_owned();
    let fact = |fact: &Fact| proto::ApprovalFact {
        name: text(&fact.name),
        value: text(&fact.value),
    };
    let reason = |reason: &Reason| proto::ApprovalReason {
        title: text(&reason.title),
        policy: text(&reason.policy),
        sentence: text(&reason.sentence),
    };
    proto::ApprovalView {
        headline: text(&view.headline),
        requester: text(&view.requester),
        on_behalf_of: view.on_behalf_of.iter().map(text).collect(),
        requesters_side: view.requesters_side.iter().map(fact).collect(),
        action: text(&view.action),
        resource: text(&view.resource),
        facts: view.facts.iter().map(fact).collect(),
        described: view.described.iter().map(fact).collect(),
        reasons: view.reasons.iter().map(reason).collect(),
        justification: view.justification.as_ref().map(text).unwrap_or_default(),
        grants: view.grants.clone(),
        mixed_scripts: view.mixes_scripts(),
    }
}

/// Who could approve.
pub(super) fn reviewers(reviewers: &Reviewers) -> proto::ListReviewersResponse {
    let each = reviewers.reviewers.iter().map(|reviewer| proto::Reviewer {
        account: SafeText::of(&reviewer.reviewer.to_string())
            .as_str()
            .to_owned(),
        seats: reviewer.seats.iter().map(ToString::to_string).collect(),
        has_voted: reviewers.has_voted(reviewer),
    });
    proto::ListReviewersResponse {
        reviewers: each.collect(),
        can_be_fulfilled: reviewers.is_enough,
    }
}
