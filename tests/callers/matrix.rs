//! Every caller, every method, every principal.

use std::time::Duration;

use countersign::grpc::proto::batch_authorize_result::Result as Item;
use countersign::grpc::proto::{
    AuthorizeRequest, BatchAuthorizeRequest, BatchAuthorizeResponse, Entity, ErrorReason,
    ExplainRequest,
};
use countersign::usecase::callers::Method;
use prost::Message;
use serde_json::json;

use crate::tokens::{PEOPLE, SERVICES};
use crate::world::{Answer, Shown, World};

/// What says that a call, or a request in it, was not let in.
const REFUSALS: [&str; 3] = [
    "UNAUTHENTICATED",
    "CALLER_NOT_PERMITTED",
    "PRINCIPAL_NOT_BOUND",
];
/// The principals that are spoken for.
const PRINCIPALS: [(&str, &str); 3] = [
    ("Agent", "deploy-bot"),
    ("Agent", "capacity-bot"),
    ("User", "yuki"),
];

/// Why the call must be refused, by what the bindings of the world say to somebody who reads them; nothing if it must not be.
fn expected(caller: &str, method: &str, principal: &str) -> &'static str {
    let is_approval = method.starts_with("ApprovalService/");
    let if_so = |is_let_in: bool| {
        if is_let_in {
            ""
        } else {
            "CALLER_NOT_PERMITTED"
        }
    };
    let for_principal = |is_bound: bool| if is_bound { "" } else { "PRINCIPAL_NOT_BOUND" };
    match (caller, method) {
        ("nobody", _) => "UNAUTHENTICATED",
        ("deployer", "AuthorizationService/Authorize" | "AuthorizationService/BatchAuthorize") => {
            for_principal(principal == "deploy-bot")
        }
        ("planner", "AuthorizationService/Authorize") => for_principal(principal != "yuki"),
        // A service is nobody who votes.
        ("planner" | "acting", "ApprovalService/Vote") => "CALLER_NOT_PERMITTED",
        ("person" | "auditor", "AuthorizationService/Authorize") => "PRINCIPAL_NOT_BOUND",
        ("acting", "AuthorizationService/Authorize") => for_principal(principal == "deploy-bot"),
        (
            "deployer" | "reader",
            "AuthorizationService/Explain" | "PolicyService/GetPolicyStatus",
        )
        | ("person" | "auditor" | "acting", "PolicyService/GetPolicyStatus") => "",
        ("auditor", _) if method.starts_with("AuditService/") => "",
        ("planner" | "person" | "auditor" | "acting", _) => if_so(is_approval),
        _ => "CALLER_NOT_PERMITTED",
    }
}

fn callers(world: &World) -> Vec<(&'static str, Shown)> {
    let token =
        |issuer, subject, changes| World::token(world.signer.token(issuer, subject, &changes));
    vec![
        ("nobody", Shown::default()),
        ("deployer", world.service("ci/deployer")),
        ("reader", world.service("ci/reader")),
        ("stranger", world.service("elsewhere")),
        ("planner", token(SERVICES, "planner-1", json!({}))),
        ("unknown service", token(SERVICES, "other", json!({}))),
        ("person", token(PEOPLE, "yuki", json!({}))),
        (
            "auditor",
            token(PEOPLE, "ada", json!({"groups": ["auditors"]})),
        ),
        (
            "acting",
            token(
                PEOPLE,
                "yuki",
                json!({"act": {"sub": "deploy-bot"}, "groups": ["auditors"]}),
            ),
        ),
        (
            "local process",
            Shown {
                by_socket: true,
                ..Shown::default()
            },
        ),
    ]
}

fn request(principal: (&str, &str)) -> AuthorizeRequest {
    let entity = |(kind, id): (&str, &str)| {
        Some(Entity {
            r#type: kind.to_owned(),
            id: id.to_owned(),
            ..Entity::default()
        })
    };
    AuthorizeRequest {
        principal: entity(principal),
        action: "ViewLogs".to_owned(),
        resource: entity(("Service", "payments-api-dev")),
        ..AuthorizeRequest::default()
    }
}

