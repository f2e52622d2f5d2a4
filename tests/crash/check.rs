//! Compares what the program says after a crash with what it had acknowledged before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;

use countersign::grpc::proto::approval_service_client::ApprovalServiceClient;
use countersign::grpc::proto::authorization_service_client::AuthorizationServiceClient;
use countersign::grpc::proto::{
    Approval, ApprovalStatus, AuthorizeRequest, Decision, DenyReason, GetApprovalRequest,
    ListApprovalsRequest,
};
use tonic::transport::Channel;

use crate::ledger::{Item, Ledger, PEOPLE};
use crate::program::Program;
use crate::traffic::signed;

/// How much was checked, and how much of it was caught in between: sent, and not acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) approvals: u64,
    in_between: u64,
    of_those_done: u64,
}

impl AddAssign for Checked {
    fn add_assign(&mut self, other: Self) {
        self.approvals += other.approvals;
        self.in_between += other.in_between;
        self.of_those_done += other.of_those_done;
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "checked {} approvals; {} calls died in between, {} of which are known to have been carried out",
            self.approvals, self.in_between, self.of_those_done
        )
    }
}

struct Clients {
    agent: AuthorizationServiceClient<Channel>,
    people: ApprovalServiceClient<Channel>,
}

impl Clients {
    async fn of(program: &Program) -> Self {
        let channel = program.connect().await;
        Self {
            agent: AuthorizationServiceClient::new(channel.clone()),
            people: ApprovalServiceClient::new(channel),
        }
    }

    async fn get(&mut self, id: &str) -> Approval {
        let request = GetApprovalRequest { id: id.to_owned() };
        let found = self.people.get_approval(request).await;
        found
            .unwrap_or_else(|status| panic!("{id} is lost: {status:?}"))
            .into_inner()
            .approval
            .unwrap()
    }

    async fn ask(&mut self, request: AuthorizeRequest) -> (Decision, DenyReason, String, String) {
        let response = self.agent.authorize(request).await.unwrap().into_inner();
        let id = response
            .approval
            .as_ref()
            .map_or_else(String::new, |approval| approval.id.clone());
        (
            response.decision(),
            response.deny_reason(),
            response.decision_id,
            id,
        )
    }
}

/// Checks what the last cycle left behind, then completes it: what was sent in vain is sent again, with the same keys.
pub(crate) async fn last_cycle(program: &Program, ledger: &mut Ledger) -> Checked {
    let mut clients = Clients::of(program).await;
    let mut checked = Checked::default();
    for number in std::mem::take(&mut ledger.unchecked) {
        let item = ledger.items.get_mut(&number).unwrap();
        checked += compare(&mut clients, item).await;
        complete(&mut clients, item).await;
    }
    checked
}

/// Nothing is lost, nothing is there that nobody asked for.
async fn compare(clients: &mut Clients, item: &mut Item) -> Checked {
    let mut checked = Checked {
        approvals: 1,
        ..Checked::default()
    };
    let mut caught = |is_done: bool| {
        checked.in_between += 1;
        checked.of_those_done += u64::from(is_done);
    };
    let Some(opened) = item.opened.clone() else {
        // Whether it was opened cannot be told without its id.
        caught(false);
        return checked;
    };
    let kept = clients.get(&opened.id).await;
    assert_eq!(
        (&kept.request_digest, &kept.view_digest, &kept.open_time),
        (
            &opened.request_digest,
            &opened.view_digest,
            &opened.open_time
        ),
    );
    assert!(kept.version >= item.version, "{item:?}: {kept:?}");
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    for vote in &kept.votes {
        let subject = vote.person.as_ref().unwrap().subject.as_str();
        *counted.entry(subject).or_default() += 1;
    }
    for (name, is_acknowledged) in &item.votes {
        let count = counted.remove(name).unwrap_or(0);
        assert!(count <= 1, "{name} counts {count} times: {kept:?}");
        if *is_acknowledged {
            assert_eq!(count, 1, "a vote of {name} is lost: {kept:?}");
        } else {
            caught(count == 1);
        }
    }
    assert!(counted.is_empty(), "votes from nowhere: {kept:?}");
    let spent = kept.redemption.as_ref().map(|spent| &spent.decision_id);
    match (&item.redeemed, item.is_redeeming) {
        (Some(decision), _) => assert_eq!(spent, Some(decision), "a redemption is lost: {kept:?}"),
        (None, true) => caught(spent.is_some()),
        (None, false) => assert_eq!(spent, None, "redeemed by nobody: {kept:?}"),
    }
    // A redemption nobody heard of is still the only one: who asks again hears of the same decision.
    if item.redeemed.is_none() {
        item.redeemed = spent.cloned();
    }
    assert_eq!(kept.status(), expected_status(&kept), "{kept:?}");
    checked
}

