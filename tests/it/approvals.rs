//! Approvals over the API: the life of one, those who wait for it, what stays when the server goes.

use std::time::Duration;

use countersign::config::StoreChoice;
use countersign::grpc::proto::batch_authorize_result::Result as BatchItem;
use countersign::grpc::proto::{
    Approval, ApprovalOutcome, ApprovalStatus, CancelApprovalRequest, Decision, ErrorReason,
    ListApprovalsRequest, ListReviewersRequest, Mode, ReportOutcomeRequest, RevokeApprovalRequest,
    VoteChoice, VoteRequest, WaitApprovalRequest,
};
use tokio::time::Instant;
use tonic::Code;

use crate::approvals_support::{
    ballot, by, deny_reason, deployment, impatient, redeeming, start_in_prod, with_key,
};
use crate::folder::Folder;
use crate::harness::{Pdp, Refusal};
use crate::requests::{rules, small_start};

/// Long enough to tell waiting from not waiting.
const SHORT: Duration = Duration::from_millis(300);

fn pages(page_size: i32) -> ListApprovalsRequest {
    ListApprovalsRequest {
        page_size,
        ..ListApprovalsRequest::default()
    }
}

fn wait_for(approval: &Approval, since_version: u64, timeout: Duration) -> WaitApprovalRequest {
    WaitApprovalRequest {
        id: approval.id.clone(),
        since_version,
        timeout: Some(timeout.try_into().unwrap()),
    }
}

#[test]
fn two_people_let_an_agent_deploy_once() {
    let pdp = Pdp::keeping();
    let asked = with_key("deploy-2.4.0", deployment());
    let opened = pdp.open(asked.clone());
    assert_eq!(
        (opened.status(), opened.version, opened.missing[0].count),
        (ApprovalStatus::Pending, 1, 2)
    );
    // Who asks again waits for the same people.
    assert_eq!(pdp.open(asked.clone()).id, opened.id);
    assert_eq!(pdp.open(deployment()).id, opened.id);
    let too_early = pdp.redeem(&opened, asked.clone());
    assert_eq!(too_early.decision(), Decision::RequireApproval);

    let half = pdp.approve("yuki", &opened);
    assert_eq!(
        (half.status(), half.missing[0].count),
        (ApprovalStatus::Pending, 1)
    );
    assert_eq!(half.votes[0].person.as_ref().unwrap().issuer, "development");
    assert_eq!(
        half.votes[0].person.as_ref().unwrap().account,
        "User::\"yuki\""
    );
    let approved = pdp.approve("sam", &opened);
    assert_eq!(approved.status(), ApprovalStatus::Approved);
    assert!(approved.missing.is_empty());
    assert!(approved.redeem_before_time.is_some());

    let allowed = pdp.redeem(&opened, asked.clone());
    assert_eq!(allowed.decision(), Decision::Allow, "{allowed:?}");
    assert!(!allowed.cacheable);
    let spent = allowed.approval.unwrap();
    assert_eq!(spent.status(), ApprovalStatus::Redeemed);
    // An answer that was lost on the way can be fetched again, as the same decision.
    let again = pdp.redeem(&opened, asked);
    assert_eq!(
        (again.decision(), &again.decision_id),
        (Decision::Allow, &allowed.decision_id)
    );
    for other_key in ["", "deploy-2.4.0-b"] {
        let denied = pdp.redeem(&opened, with_key(other_key, deployment()));
        assert_eq!(
            deny_reason(&denied),
            (Decision::Deny, "DENY_REASON_APPROVAL_REDEEMED")
        );
        assert_ne!(denied.decision_id, allowed.decision_id);
    }
    let kept = pdp.get(&opened.id).unwrap();
    assert_eq!(kept.redemption.unwrap().decision_id, allowed.decision_id);

    let report = ReportOutcomeRequest {
        id: opened.id,
        outcome: ApprovalOutcome::Succeeded.into(),
        detail: "Deployed in 40 s.".to_owned(),
        request_id: "r".to_owned(),
    };
    let reported = pdp
        .wait(pdp.approvals().report_outcome(report))
        .unwrap()
        .into_inner();
    let redemption = reported.approval.unwrap().redemption.unwrap();
    assert_eq!(redemption.outcome(), ApprovalOutcome::Succeeded);
    assert_eq!(redemption.detail, "Deployed in 40 s.");
}

