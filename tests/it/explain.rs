//! What Explain says of a decision.

use countersign::grpc::proto::authorization_service_client::AuthorizationServiceClient;
use countersign::grpc::proto::{
    AuthorizeRequest, AuthorizeResponse, DenyReason, Effect, ExplainRequest, ExplainResponse, Mode,
    PolicyExplanation, PolicyOutcome,
};
use tonic::Code;

use crate::folder::Folder;
use crate::harness::{Pdp, Refusal};
use crate::requests::{
    Change, agent_deployment, entity, flag, number, role_grant, script, small_start, text,
};

fn policy<'e>(explained: &'e ExplainResponse, id: &str) -> &'e PolicyExplanation {
    explained
        .policies
        .iter()
        .find(|policy| policy.id == id)
        .expect(id)
}

/// Each permit that came near: its id, what failed, where it stands.
fn near(explained: &ExplainResponse) -> Vec<[&str; 3]> {
    let misses = explained.nearest_permits.iter();
    misses
        .map(|miss| [miss.id.as_str(), &miss.failed, &miss.location])
        .collect()
}

fn deployment_by(pipeline: &str, service: &str) -> AuthorizeRequest {
    let mut request = agent_deployment();
    request.principal = Some(entity("Pipeline", pipeline));
    request.resource = Some(entity("Service", service));
    request
}

#[test]
fn every_applicable_policy_is_told_with_what_became_of_it() {
    let pdp = Pdp::sample();
    let explained = pdp
        .explain(script().context("as_root", flag(true)))
        .unwrap();
    let found: Vec<_> = explained
        .policies
        .iter()
        .map(|it| {
            (
                it.id.as_str(),
                it.effect(),
                it.outcome(),
                it.condition.as_str(),
                it.rule.as_str(),
            )
        })
        .collect();
    let (held, failed) = (PolicyOutcome::Satisfied, PolicyOutcome::NotSatisfied);
    let expected = [
        (
            "destructive-scripts-need-sign-off",
            Effect::Gate,
            failed,
            "context.destructive",
            "prod-root",
        ),
        (
            "root-scripts-need-sign-off",
            Effect::Gate,
            held,
            "",
            "prod-root",
        ),
        ("sre-runs-scripts", Effect::Permit, held, "", ""),
        (
            "unreviewed-scripts-never-run",
            Effect::Forbid,
            failed,
            "unless { context.reviewed }",
            "",
        ),
        (
            "wide-prod-scripts-need-sign-off",
            Effect::Gate,
            failed,
            "context.host_count > 5",
            "prod-root",
        ),
    ];
    assert_eq!(found, expected);
    let gate = policy(&explained, "root-scripts-need-sign-off");
    assert_eq!(gate.location, "scripts.cedar:14");
    assert_eq!(
        gate.annotations["description"],
        "Running a script as root needs a sign-off."
    );
    assert_eq!(
        explained.relevant_context,
        ["as_root", "destructive", "host_count", "hosts", "reviewed"]
    );
}

#[test]
fn a_policy_that_cannot_be_evaluated_is_told_with_the_error() {
    let folder = Folder::sample();
    let forbid = "@id(\"overflows\") forbid (principal, action == Action::\"StartInstances\", resource)\n\
        when { context.public_ip == false } when { context.count * 9223372036854775807 < 0 };";
    folder.write("overflow.cedar", forbid);
    std::fs::remove_dir_all(folder.path().join("tests")).unwrap();
    let pdp = Pdp::start(folder);
    let explained = pdp.explain(small_start()).unwrap();
    let policy = policy(&explained, "overflows");
    assert_eq!(policy.outcome(), PolicyOutcome::Error);
    assert_eq!(policy.condition, "context.count * 9223372036854775807 < 0");
    assert!(policy.error.contains("overflow"), "{}", policy.error);
    assert_eq!(
        explained.response.unwrap().deny_reason(),
        DenyReason::PolicyError
    );
}

