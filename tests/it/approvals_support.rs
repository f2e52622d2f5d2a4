//! What the tests of approvals share: requests that require some, and the calls of those who ask and of those who vote.

use countersign::config::Config;
use countersign::grpc::proto::approval_service_client::ApprovalServiceClient;
use countersign::grpc::proto::{
    Approval, ApprovalStatus, AuthorizeRequest, AuthorizeResponse, Decision, GetApprovalRequest,
    ListApprovalsRequest, ListApprovalsResponse, VoteChoice, VoteRequest, VoteResponse,
    WatchApprovalRequest, WatchApprovalResponse,
};
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::folder::Folder;
use crate::harness::{LIMIT, Pdp, Refusal};
use crate::requests::{agent_deployment, ask, role_grant};

/// An agent starts `count` machines in production: one of the finance people, `fiona` or `felix`, must approve. The agent is `ada`'s.
pub(crate) fn start_in_prod(count: u32) -> AuthorizeRequest {
    ask(&json!({
        "principal": { "type": "Agent", "id": "capacity-bot" },
        "action": "StartInstances",
        "resource": { "type": "Environment", "id": "prod" },
        "context": {
            "instance_type": "t3.small", "count": count, "hourly_cost_cents": 4,
            "region": "eu-central-1", "public_ip": false,
        },
    }))
}

/// An agent deploys to production: two of `sam`, `yuki` and `sam-admin` must approve. The agent is `sofia`'s.
pub(crate) fn deployment() -> AuthorizeRequest {
    AuthorizeRequest {
        justification: "Fixes the crash of the payments page.".to_owned(),
        ..agent_deployment()
    }
}

/// An agent gives a role: `omar` or `priya` must approve, and `webhook:soc` is told.
pub(crate) fn grant() -> AuthorizeRequest {
    AuthorizeRequest {
        justification: "Lee is on call tonight.".to_owned(),
        ..role_grant()
    }
}

/// The sample policies, where a grant of a role is told to `webhook:soc` and nobody else.
pub(crate) fn told_to_soc() -> Folder {
    let folder = Folder::sample();
    folder.edit(
        "approvals.toml",
        "notify        = [\"teams:security\", \"webhook:soc\"]",
        "notify        = [\"webhook:soc\"]",
    );
    folder
}

/// The sample policies, where a start of machines waits for a second and no longer.
pub(crate) fn impatient() -> Folder {
    let folder = Folder::sample();
    let rule = |time: &str| {
        format!(
            "expires_after = \"{time}\"\nredeem_within = \"10m\"\nnotify        = [\"slack:#cloud-spend\"]"
        )
    };
    folder.edit("approvals.toml", &rule("30m"), &rule("1s"));
    folder
}

pub(crate) fn with_key(key: &str, request: AuthorizeRequest) -> AuthorizeRequest {
    AuthorizeRequest {
        request_id: key.to_owned(),
        ..request
    }
}

/// The same request again, now to redeem.
pub(crate) fn redeeming(approval: &Approval, request: AuthorizeRequest) -> AuthorizeRequest {
    AuthorizeRequest {
        approval_id: approval.id.clone(),
        ..request
    }
}

/// A vote on what `approval` shows.
pub(crate) fn ballot(approval: &Approval, choice: VoteChoice) -> VoteRequest {
    VoteRequest {
        id: approval.id.clone(),
        choice: choice.into(),
        request_digest: approval.request_digest.clone(),
        view_digest: approval.view_digest.clone(),
        ..VoteRequest::default()
    }
}

/// A call with what it carries in `authorization`.
pub(crate) fn with_authorization<T>(authorization: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", authorization.parse().unwrap());
    request
}

/// A call by the person called `name`.
pub(crate) fn by<T>(name: &str, message: T) -> Request<T> {
    with_authorization(&format!("Bearer development:{name}"), message)
}

impl Pdp {
    /// Serves the sample policies, and keeps approvals.
    pub(crate) fn keeping() -> Self {
        Self::keeping_with(|_| {})
    }

    /// The same with a configuration of its own.
    pub(crate) fn keeping_with(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::try_keep(Folder::sample(), adjust).unwrap()
    }

    pub(crate) fn approvals(&self) -> ApprovalServiceClient<Channel> {
        ApprovalServiceClient::new(self.channel())
    }

    /// Asks, and answers what must be approved.
    pub(crate) fn open(&self, request: AuthorizeRequest) -> Approval {
        let response = self.authorize(request).unwrap();
        assert_eq!(
            response.decision(),
            Decision::RequireApproval,
            "{response:?}"
        );
        let approval = *response.approval.unwrap();
        assert!(!approval.id.is_empty(), "{approval:?}");
        approval
    }

    pub(crate) fn get(&self, id: &str) -> Result<Approval, Refusal> {
        let request = GetApprovalRequest { id: id.to_owned() };
        self.wait(async {
            let response = self.approvals().get_approval(request).await?.into_inner();
            Ok(response.approval.unwrap())
        })
    }

    pub(crate) fn list(
        &self,
        request: ListApprovalsRequest,
    ) -> Result<ListApprovalsResponse, Refusal> {
        self.wait(async { Ok(self.approvals().list_approvals(request).await?.into_inner()) })
    }

    pub(crate) fn cast(&self, request: Request<VoteRequest>) -> Result<VoteResponse, Refusal> {
        self.wait(async { Ok(self.approvals().vote(request).await?.into_inner()) })
    }

    /// The approval after `name` approved it.
    pub(crate) fn approve(&self, name: &str, approval: &Approval) -> Approval {
        let voted = self
            .cast(by(name, ballot(approval, VoteChoice::Approve)))
            .unwrap();
        assert!(voted.counted, "{voted:?}");
        voted.approval.unwrap()
    }

    pub(crate) fn redeem(
        &self,
        approval: &Approval,
        request: AuthorizeRequest,
    ) -> AuthorizeResponse {
        self.authorize(redeeming(approval, request)).unwrap()
    }

    /// Every version of an approval after `since`.
    pub(crate) fn watch(&self, id: &str, since: u64) -> Versions {
        let request = WatchApprovalRequest {
            id: id.to_owned(),
            since_version: since,
        };
        let stream = self
            .wait(self.approvals().watch_approval(request))
            .unwrap()
            .into_inner();
        Versions(stream)
    }
}

/// A stream of an approval's versions.
pub(crate) struct Versions(Streaming<WatchApprovalResponse>);

impl Versions {
    /// The next version; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Approval>, Status> {
        let message = tokio::time::timeout(LIMIT, self.0.message());
        let response = message.await.expect("the stream says something")?;
        Ok(response.map(|response| response.approval.unwrap()))
    }

    /// The status of the next version; none at the end.
    pub(crate) async fn status(&mut self) -> Option<ApprovalStatus> {
        self.next().await.unwrap().map(|next| next.status())
    }
}

/// Where a decision stands, for comparisons.
pub(crate) fn deny_reason(response: &AuthorizeResponse) -> (Decision, &'static str) {
    (response.decision(), response.deny_reason().as_str_name())
}