#[test]
fn an_approval_is_good_for_the_very_request_only() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    pdp.approve("fiona", &opened);
    let other = pdp.redeem(&opened, start_in_prod(4));
    assert_eq!(
        deny_reason(&other),
        (Decision::Deny, "DENY_REASON_APPROVAL_MISMATCH")
    );
    // Whoever asks for another's approval learns nothing of it.
    assert_eq!(other.approval, None);
    let mut reworded = start_in_prod(3);
    reworded.justification = "Other words.".to_owned();
    let reworded = pdp.redeem(&opened, reworded);
    assert_ne!(reworded.decision(), Decision::Unspecified);
    if reworded.decision() != Decision::Allow {
        assert_eq!(
            deny_reason(&reworded),
            (Decision::Deny, "DENY_REASON_APPROVAL_MISMATCH")
        );
        let allowed = pdp.redeem(&opened, start_in_prod(3));
        assert_eq!(allowed.decision(), Decision::Allow);
    }
}

#[test]
fn a_watcher_sees_pending_then_approved_then_redeemed_and_the_end() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let mut versions = pdp.watch(&opened.id, 0);
    pdp.wait(async {
        assert_eq!(versions.status().await, Some(ApprovalStatus::Pending));
    });
    let start = Instant::now();
    let approved = pdp.approve("fiona", &opened);
    let seen = pdp.wait(versions.next()).unwrap().unwrap();
    let told_after = start.elapsed();
    assert_eq!(
        (seen.status(), seen.version),
        (ApprovalStatus::Approved, approved.version)
    );
    assert!(told_after < Duration::from_millis(900), "{told_after:?}");
    pdp.redeem(&opened, start_in_prod(3));
    pdp.wait(async {
        assert_eq!(versions.status().await, Some(ApprovalStatus::Redeemed));
    });
    // A report may still come; whoever joins late sees what there is.
    let mut late = pdp.watch(&opened.id, approved.version);
    pdp.wait(async {
        assert_eq!(late.status().await, Some(ApprovalStatus::Redeemed));
    });
}

#[test]
fn a_stream_ends_when_nothing_can_change_any_more() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let mut versions = pdp.watch(&opened.id, opened.version);
    let deny = VoteRequest {
        comment: "Use dev.".to_owned(),
        ..ballot(&opened, VoteChoice::Deny)
    };
    pdp.cast(by("felix", deny)).unwrap();
    pdp.wait(async {
        let last = versions.next().await.unwrap().unwrap();
        assert_eq!(last.status(), ApprovalStatus::Denied);
        assert_eq!(last.closing.unwrap().comment, "Use dev.");
        assert_eq!(versions.next().await.unwrap(), None);
    });
    // What was denied is not asked again at once, and the agent reads why.
    let denied = pdp.authorize(start_in_prod(3)).unwrap();
    assert_eq!(
        deny_reason(&denied),
        (Decision::Deny, "DENY_REASON_COOLING_DOWN")
    );
    let closed = pdp.redeem(&opened, start_in_prod(3));
    assert_eq!(
        deny_reason(&closed),
        (Decision::Deny, "DENY_REASON_APPROVAL_CLOSED")
    );
    assert!(closed.deny_message.contains("Use dev."), "{closed:?}");
}