/// What `method` is asked, where a principal matters to it.
fn message(method: Method, principal: (&str, &str)) -> Vec<u8> {
    let request = request(principal);
    match method.names().1 {
        "Authorize" => request.encode_to_vec(),
        "BatchAuthorize" => BatchAuthorizeRequest {
            requests: vec![request],
        }
        .encode_to_vec(),
        "Explain" => ExplainRequest {
            request: Some(request),
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}

/// Why the call was refused; nothing if it came in, whatever became of it then.
fn refusal(method: Method, answer: Answer) -> String {
    let reason = match answer {
        Err((code, reason)) => {
            let is_right = match reason.as_str() {
                "UNAUTHENTICATED" => code == tonic::Code::Unauthenticated,
                "CALLER_NOT_PERMITTED" | "PRINCIPAL_NOT_BOUND" => {
                    code == tonic::Code::PermissionDenied
                }
                _ => true,
            };
            assert!(is_right, "{method}: {code:?} with {reason}");
            reason
        }
        Ok(bytes) if method == Method::BATCH_AUTHORIZE => {
            let answer = BatchAuthorizeResponse::decode(bytes.as_slice()).unwrap();
            match answer.results[0].result.as_ref().unwrap() {
                Item::Response(_) => String::new(),
                Item::Error(error) => {
                    let name = ErrorReason::try_from(error.reason).unwrap().as_str_name();
                    name.trim_start_matches("ERROR_REASON_").to_owned()
                }
            }
        }
        Ok(_) => String::new(),
    };
    if REFUSALS.contains(&reason.as_str()) {
        reason
    } else {
        String::new()
    }
}

#[test]
fn every_wrong_combination_of_caller_principal_and_method_is_refused_and_recorded() {
    let world = World::new();
    let (mut refused, mut let_in) = (0_u64, 0_u64);
    for (caller, shown) in callers(&world) {
        let channel = world.connect(&shown).unwrap();
        for method in Method::all() {
            let principals = if method.decides() { 3 } else { 1 };
            for principal in &PRINCIPALS[..principals] {
                let path = format!("/countersign.v1.{method}");
                let answer = world.call(&channel, &shown, &path, &message(method, *principal));
                let found = refusal(method, answer);
                let wanted = expected(caller, &method.to_string(), principal.1);
                assert_eq!(found, wanted, "{caller} calls {method} for {principal:?}");
                // A service that votes is refused by what it calls, not at the gate.
                let is_by_service = caller != "nobody" && method.names().1 == "Vote";
                let is_at_the_gate = !(is_by_service && ["planner", "acting"].contains(&caller));
                if wanted.is_empty() {
                    let_in += 1;
                } else if is_at_the_gate {
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 150 && let_in > 50, "{refused} {let_in}");
    // Of many in a second only some have a record of their own; the next one in another second tells how many had none.
    std::thread::sleep(Duration::from_millis(1_100));
    let channel = world.connect(&Shown::default()).unwrap();
    let path = "/countersign.v1.AuthorizationService/Authorize";
    world
        .call(&channel, &Shown::default(), path, &[])
        .unwrap_err();
    let records = world.refused();
    let recorded: u64 = records.iter().map(|record| 1 + record.unrecorded).sum();
    assert_eq!(recorded, refused + 1);
    let deployer = records.iter().find(|record| {
        record.caller == "spiffe://example.org/ci/deployer" && record.reason == "not_bound"
    });
    let deployer = deployer.unwrap();
    assert_eq!(deployer.principal.as_ref().unwrap().id, "capacity-bot");
    assert!(deployer.peer.starts_with("127.0.0.1:"), "{deployer:?}");
}
