//! Casts a person's vote.

use crate::approval::{
    Approval, ApprovalId, Ballot, Choice, Digest, Event, Person, Refusal, Status,
};
use crate::usecase::approval_store::{ApplyCommand, CommandKey};

use super::error::fulfilled;
use super::keys::{Owner, key, payload};
use super::standing::{Question, apart, standing_of};
use super::{Approvals, ApprovalsError};

/// A vote on its way.
#[derive(Clone, Debug)]
pub struct CastVote {
    /// The approval.
    pub id: ApprovalId,
    /// Who votes, as authenticated.
    pub person: Person,
    /// The way the vote came, such as `api`.
    pub channel: &'static str,
    /// Yes or no.
    pub choice: Choice,
    /// The digest of the request the voter was shown.
    pub request_digest: Digest,
    /// The digest of what the voter was shown.
    pub view_digest: Digest,
    /// What the voter says.
    pub comment: Option<String>,
    /// The idempotency key.
    pub request_id: Option<String>,
}

/// The approval after a vote.
#[derive(Clone, Debug)]
pub struct Voted {
    /// The approval.
    pub approval: Approval,
    /// Whether the vote was counted. If not, the approval already stood as the voter wished.
    pub is_counted: bool,
}

impl Approvals {
    /// Casts a vote: policy and floors are asked for the voter now, and the state machine counts.
    ///
    /// # Errors
    /// Why it was not counted; [`ApprovalsError::Refused`] carries the approval as it is.
    pub async fn vote(&self, cast: CastVote) -> Result<Voted, ApprovalsError> {
        let active = self.in_force()?;
        let approval = self.existing(&cast.id).await?;
        let now = self.clock.now();
        let voter = self
            .directory
            .voter(&active.snapshot, &cast.person, cast.channel);
        let question = Question::of(&approval, &active, now);
        let account = voter.account.clone();
        let standing = apart(&active.snapshot, move |snapshot| {
            standing_of(snapshot, &question, &account)
        })
        .await?;
        let key = vote_key(&cast);
        let ballot = Ballot {
            voter,
            choice: cast.choice,
            standing,
            policy_version: active.snapshot.version().clone(),
            request_digest: cast.request_digest,
            view_digest: cast.view_digest,
            comment: cast.comment,
        };
        let event = Event::Vote(Box::new(ballot));
        let command = ApplyCommand {
            id: cast.id.clone(),
            event,
            version: None,
            key,
        };
        let applied = self.apply(command).await?;
        match fulfilled(&cast.id, applied) {
            Ok(approval) => Ok(Voted {
                approval,
                is_counted: true,
            }),
            Err(ApprovalsError::Refused(approval, refusal))
                if is_as_wished(cast.choice, &refusal) =>
            {
                Ok(Voted {
                    approval: *approval,
                    is_counted: false,
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether whoever came too late finds what they wished for.
fn is_as_wished(choice: Choice, refusal: &Refusal) -> bool {
    let Refusal::AlreadyResolved { status, .. } = refusal else {
        return false;
    };
    match choice {
        Choice::Approve => matches!(status, Status::Approved | Status::Redeemed),
        Choice::Deny => matches!(status, Status::Denied | Status::Revoked),
    }
}

fn vote_key(cast: &CastVote) -> Option<CommandKey> {
    let digests = [cast.request_digest, cast.view_digest].map(|digest| digest.to_string());
    let [request, view] = &digests;
    let payload = payload(&[
        Some(cast.id.as_str()),
        Some(cast.choice.as_str()),
        Some(request),
        Some(view),
        cast.comment.as_deref(),
    ]);
    key(
        &Owner::Person(&cast.person),
        "vote",
        cast.request_id.clone(),
        payload,
    )
}