#[test]
fn waiting_ends_with_the_decision_or_with_the_time() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let start = Instant::now();
    let waited = pdp
        .wait(pdp.approvals().wait_approval(wait_for(&opened, 0, SHORT)))
        .unwrap()
        .into_inner();
    assert!(waited.timed_out);
    assert!(start.elapsed() >= SHORT);
    assert_eq!(waited.approval.unwrap().status(), ApprovalStatus::Pending);

    let mut client = pdp.approvals();
    let request = wait_for(&opened, 0, Duration::from_secs(20));
    let waiting = pdp
        .runtime
        .spawn(async move { client.wait_approval(request).await });
    std::thread::sleep(SHORT);
    assert!(!waiting.is_finished());
    let approved = pdp.approve("fiona", &opened);
    let start = Instant::now();
    let waited = pdp.wait(waiting).unwrap().unwrap().into_inner();
    assert!(start.elapsed() < Duration::from_millis(900));
    assert!(!waited.timed_out);
    assert_eq!(waited.approval.unwrap().status(), ApprovalStatus::Approved);
    // What is there already is answered at once.
    for since in [0, approved.version - 1] {
        let request = wait_for(&opened, since, Duration::from_secs(20));
        let waited = pdp
            .wait(pdp.approvals().wait_approval(request))
            .unwrap()
            .into_inner();
        assert!(!waited.timed_out);
    }
    let request = wait_for(&opened, approved.version, Duration::ZERO);
    let waited = pdp
        .wait(pdp.approvals().wait_approval(request))
        .unwrap()
        .into_inner();
    assert!(waited.timed_out);
}

#[test]
fn who_could_approve_is_told_without_the_requesters_side() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(deployment());
    pdp.approve("yuki", &opened);
    let request = ListReviewersRequest { id: opened.id };
    let found = pdp
        .wait(pdp.approvals().list_reviewers(request))
        .unwrap()
        .into_inner();
    let accounts: Vec<(&str, bool)> = found
        .reviewers
        .iter()
        .map(|each| (each.account.as_str(), each.has_voted))
        .collect();
    assert!(accounts.contains(&("User::\"sam\"", false)), "{accounts:?}");
    assert!(accounts.contains(&("User::\"yuki\"", true)), "{accounts:?}");
    assert!(
        !accounts.iter().any(|(name, _)| name.contains("sofia")),
        "{accounts:?}"
    );
    assert!(found.can_be_fulfilled);
}

#[test]
fn time_ends_what_nobody_decides_and_never_approves() {
    let pdp = Pdp::try_keep(impatient(), |_| {}).unwrap();
    let opened = pdp.open(start_in_prod(3));
    let mut versions = pdp.watch(&opened.id, opened.version);
    pdp.wait(async {
        assert_eq!(versions.status().await, Some(ApprovalStatus::Expired));
        assert_eq!(versions.next().await.unwrap(), None);
    });
    let late = pdp
        .cast(by("fiona", ballot(&opened, VoteChoice::Approve)))
        .unwrap_err();
    assert_eq!(late.reason, "ALREADY_RESOLVED");
    let denied = pdp.redeem(&opened, start_in_prod(3));
    assert_eq!(
        deny_reason(&denied),
        (Decision::Deny, "DENY_REASON_APPROVAL_CLOSED")
    );
    // Nobody said no, so people may be asked again.
    assert_ne!(pdp.open(start_in_prod(3)).id, opened.id);
}

#[test]
fn an_approval_can_be_given_up_and_a_grant_taken_back() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let cancel = CancelApprovalRequest {
        id: opened.id,
        comment: "Not needed.".to_owned(),
        request_id: "c".to_owned(),
    };
    for _ in 0..2 {
        let cancelled = pdp
            .wait(pdp.approvals().cancel_approval(cancel.clone()))
            .unwrap()
            .into_inner();
        assert_eq!(
            cancelled.approval.unwrap().status(),
            ApprovalStatus::Cancelled
        );
    }
    let opened = pdp.open(start_in_prod(4));
    pdp.approve("fiona", &opened);
    let revoke = RevokeApprovalRequest {
        id: opened.id.clone(),
        comment: "Budget is gone.".to_owned(),
        request_id: String::new(),
    };
    let revoked = pdp
        .wait(pdp.approvals().revoke_approval(by("felix", revoke)))
        .unwrap()
        .into_inner();
    assert_eq!(revoked.approval.unwrap().status(), ApprovalStatus::Revoked);
    let denied = pdp.redeem(&opened, start_in_prod(4));
    assert_eq!(
        deny_reason(&denied),
        (Decision::Deny, "DENY_REASON_APPROVAL_CLOSED")
    );
}

