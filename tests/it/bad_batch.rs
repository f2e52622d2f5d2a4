//! What a batch does with requests that cannot be decided, and with too many of them.

use countersign::grpc::proto::batch_authorize_result::Result as BatchItem;
use countersign::grpc::proto::{AuthorizeRequest, BatchAuthorizeRequest, Decision, ErrorReason};
use prost::Message;
use tonic::Code;

use crate::bad_input::request;
use crate::harness::Pdp;
use crate::requests::{Change, agent_deployment, flag, script, small_start, text};

/// A request of `bytes` bytes and a little more, in texts that are each within their limit.
fn large(bytes: usize) -> AuthorizeRequest {
    let texts = (0..bytes.div_ceil(8_000)).map(|_| text(&"x".repeat(8_000)));
    script().context("hosts", crate::requests::list(texts))
}

fn decision(item: &BatchItem) -> Decision {
    match item {
        BatchItem::Response(response) => response.decision(),
        BatchItem::Error(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_bad_request_does_not_disturb_its_neighbours() {
    let pdp = Pdp::sample();
    let requests = vec![
        small_start(),
        small_start().context("count", text("two")),
        agent_deployment(),
        request(|it| it.min_policy_version = "other".to_owned()),
        script().context("reviewed", flag(false)),
    ];
    let items = pdp.batch(requests.clone()).unwrap();
    assert_eq!(items.len(), requests.len());
    let answered = [0, 2, 4].map(|index: usize| decision(&items[index]));
    assert_eq!(
        answered,
        [Decision::Allow, Decision::RequireApproval, Decision::Deny]
    );
    for (index, code, reason, field) in [
        (
            1,
            Code::InvalidArgument,
            ErrorReason::SchemaMismatch,
            "requests[1].context.count",
        ),
        (
            3,
            Code::FailedPrecondition,
            ErrorReason::PolicyVersionNotReached,
            "requests[3].min_policy_version",
        ),
    ] {
        let BatchItem::Error(error) = &items[index] else {
            panic!("{index} was decided")
        };
        assert_eq!(
            (
                Code::from_i32(error.code),
                error.reason(),
                error.field.as_str()
            ),
            (code, reason, field)
        );
        assert_eq!(
            error.message,
            pdp.authorize(requests[index].clone()).unwrap_err().message
        );
    }
}

#[test]
fn results_keep_the_order_and_come_from_one_version() {
    let pdp = Pdp::sample();
    let kinds = [
        (small_start(), Decision::Allow),
        (agent_deployment(), Decision::RequireApproval),
    ];
    let asked: Vec<_> = kinds.iter().cycle().take(100).cloned().collect();
    let items = pdp
        .batch(asked.iter().map(|(request, _)| request.clone()).collect())
        .unwrap();
    let found: Vec<Decision> = items.iter().map(decision).collect();
    let expected: Vec<Decision> = asked.iter().map(|(_, decision)| *decision).collect();
    assert_eq!(found, expected);
    let version = pdp.version();
    for item in items {
        let BatchItem::Response(response) = item else {
            panic!("{item:?}")
        };
        assert_eq!(response.policy_version, version);
    }
}

#[test]
fn an_empty_batch_has_no_results() {
    assert_eq!(Pdp::sample().batch(Vec::new()), Ok(Vec::new()));
}

#[test]
fn a_batch_of_101_is_refused_whole() {
    let pdp = Pdp::sample();
    let refusal = pdp.batch(vec![small_start(); 101]).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::InvalidArgument, "LIMIT_EXCEEDED")
    );
    assert_eq!(refusal.field, "requests");
    assert_eq!(
        refusal.message,
        "`requests`: has 101 requests, more than 100"
    );
}

#[test]
fn what_is_too_large_for_one_call_fits_into_a_batch() {
    let pdp = Pdp::sample();
    let large = large(70_000);
    let alone = pdp.authorize(large.clone()).unwrap_err();
    assert_eq!(alone.code, Code::OutOfRange, "{alone:?}");
    let explained = pdp.explain(large.clone()).unwrap_err();
    assert_eq!(explained.code, Code::OutOfRange, "{explained:?}");
    let items = pdp.batch(vec![large, small_start()]).unwrap();
    assert_eq!(
        [decision(&items[0]), decision(&items[1])],
        [Decision::Deny, Decision::Allow]
    );
}

#[test]
fn a_batch_holds_a_mebibyte_and_no_more() {
    let pdp = Pdp::sample();
    let requests = vec![large(100_000); 10];
    let size = BatchAuthorizeRequest {
        requests: requests.clone(),
    }
    .encoded_len();
    assert!((1_000_000..1 << 20).contains(&size), "{size}");
    assert_eq!(pdp.batch(requests).unwrap().len(), 10);
    let refusal = pdp.batch(vec![large(100_000); 11]).unwrap_err();
    assert_eq!(refusal.code, Code::OutOfRange);
    assert!(
        refusal.message.contains("the limit is: 1048576 bytes"),
        "{refusal:?}"
    );
}
