//! What is refused about approvals, with the reason that programs read.

use std::time::Duration;

use countersign::grpc::proto::{
    ApprovalOutcome, CancelApprovalRequest, ListApprovalsRequest, ReportOutcomeRequest,
    RevokeApprovalRequest, VoteChoice, VoteRequest, WaitApprovalRequest,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::approvals_support::{
    ballot, by, deployment, start_in_prod, with_authorization, with_key,
};
use crate::harness::{Pdp, Refusal};

const DOMAIN: &str = "countersign.v1";

fn assert_refused(refusal: &Refusal, code: Code, reason: &str) {
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (code, reason),
        "{refusal:?}"
    );
    assert_eq!(refusal.domain, DOMAIN);
    assert!(!refusal.message.is_empty());
}

/// The metadata of `ErrorInfo`, for programs.
fn metadata<const N: usize>(status: &Status, names: [&str; N]) -> [String; N] {
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    names.map(|name| metadata.get(name).cloned().unwrap_or_default())
}

/// Why a vote by `name` is not counted.
fn refused_vote(pdp: &Pdp, name: &str, vote: VoteRequest) -> Status {
    pdp.wait(pdp.approvals().vote(by(name, vote))).unwrap_err()
}

fn assert_bad_field(refusal: &Refusal, field: &str) {
    assert_refused(refusal, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(refusal.field, field, "{refusal:?}");
}

#[test]
fn nobody_votes_without_saying_who_they_are() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let vote = ballot(&opened, VoteChoice::Approve);
    let calls = [
        Request::new(vote.clone()),
        with_authorization("Bearer fiona", vote.clone()),
        with_authorization("Bearer development:", vote.clone()),
        with_authorization("Bearer ", vote.clone()),
        with_authorization("development:fiona", vote.clone()),
        with_authorization("Basic development:fiona", vote),
    ];
    for call in calls {
        let refusal = pdp.cast(call).unwrap_err();
        assert_refused(&refusal, Code::Unauthenticated, "UNAUTHENTICATED");
        assert!(!refusal.message.contains("fiona"), "{refusal:?}");
    }
    // A credential that names nobody is never taken for none, where none would do.
    let cancel = CancelApprovalRequest {
        id: opened.id.clone(),
        ..CancelApprovalRequest::default()
    };
    let call = with_authorization("Bearer nonsense", cancel);
    let refusal = Refusal::from(pdp.wait(pdp.approvals().cancel_approval(call)).unwrap_err());
    assert_refused(&refusal, Code::Unauthenticated, "UNAUTHENTICATED");
    assert!(pdp.get(&opened.id).unwrap().votes.is_empty());

    let strict = Pdp::keeping_with(|config| config.identity.development_logins = false);
    let opened = strict.open(start_in_prod(3));
    let refusal = strict
        .cast(by("fiona", ballot(&opened, VoteChoice::Approve)))
        .unwrap_err();
    assert_refused(&refusal, Code::Unauthenticated, "UNAUTHENTICATED");
}

#[test]
fn who_may_not_approve_reads_why() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(deployment());
    let own = pdp
        .cast(by("sofia", ballot(&opened, VoteChoice::Approve)))
        .unwrap_err();
    assert_refused(&own, Code::PermissionDenied, "OWN_REQUEST");
    for nobody in ["lee", "fiona", "ines", "whoever", "YUKI"] {
        let status = refused_vote(&pdp, nobody, ballot(&opened, VoteChoice::Approve));
        assert_eq!(
            metadata(&status, ["approval_id", "status"]),
            [opened.id.as_str(), "PENDING"]
        );
        assert_refused(&status.into(), Code::PermissionDenied, "NOT_ELIGIBLE");
    }
    pdp.approve("sam", &opened);
    // Another account of the same person is the same person.
    for again in ["sam", "sam-admin"] {
        let refusal = pdp
            .cast(by(again, ballot(&opened, VoteChoice::Approve)))
            .unwrap_err();
        assert_refused(&refusal, Code::FailedPrecondition, "ALREADY_VOTED");
    }
    assert_eq!(pdp.get(&opened.id).unwrap().votes.len(), 1);
}

#[test]
fn a_vote_is_for_what_was_shown() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let other = pdp.open(start_in_prod(4));
    let vote = ballot(&opened, VoteChoice::Approve);
    for wrong in [
        VoteRequest {
            request_digest: other.request_digest.clone(),
            ..vote.clone()
        },
        VoteRequest {
            view_digest: other.view_digest,
            ..vote
        },
    ] {
        let refusal = pdp.cast(by("fiona", wrong)).unwrap_err();
        assert_refused(&refusal, Code::FailedPrecondition, "DIGEST_MISMATCH");
    }
}