#[test]
fn the_decision_is_what_a_dry_run_of_authorize_answers() {
    let pdp = Pdp::sample();
    for request in [
        small_start(),
        agent_deployment(),
        role_grant(),
        script().context("reviewed", flag(false)),
    ] {
        let explained = pdp.explain(request.clone()).unwrap().response.unwrap();
        let answer = pdp
            .authorize(AuthorizeRequest {
                mode: Mode::Check.into(),
                ..request
            })
            .unwrap();
        assert_eq!(
            AuthorizeResponse {
                decision_id: answer.decision_id.clone(),
                ..explained
            },
            answer
        );
    }
}

#[test]
fn the_nearest_permit_names_the_condition_that_failed() {
    let pdp = Pdp::sample();
    let explained = pdp
        .explain(small_start().context("region", text("us-east-1")))
        .unwrap();
    let condition = "[\"eu-central-1\", \"eu-west-1\"].contains(context.region)";
    assert_eq!(
        near(&explained),
        [[
            "capacity-agents-start-instances",
            condition,
            "compute.cedar:5"
        ]]
    );
    let sentence = &explained.nearest_permits[0].explanation;
    assert_eq!(
        *sentence,
        format!("the condition `{condition}` does not hold")
    );
}

#[test]
fn the_nearest_permits_name_the_part_of_the_scope_that_does_not_fit() {
    let pdp = Pdp::sample();
    let explained = pdp.explain(deployment_by("payments-ci", "search")).unwrap();
    let agents = "principal is Agent in Team::\"delivery\"";
    let own = "resource in Team::\"payments\"";
    let others = "principal is Pipeline in Team::\"storefront\"";
    let expected = [
        [
            "delivery-agents-deploy-product-services",
            agents,
            "deploy.cedar:6",
        ],
        ["payments-pipelines-deploy-payments", own, "deploy.cedar:15"],
        [
            "storefront-pipelines-deploy-storefront",
            others,
            "deploy.cedar:15",
        ],
    ];
    assert_eq!(near(&explained), expected);
    let sentence = &explained.nearest_permits[1].explanation;
    assert_eq!(
        *sentence,
        format!("the resource is `Service::\"search\"`, and the permit is for `{own}`")
    );
}

#[test]
fn what_fails_least_is_nearest() {
    let pdp = Pdp::sample();
    let explained = pdp.explain(deployment_by("payments-ci", "login")).unwrap();
    let ids: Vec<&str> = near(&explained).iter().map(|miss| miss[0]).collect();
    let expected = [
        "payments-pipelines-deploy-payments",
        "delivery-agents-deploy-product-services",
        "storefront-pipelines-deploy-storefront",
    ];
    assert_eq!(ids, expected, "the first fails by its resource alone");
}

#[test]
fn only_a_denial_without_a_permit_has_nearest_permits() {
    let pdp = Pdp::sample();
    for request in [
        small_start(),
        agent_deployment(),
        script().context("reviewed", flag(false)),
    ] {
        assert_eq!(
            near(&pdp.explain(request).unwrap()),
            Vec::<[&str; 3]>::new()
        );
    }
}

#[test]
fn a_request_that_cannot_be_decided_cannot_be_explained() {
    let pdp = Pdp::sample();
    let bad = small_start().context("count", number(1.5));
    let refusal = pdp.explain(bad.clone()).unwrap_err();
    assert_eq!(refusal, pdp.authorize(bad).unwrap_err());
}

#[test]
fn there_must_be_a_request_to_explain() {
    let pdp = Pdp::sample();
    let mut client: AuthorizationServiceClient<_> = pdp.client();
    let status = pdp
        .wait(client.explain(ExplainRequest { request: None }))
        .unwrap_err();
    let refusal = Refusal::from(status);
    assert_eq!(
        (refusal.code, refusal.field.as_str()),
        (Code::InvalidArgument, "request")
    );
}
