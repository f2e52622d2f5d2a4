//! The whole life of an approval, as an agent sees it.

use countersign::approval::{Happening, ReportedOutcome, State, Status};
use countersign::model::Decision;
use countersign::usecase::ApprovalPart;
use countersign::usecase::approval_store::ApprovalFilter;
use countersign::usecase::approvals::ReportedBy;

use crate::request::{CALLER, deploy};
use crate::world::{World, words};

#[tokio::test]
async fn two_persons_approve_and_the_request_is_allowed_once() {
    let world = World::new();

    let asked = world.authorize(&deploy()).await.unwrap();
    assert_eq!(asked.decision(), Decision::RequireApproval);
    assert!(!asked.is_cacheable());
    let ApprovalPart::Waits(approval) = asked.approval else {
        panic!("{:?}", asked.approval);
    };
    assert_eq!(approval.status(), Status::Pending);
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "REQUIRE_APPROVAL waits for PENDING"
    );

    let after_one = world.approve("alice", &approval).await.unwrap();
    assert!(after_one.is_counted);
    assert_eq!(after_one.approval.status(), Status::Pending);
    let after_two = world.approve("bob", &approval).await.unwrap();
    assert_eq!(after_two.approval.status(), Status::Approved);

    let redeem = deploy().redeeming(&approval).key("run-1");
    let allowed = world.authorize(&redeem).await.unwrap();
    assert_eq!(allowed.decision(), Decision::Allow);
    assert!(!allowed.is_cacheable());
    let ApprovalPart::Granted(granted) = &allowed.approval else {
        panic!("{:?}", allowed.approval);
    };
    assert_eq!(granted.id, approval.id);
    let State::Redeemed { redemption, .. } = &granted.state else {
        panic!("{:?}", granted.state);
    };
    assert_eq!(redemption.decision_id, allowed.decision_id.to_string());

    let again = world.authorize(&redeem).await.unwrap();
    assert_eq!(again.decision(), Decision::Allow);
    assert_eq!(again.decision_id, allowed.decision_id);

    let other = deploy().redeeming(&approval).key("run-2");
    assert_eq!(world.answer(&other).await, "DENY Redeemed");
    let without = deploy().redeeming(&approval);
    assert_eq!(world.answer(&without).await, "DENY Redeemed");
}

#[tokio::test]
async fn without_a_key_the_second_redemption_is_denied() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let redeem = deploy().redeeming(&approval);
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
    assert_eq!(world.answer(&redeem).await, "DENY Redeemed");
}

#[tokio::test]
async fn an_empty_key_is_a_key_like_any_other() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let redeem = deploy().redeeming(&approval).key("");
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "DENY Redeemed"
    );
}

#[tokio::test]
async fn the_key_of_the_opening_may_redeem_too() {
    let world = World::new();
    let approval = world.approved(&deploy().key("k")).await;
    let redeem = deploy().redeeming(&approval).key("k");
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
    assert_eq!(world.answer(&redeem).await, "ALLOW granted by REDEEMED");
}

#[tokio::test]
async fn after_the_redemption_people_are_asked_anew() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    let next = world.open(&deploy()).await;
    assert_ne!(next.id, approval.id);
    assert_eq!(next.status(), Status::Pending);
    assert_eq!(next.votes, []);
}

#[tokio::test]
async fn a_check_opens_nothing() {
    let world = World::new();
    let checked = world.authorize(&deploy().check()).await.unwrap();
    assert_eq!(checked.decision(), Decision::RequireApproval);
    assert_eq!(checked.approval, ApprovalPart::None);
    // A kept decision is no way around either.
    assert_eq!(world.answer(&deploy().check()).await, "REQUIRE_APPROVAL");
    let (page, _) = world
        .approvals
        .list(ApprovalFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(page.approvals, []);
}

#[tokio::test]
async fn a_check_does_not_redeem() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let check = deploy().redeeming(&approval).check();
    assert_eq!(
        world.answer(&check).await,
        "error: an approval cannot be redeemed in mode CHECK, which has no side effects"
    );
    let explained = world.authorizer.explain(check.0).await;
    assert!(explained.is_err());
    assert_eq!(world.status(&approval).await, Status::Approved);
}

#[tokio::test]
async fn explaining_opens_nothing() {
    let world = World::new();
    let (authorized, _) = world.authorizer.explain(deploy().0).await.unwrap();
    assert_eq!(authorized.approval, ApprovalPart::None);
    let (page, _) = world
        .approvals
        .list(ApprovalFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(page.approvals, []);
}

#[tokio::test]
async fn every_step_is_recorded_once_and_in_order() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    let steps: Vec<(u64, Status)> = world
        .records(&approval.id)
        .await
        .iter()
        .map(|record| (record.version, record.to))
        .collect();
    assert_eq!(
        steps,
        [
            (1, Status::Pending),
            (2, Status::Pending),
            (3, Status::Approved),
            (4, Status::Redeemed),
        ]
    );
}

#[tokio::test]
async fn a_denied_redemption_is_recorded() {
    let world = World::new();
    let approval = world.open(&deploy()).await;
    let other = deploy().version("2.0").redeeming(&approval);
    world.authorize(&other).await.unwrap();
    let last = world.records(&approval.id).await.pop().unwrap();
    assert!(matches!(last.what, Happening::Refused(..)), "{last:?}");
}

#[tokio::test]
async fn the_caller_says_what_became_of_it_once() {
    let world = World::new();
    let approval = world.approved(&deploy()).await;
    let report = |caller: &str, outcome| ReportedBy {
        id: approval.id.clone(),
        caller: caller.to_owned(),
        outcome,
        detail: None,
        request_id: None,
    };
    let succeeded = report(CALLER, ReportedOutcome::Succeeded);
    world.approvals.report(succeeded.clone()).await.unwrap_err();
    world
        .authorize(&deploy().redeeming(&approval))
        .await
        .unwrap();
    let stranger = report("stranger", ReportedOutcome::Failed);
    world.approvals.report(stranger).await.unwrap_err();
    world.approvals.report(succeeded.clone()).await.unwrap();
    world.approvals.report(succeeded).await.unwrap();
    let failed = report(CALLER, ReportedOutcome::Failed);
    world.approvals.report(failed).await.unwrap_err();
}

#[tokio::test]
async fn an_unknown_approval_allows_nothing() {
    let world = World::new();
    for name in ["", "nobody", "00000000-0000-0000-0000-000000000000"] {
        let ask = deploy().with(|request| request.approval_id = Some(name.to_owned()));
        let answer = world.authorize(&ask).await;
        assert_eq!(
            words(&answer),
            format!("error: there is no approval `{name}`")
        );
    }
}

/// Reading the server's clock is no difference between what was approved and what is redeemed.
#[tokio::test]
async fn a_gate_that_reads_the_clock_can_be_redeemed_later() {
    let world = World::new();
    let gate = r#"
        @id("late-is-reviewed") @approval("prod")
        forbid (principal, action == Action::"Deploy", resource)
        when { context has now && context.now > datetime("2020-01-01") };
    "#;
    world.add("policies.cedar", gate);
    let approval = world.approved(&deploy()).await;
    world.clock.forward(crate::world::MINUTE);
    assert_eq!(
        world.answer(&deploy().redeeming(&approval)).await,
        "ALLOW granted by REDEEMED"
    );
}