#[test]
fn a_vote_has_its_form() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let vote = ballot(&opened, VoteChoice::Approve);
    let refused = |field: &str, change: &dyn Fn(&mut VoteRequest)| {
        let mut wrong = vote.clone();
        change(&mut wrong);
        assert_bad_field(&pdp.cast(by("fiona", wrong)).unwrap_err(), field);
    };
    refused("request_digest", &|vote| vote.request_digest.clear());
    refused("request_digest", &|vote| {
        vote.request_digest = "0".repeat(63);
    });
    refused("view_digest", &|vote| {
        vote.view_digest.make_ascii_uppercase();
    });
    refused("choice", &|vote| vote.choice = 0);
    refused("choice", &|vote| vote.choice = 17);
    refused("id", &|vote| vote.id.clear());
    refused("comment", &|vote| vote.comment = "x".repeat(2_049));
    refused("request_id", &|vote| vote.request_id = "x".repeat(129));
    let longest = VoteRequest {
        comment: "x".repeat(2_048),
        request_id: "x".repeat(128),
        ..vote
    };
    assert!(pdp.cast(by("fiona", longest)).unwrap().counted);
}

#[test]
fn what_comes_too_late_reads_how_it_stands() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    pdp.cast(by("felix", ballot(&opened, VoteChoice::Deny)))
        .unwrap();
    let late = refused_vote(&pdp, "fiona", ballot(&opened, VoteChoice::Approve));
    assert_eq!(
        metadata(&late, ["approval_id", "status"]),
        [opened.id.as_str(), "DENIED"]
    );
    assert!(late.message().contains("felix"), "{late:?}");
    assert_refused(&late.into(), Code::FailedPrecondition, "ALREADY_RESOLVED");
    // Whoever wished for what there is gets it, and is told that the vote was not needed.
    let same = pdp
        .cast(by("fiona", ballot(&opened, VoteChoice::Deny)))
        .unwrap();
    assert!(!same.counted);
    let revoke = RevokeApprovalRequest {
        id: opened.id,
        ..RevokeApprovalRequest::default()
    };
    let refusal = Refusal::from(
        pdp.wait(pdp.approvals().revoke_approval(by("felix", revoke)))
            .unwrap_err(),
    );
    assert_refused(&refusal, Code::FailedPrecondition, "ALREADY_RESOLVED");
}

#[test]
fn what_comes_too_early_is_refused() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let revoke = RevokeApprovalRequest {
        id: opened.id.clone(),
        ..RevokeApprovalRequest::default()
    };
    let refusal = Refusal::from(
        pdp.wait(pdp.approvals().revoke_approval(by("fiona", revoke)))
            .unwrap_err(),
    );
    assert_refused(&refusal, Code::FailedPrecondition, "STILL_PENDING");
    let report = ReportOutcomeRequest {
        id: opened.id.clone(),
        outcome: ApprovalOutcome::Succeeded.into(),
        ..ReportOutcomeRequest::default()
    };
    let refusal = Refusal::from(
        pdp.wait(pdp.approvals().report_outcome(report.clone()))
            .unwrap_err(),
    );
    assert_refused(&refusal, Code::FailedPrecondition, "OUTCOME_NOT_ACCEPTED");
    let unspecified = ReportOutcomeRequest {
        outcome: 0,
        ..report
    };
    let refusal = Refusal::from(
        pdp.wait(pdp.approvals().report_outcome(unspecified))
            .unwrap_err(),
    );
    assert_bad_field(&refusal, "outcome");
    let cancel = CancelApprovalRequest {
        id: opened.id,
        ..CancelApprovalRequest::default()
    };
    let refusal = Refusal::from(
        pdp.wait(pdp.approvals().cancel_approval(by("fiona", cancel)))
            .unwrap_err(),
    );
    assert_refused(&refusal, Code::PermissionDenied, "NOT_THE_REQUESTER");
}

#[test]
fn what_is_not_there_is_not_found() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let nothing = "01a20475-5a90-73b6-9e24-2fa43692dda4";
    let mut redeem = start_in_prod(3);
    redeem.approval_id = nothing.to_owned();
    let vote = VoteRequest {
        id: nothing.to_owned(),
        ..ballot(&opened, VoteChoice::Approve)
    };
    let wait = WaitApprovalRequest {
        id: nothing.to_owned(),
        ..WaitApprovalRequest::default()
    };
    let waited = pdp.wait(pdp.approvals().wait_approval(wait)).unwrap_err();
    let mut watched = pdp.watch(nothing, 0);
    for refusal in [
        pdp.get(nothing).unwrap_err(),
        pdp.get("' OR 1 = 1; --\u{0}").unwrap_err(),
        pdp.cast(by("fiona", vote)).unwrap_err(),
        pdp.authorize(redeem).unwrap_err(),
        Refusal::from(waited),
        Refusal::from(pdp.wait(watched.next()).unwrap_err()),
    ] {
        assert_refused(&refusal, Code::NotFound, "APPROVAL_NOT_FOUND");
    }
}

