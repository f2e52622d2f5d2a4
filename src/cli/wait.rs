//! `countersign authorize --wait`: asks, waits for the humans, asks again with their approval.

use std::ops::ControlFlow;

use crate::grpc::proto::authorization_service_client::AuthorizationServiceClient;
use crate::grpc::proto::{Approval, ApprovalStatus, AuthorizeRequest, AuthorizeResponse, Decision};

use super::approvals::{Session, WallClock, follow, fresh_key, twice, version_line};
use super::decide::refusal;
use super::dial::Dialled;
use super::output::{say, visible_line};

/// The answer to `request` once humans have decided, if they must.
///
/// Never acts on how an approval stands: only the second answer says whether the request may run.
pub(super) async fn authorize(
    dialled: Dialled,
    mut request: AuthorizeRequest,
) -> anyhow::Result<AuthorizeResponse> {
    if request.request_id.is_empty() {
        // What is repeated after a lost answer must not redeem twice.
        request.request_id = fresh_key();
    }
    let answer = ask(&dialled, &request).await?;
    let Some(approval) = to_wait_for(&answer) else {
        return Ok(answer);
    };
    request.approval_id.clone_from(&approval.id);
    if approval.status() == ApprovalStatus::Pending {
        say(&format!(
            "waiting for approval {}",
            visible_line(&approval.id)
        ));
        let session = Session::new(dialled.clone());
        follow(&session, &approval.id, |approval| {
            say(&version_line(approval, &WallClock::here()));
            if approval.status() == ApprovalStatus::Pending {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .await?;
    }
    ask(&dialled, &request).await
}

async fn ask(dialled: &Dialled, request: &AuthorizeRequest) -> anyhow::Result<AuthorizeResponse> {
    let answer = twice(|| {
        let mut client = AuthorizationServiceClient::new(dialled.channel.clone());
        let request = dialled.request(request.clone());
        async move { client.authorize(request).await }
    });
    answer.await.map_err(|status| refusal(&status))
}

/// The approval that the answer waits for; none if it is final, or if the server keeps no approvals.
fn to_wait_for(answer: &AuthorizeResponse) -> Option<&Approval> {
    let approval = answer.approval.as_deref();
    approval.filter(|approval| {
        answer.decision() == Decision::RequireApproval && !approval.id.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(decision: Decision, id: &str) -> AuthorizeResponse {
        AuthorizeResponse {
            decision: decision.into(),
            approval: Some(Box::new(Approval {
                id: id.to_owned(),
                ..Approval::default()
            })),
            ..AuthorizeResponse::default()
        }
    }

    #[test]
    fn only_an_open_approval_is_waited_for() {
        assert!(to_wait_for(&answer(Decision::RequireApproval, "a")).is_some());
        assert!(to_wait_for(&answer(Decision::RequireApproval, "")).is_none());
        assert!(to_wait_for(&answer(Decision::Allow, "a")).is_none());
        assert!(to_wait_for(&answer(Decision::Deny, "a")).is_none());
    }
}