#[test]
fn a_dry_run_opens_nothing() {
    let pdp = Pdp::keeping();
    let mut dry = start_in_prod(3);
    dry.mode = Mode::Check.into();
    let answer = pdp.authorize(dry.clone()).unwrap();
    assert_eq!(answer.decision(), Decision::RequireApproval);
    assert_eq!(answer.approval.unwrap().id, "");
    assert!(pdp.list(pages(0)).unwrap().approvals.is_empty());
    let opened = pdp.open(start_in_prod(3));
    let refusal = pdp.authorize(redeeming(&opened, dry)).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.field.as_str()),
        (Code::InvalidArgument, "approval_id")
    );
}

#[test]
fn a_list_goes_page_by_page_and_can_be_narrowed() {
    let pdp = Pdp::keeping();
    let mut opened: Vec<String> = (1..=7).map(|n| pdp.open(start_in_prod(n)).id).collect();
    opened.push(pdp.open(deployment()).id);
    opened.reverse();
    let mut found = Vec::new();
    let mut asked = pages(3);
    loop {
        let page = pdp.list(asked.clone()).unwrap();
        assert!(page.approvals.len() <= 3);
        found.extend(page.approvals.into_iter().map(|each| each.id));
        asked.page_token = page.next_page_token;
        if asked.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, opened);

    let deployments = ListApprovalsRequest {
        rules: vec!["prod-deploy".to_owned()],
        requester: "Agent::\"deploy-bot\"".to_owned(),
        statuses: vec![ApprovalStatus::Pending.into()],
        ..pages(0)
    };
    let page = pdp.list(deployments.clone()).unwrap();
    assert_eq!(page.approvals.len(), 1);
    assert_eq!(page.next_page_token, "");
    for nothing in [
        ListApprovalsRequest {
            statuses: vec![ApprovalStatus::Redeemed.into()],
            ..deployments.clone()
        },
        ListApprovalsRequest {
            requester: "Agent::\"capacity-bot\"".to_owned(),
            ..deployments
        },
    ] {
        assert!(pdp.list(nothing).unwrap().approvals.is_empty());
    }
}

#[test]
fn everything_is_still_there_after_a_restart() {
    let pdp = Pdp::keeping();
    let pending = pdp.open(deployment());
    pdp.approve("yuki", &pending);
    let approved = pdp.open(start_in_prod(3));
    pdp.approve("fiona", &approved);
    let spent = pdp.open(start_in_prod(4));
    pdp.approve("fiona", &spent);
    let allowed = pdp.redeem(&spent, with_key("k", start_in_prod(4)));
    let before: Vec<Approval> = pdp.list(pages(0)).unwrap().approvals;

    let pdp = Pdp::try_keep(pdp.into_folder(), |_| {}).unwrap();
    assert_eq!(pdp.list(pages(0)).unwrap().approvals, before);
    assert_eq!(
        pdp.approve("sam", &pending).status(),
        ApprovalStatus::Approved
    );
    assert_eq!(
        pdp.redeem(&pending, deployment()).decision(),
        Decision::Allow
    );
    assert_eq!(
        pdp.redeem(&approved, start_in_prod(3)).decision(),
        Decision::Allow
    );
    let again = pdp.redeem(&spent, with_key("k", start_in_prod(4)));
    assert_eq!(
        (again.decision(), again.decision_id),
        (Decision::Allow, allowed.decision_id)
    );
    let denied = pdp.redeem(&spent, start_in_prod(4));
    assert_eq!(
        deny_reason(&denied),
        (Decision::Deny, "DENY_REASON_APPROVAL_REDEEMED")
    );
}