#[test]
fn a_key_is_for_one_thing() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(with_key("k", start_in_prod(3)));
    let refusal = pdp.authorize(with_key("k", start_in_prod(4))).unwrap_err();
    assert_refused(&refusal, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let vote = VoteRequest {
        request_id: "v".to_owned(),
        ..ballot(&opened, VoteChoice::Approve)
    };
    for _ in 0..2 {
        let voted = pdp.cast(by("fiona", vote.clone())).unwrap();
        assert!(voted.counted);
        assert_eq!(voted.approval.unwrap().votes.len(), 1);
    }
    let other = VoteRequest {
        comment: "Other words.".to_owned(),
        ..vote
    };
    let refusal = pdp.cast(by("fiona", other)).unwrap_err();
    assert_refused(&refusal, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!(refusal.field, "request_id");
}

#[test]
fn who_asks_too_much_is_told_when_to_come_back() {
    for (is_rate, name) in [
        (true, "opened_per_minute"),
        (false, "pending_per_requester"),
    ] {
        let pdp = Pdp::keeping_with(|config| {
            let limits = &mut config.approvals;
            let limit = if is_rate {
                &mut limits.opened_per_minute
            } else {
                &mut limits.pending_per_requester
            };
            *limit = 2;
        });
        let first = pdp.open(start_in_prod(1));
        pdp.open(start_in_prod(2));
        let status = pdp
            .wait(pdp.client().authorize(start_in_prod(3)))
            .unwrap_err();
        assert_eq!(metadata(&status, ["limit", "value"]), [name, "2"]);
        let refusal = Refusal::from(status);
        assert_refused(&refusal, Code::ResourceExhausted, "TOO_MANY_APPROVALS");
        let after = refusal.retry_after.unwrap();
        assert!(
            after > Duration::ZERO && after <= Duration::from_secs(60),
            "{after:?}"
        );
        // Joining is not asking for more, and others have limits of their own.
        assert_eq!(pdp.open(start_in_prod(1)).id, first.id);
        pdp.open(deployment());
    }
}

#[test]
fn a_page_token_goes_on_with_its_own_list_only() {
    let pdp = Pdp::keeping();
    for count in 1..=3 {
        pdp.open(start_in_prod(count));
    }
    let asked = ListApprovalsRequest {
        page_size: 1,
        rules: vec!["cloud-spend".to_owned()],
        ..ListApprovalsRequest::default()
    };
    let first = pdp.list(asked.clone()).unwrap();
    let next = ListApprovalsRequest {
        page_token: first.next_page_token.clone(),
        ..asked.clone()
    };
    assert_eq!(pdp.list(next.clone()).unwrap().approvals.len(), 1);
    for changed in [
        ListApprovalsRequest {
            rules: Vec::new(),
            ..next.clone()
        },
        ListApprovalsRequest {
            statuses: vec![1],
            ..next.clone()
        },
        ListApprovalsRequest {
            requester: "Agent::\"capacity-bot\"".to_owned(),
            ..next
        },
    ] {
        assert_bad_field(&pdp.list(changed).unwrap_err(), "page_token");
    }
    let mut cut = first.next_page_token;
    cut.pop();
    for token in ["x", "e30", "\u{0}", cut.as_str()] {
        let broken = ListApprovalsRequest {
            page_token: token.to_owned(),
            ..asked.clone()
        };
        assert_bad_field(&pdp.list(broken).unwrap_err(), "page_token");
    }
    let negative = ListApprovalsRequest {
        page_size: -1,
        ..asked.clone()
    };
    assert_bad_field(&pdp.list(negative).unwrap_err(), "page_size");
    // As many as there are at most, however many are wished for.
    let many = ListApprovalsRequest {
        page_size: i32::MAX,
        ..asked
    };
    assert_eq!(pdp.list(many).unwrap().approvals.len(), 3);
}

#[test]
fn a_wait_is_never_negative() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let wait = WaitApprovalRequest {
        id: opened.id,
        since_version: 0,
        timeout: Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
    };
    let refusal = Refusal::from(pdp.wait(pdp.approvals().wait_approval(wait)).unwrap_err());
    assert_bad_field(&refusal, "timeout");
}
