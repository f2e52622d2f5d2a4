//! People, and those who act for them.

use countersign::grpc::proto::{
    ApprovalStatus, AuthorizeRequest, AuthorizeResponse, Decision, Entity, EntityRef,
    GetApprovalRequest, GetApprovalResponse, VoteChoice, VoteRequest, VoteResponse,
};
use prost::Message;
use prost_types::Struct;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

use crate::tokens::PEOPLE;
use crate::world::{Answer, Shown, World};

const DECIDE: &str = "/countersign.v1.AuthorizationService/Authorize";
const VOTE: &str = "/countersign.v1.ApprovalService/Vote";

/// A deployment to production, which needs two of the SRE team.
fn deployment() -> AuthorizeRequest {
    let entity = |kind: &str, id: &str| {
        Some(Entity {
            r#type: kind.to_owned(),
            id: id.to_owned(),
            ..Entity::default()
        })
    };
    AuthorizeRequest {
        principal: entity("Agent", "deploy-bot"),
        action: "Deploy".to_owned(),
        resource: entity("Service", "payments-api"),
        context: Some(context()),
        justification: "Release 2.5.0".to_owned(),
        ..AuthorizeRequest::default()
    }
}

fn context() -> Struct {
    let text = json!({
        "version": "2.5.0", "migration": false,
        "provenance": {"builder": "github-actions", "commit": "61d0e42"},
    });
    countersign::grpc::json::read_struct(&text.to_string()).unwrap()
}

struct Caller<'w> {
    world: &'w World,
    channel: Channel,
    shown: Shown,
}

impl<'w> Caller<'w> {
    fn new(world: &'w World, shown: Shown) -> Self {
        Self {
            channel: world.connect(&shown).unwrap(),
            world,
            shown,
        }
    }

    fn person(world: &'w World, name: &str, changes: &Value) -> Self {
        Self::new(
            world,
            World::token(world.signer.token(PEOPLE, name, changes)),
        )
    }

    fn call(&self, path: &str, message: &impl Message) -> Answer {
        self.world
            .call(&self.channel, &self.shown, path, &message.encode_to_vec())
    }

    fn decide(&self, request: &AuthorizeRequest) -> Result<AuthorizeResponse, (Code, String)> {
        let answer = self.call(DECIDE, request)?;
        Ok(AuthorizeResponse::decode(answer.as_slice()).unwrap())
    }

    fn vote(&self, answer: &AuthorizeResponse) -> Answer {
        let approval = answer.approval.as_ref().unwrap();
        let get = GetApprovalRequest {
            id: approval.id.clone(),
        };
        let got = self
            .call("/countersign.v1.ApprovalService/GetApproval", &get)
            .unwrap();
        let approval = GetApprovalResponse::decode(got.as_slice())
            .unwrap()
            .approval
            .unwrap();
        let vote = VoteRequest {
            id: approval.id,
            choice: VoteChoice::Approve.into(),
            request_digest: approval.request_digest,
            view_digest: approval.view_digest,
            ..VoteRequest::default()
        };
        self.call(VOTE, &vote)
    }
}

#[test]
fn an_agents_credential_never_votes() {
    let world = World::new();
    let asked = Caller::new(&world, world.service("ci/deployer"))
        .decide(&deployment())
        .unwrap();
    assert_eq!(asked.decision(), Decision::RequireApproval);
    // Yuki may, but neither a certificate nor one who acts for her.
    let acting = json!({"act": {"sub": "deploy-bot"}});
    let (code, reason) = Caller::person(&world, "yuki", &acting)
        .vote(&asked)
        .unwrap_err();
    assert_eq!(
        (code, reason.as_str()),
        (Code::PermissionDenied, "CALLER_NOT_PERMITTED")
    );
    let planner = world
        .signer
        .token(crate::tokens::SERVICES, "planner-1", &json!({}));
    let (code, _) = Caller::new(&world, World::token(planner))
        .vote(&asked)
        .unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    Caller::person(&world, "sam", &json!({}))
        .vote(&asked)
        .unwrap();
    let voted = Caller::person(&world, "yuki", &json!({}))
        .vote(&asked)
        .unwrap();
    let approval = VoteResponse::decode(voted.as_slice())
        .unwrap()
        .approval
        .unwrap();
    assert_eq!(approval.status(), ApprovalStatus::Approved);
}

#[test]
fn only_the_caller_that_asked_gets_the_grant() {
    let world = World::new();
    let deployer = Caller::new(&world, world.service("ci/deployer"));
    let asked = deployer.decide(&deployment()).unwrap();
    for name in ["sam", "yuki"] {
        Caller::person(&world, name, &json!({}))
            .vote(&asked)
            .unwrap();
    }
    let redeem = AuthorizeRequest {
        approval_id: asked.approval.as_ref().unwrap().id.clone(),
        ..deployment()
    };
    let token = world
        .signer
        .token(crate::tokens::SERVICES, "planner-1", &json!({}));
    let other = Caller::new(&world, World::token(token))
        .decide(&redeem)
        .unwrap();
    assert_eq!(other.decision(), Decision::Deny);
    assert_eq!(
        deployer.decide(&redeem).unwrap().decision(),
        Decision::Allow
    );
}

#[test]
fn the_token_says_for_whom_an_agent_acts() {
    let world = World::new();
    let acting = Caller::person(&world, "yuki", &json!({"act": {"sub": "deploy-bot"}}));
    let asked = acting.decide(&deployment()).unwrap();
    // Yuki is on the requester's side now, although the request did not say so.
    let (code, reason) = Caller::person(&world, "yuki", &json!({}))
        .vote(&asked)
        .unwrap_err();
    assert_eq!(
        (code, reason.as_str()),
        (Code::PermissionDenied, "OWN_REQUEST")
    );
    let mut lying = deployment();
    lying.on_behalf_of = vec![EntityRef {
        r#type: "User".to_owned(),
        id: "ada".to_owned(),
    }];
    let (code, reason) = acting.decide(&lying).unwrap_err();
    assert_eq!(
        (code, reason.as_str()),
        (Code::PermissionDenied, "PRINCIPAL_NOT_BOUND")
    );
}