#[test]
fn one_file_belongs_to_one_server() {
    let pdp = Pdp::keeping();
    let path = pdp.folder.beside("approvals.sqlite");
    let second = Pdp::try_keep(Folder::sample(), |config| {
        config.approvals.path.clone_from(&path);
    });
    assert!(second.is_err());
    assert_eq!(pdp.open(start_in_prod(3)).status(), ApprovalStatus::Pending);
}

#[test]
fn stopping_sends_watchers_away_at_once() {
    let mut pdp = Pdp::keeping();
    let opened = pdp.open(start_in_prod(3));
    let mut streams: Vec<_> = (0..20)
        .map(|_| pdp.watch(&opened.id, opened.version))
        .collect();
    let mut client = pdp.approvals();
    let request = wait_for(&opened, 0, Duration::from_secs(60));
    let waiting = pdp
        .runtime
        .spawn(async move { client.wait_approval(request).await });
    std::thread::sleep(SHORT);
    let start = Instant::now();
    let stopping = pdp.stop();
    for stream in &mut streams {
        let status = pdp.wait(stream.next()).unwrap_err();
        let refusal = Refusal::from(status);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::Unavailable, "APPROVALS_NOT_AVAILABLE")
        );
        assert!(refusal.retry_after.is_some());
    }
    let refusal = Refusal::from(pdp.wait(waiting).unwrap().unwrap_err());
    assert_eq!(refusal.code, Code::Unavailable);
    let sent_away = start.elapsed();
    assert!(sent_away < Duration::from_secs(1), "{sent_away:?}");
    let (cut_off, took) = stopping.join().unwrap();
    assert_eq!(cut_off, 0);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_batch_opens_joins_and_redeems_each_by_itself() {
    let pdp = Pdp::keeping();
    let granted = pdp.open(start_in_prod(9));
    pdp.approve("fiona", &granted);
    let silent = crate::requests::agent_deployment();
    let results = pdp
        .batch(vec![
            small_start(),
            deployment(),
            deployment(),
            redeeming(&granted, start_in_prod(9)),
            silent,
            redeeming(&granted, with_key("other", start_in_prod(9))),
        ])
        .unwrap();
    let decision = |at: usize| match &results[at] {
        BatchItem::Response(response) => response.clone(),
        BatchItem::Error(error) => panic!("{at}: {error:?}"),
    };
    assert_eq!(decision(0).decision(), Decision::Allow);
    assert_eq!(rules(&decision(1)), ["prod-deploy"]);
    let [first, second] = [1, 2].map(|at| decision(at).approval.unwrap().id);
    assert!(!first.is_empty());
    assert_eq!(first, second);
    assert_eq!(decision(3).decision(), Decision::Allow);
    assert_eq!(
        deny_reason(&decision(5)),
        (Decision::Deny, "DENY_REASON_APPROVAL_REDEEMED")
    );
    match &results[4] {
        BatchItem::Error(error) => {
            assert_eq!(error.reason(), ErrorReason::InvalidRequest);
            assert_eq!(error.field, "requests[4].justification");
        }
        BatchItem::Response(response) => panic!("{response:?}"),
    }
}

#[test]
fn without_a_store_approval_is_required_and_cannot_be_had() {
    let pdp = Pdp::keeping_with(|config| config.approvals.store = StoreChoice::None);
    let answer = pdp.authorize(start_in_prod(3)).unwrap();
    assert_eq!(answer.decision(), Decision::RequireApproval);
    assert_eq!(rules(&answer), ["cloud-spend"]);
    assert_eq!(answer.approval.unwrap().id, "");
    let refusals = [
        pdp.get("a").unwrap_err(),
        pdp.list(pages(0)).unwrap_err(),
        pdp.authorize(redeeming(
            &Approval {
                id: "a".to_owned(),
                ..Approval::default()
            },
            start_in_prod(3),
        ))
        .unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::Unimplemented, "APPROVALS_NOT_AVAILABLE")
        );
    }
    assert!(!pdp.folder.beside("approvals.sqlite").exists());
}