fn expected_status(kept: &Approval) -> ApprovalStatus {
    match (&kept.redemption, kept.votes.len()) {
        (Some(_), 2) => ApprovalStatus::Redeemed,
        (None, 2) => ApprovalStatus::Approved,
        (None, _) => ApprovalStatus::Pending,
        (Some(_), _) => panic!("redeemed without its votes: {kept:?}"),
    }
}

/// Does everything again with the same keys: what was done stays as it is, the rest is done now, once.
async fn complete(clients: &mut Clients, item: &mut Item) {
    // Whatever became of it since: the key is that of the one approval that was opened.
    let (decision, _, _, id) = clients.ask(item.request()).await;
    let expected = if item.redeemed.is_some() {
        Decision::Deny
    } else {
        Decision::RequireApproval
    };
    assert_eq!(decision, expected, "{item:?}");
    match &item.opened {
        Some(known) => assert_eq!(known.id, id, "one request, two approvals"),
        None => item.opened = Some(clients.get(&id).await),
    }
    let opened = item.opened.clone().unwrap();
    for name in PEOPLE {
        let vote = signed(name, item.vote(&opened, name));
        let voted = clients.people.vote(vote).await.unwrap().into_inner();
        item.votes.insert(name, true);
        let approval = voted.approval.unwrap();
        let by_name = approval.votes.iter().filter(|vote| {
            let person = vote.person.as_ref().unwrap();
            person.subject == name
        });
        assert_eq!(by_name.count(), 1, "{approval:?}");
    }
    let mut decisions = BTreeSet::new();
    for _ in 0..2 {
        let (decision, _, id, _) = clients.ask(item.redemption(&opened.id)).await;
        assert_eq!(decision, Decision::Allow, "{item:?}");
        decisions.insert(id);
    }
    decisions.extend(item.redeemed.clone());
    assert_eq!(decisions.len(), 1, "{item:?}: {decisions:?}");
    item.is_redeeming = true;
    item.redeemed = decisions.into_iter().next();
    let stranger = AuthorizeRequest {
        request_id: String::new(),
        ..item.redemption(&opened.id)
    };
    let (decision, reason, ..) = clients.ask(stranger).await;
    assert_eq!(
        (decision, reason),
        (Decision::Deny, DenyReason::ApprovalRedeemed)
    );
}

/// After everything was completed: all of the ledger is there, once, and nothing else.
pub(crate) async fn all(program: &Program, ledger: &Ledger) {
    let mut clients = Clients::of(program).await;
    let mut listed: BTreeMap<String, Approval> = BTreeMap::new();
    let mut asked = ListApprovalsRequest {
        page_size: 200,
        ..ListApprovalsRequest::default()
    };
    loop {
        let page = clients.people.list_approvals(asked.clone()).await.unwrap();
        let page = page.into_inner();
        for approval in page.approvals {
            let twice = listed.insert(approval.request_digest.clone(), approval);
            assert!(twice.is_none(), "one request, two approvals: {twice:?}");
        }
        asked.page_token = page.next_page_token;
        if asked.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), ledger.items.len());
    for item in ledger.items.values() {
        let opened = item.opened.as_ref().unwrap();
        let kept = &listed[&opened.request_digest];
        assert_eq!(kept.id, opened.id);
        assert_eq!(kept.status(), ApprovalStatus::Redeemed);
        assert_eq!(kept.votes.len(), PEOPLE.len());
        let spent = kept.redemption.as_ref().map(|spent| &spent.decision_id);
        assert_eq!(spent, item.redeemed.as_ref());
    }
}
