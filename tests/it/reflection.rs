//! What the server tells about its own API.

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::Pdp;

const SERVICES: [&str; 7] = [
    "countersign.v1.ApprovalService",
    "countersign.v1.AuditService",
    "countersign.v1.AuthorizationService",
    "countersign.v1.PolicyService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Asks one question over either version of the protocol, whose types are alike in all but their names.
macro_rules! ask {
    ($version:ident, $pdp:expr, $question:ident, $argument:expr) => {{
        let request = $version::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                $version::server_reflection_request::MessageRequest::$question(
                    $argument.to_owned(),
                ),
            ),
        };
        let mut client =
            $version::server_reflection_client::ServerReflectionClient::new($pdp.channel());
        let mut answers = $pdp
            .wait(client.server_reflection_info(tokio_stream::iter([request])))
            .unwrap()
            .into_inner();
        $pdp.wait(answers.message())
            .unwrap()
            .unwrap()
            .message_response
            .unwrap()
    }};
}

/// Whether each of our services is among those named; each protocol names itself, and may name the other.
fn assert_complete(mut names: Vec<String>) {
    names.sort();
    let ours = SERVICES
        .iter()
        .filter(|service| !service.starts_with("grpc.reflection"));
    for service in ours {
        assert!(
            names.iter().any(|name| name == service),
            "{service} is not in {names:?}"
        );
    }
    assert!(
        names.iter().all(|name| SERVICES.contains(&name.as_str())),
        "{names:?}"
    );
}

#[test]
fn version_1_lists_the_services() {
    let pdp = Pdp::sample();
    let answer = ask!(v1, pdp, ListServices, "");
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    assert_complete(
        list.service
            .into_iter()
            .map(|service| service.name)
            .collect(),
    );
}

#[test]
fn version_1_alpha_lists_them_too() {
    let pdp = Pdp::sample();
    let answer = ask!(v1alpha, pdp, ListServices, "");
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer
    else {
        panic!("{answer:?}")
    };
    assert_complete(
        list.service
            .into_iter()
            .map(|service| service.name)
            .collect(),
    );
}

#[test]
fn a_method_is_described_by_its_file() {
    let pdp = Pdp::sample();
    let answer = ask!(
        v1,
        pdp,
        FileContainingSymbol,
        "countersign.v1.AuthorizationService.Authorize"
    );
    let v1::server_reflection_response::MessageResponse::FileDescriptorResponse(files) = answer
    else {
        panic!("{answer:?}")
    };
    let file = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
    assert_eq!(file.name(), "countersign/v1/authorization.proto");
}
