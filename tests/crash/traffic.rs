//! Clients that open, vote and redeem as fast as they can, until the program is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use countersign::grpc::proto::approval_service_client::ApprovalServiceClient;
use countersign::grpc::proto::authorization_service_client::AuthorizationServiceClient;
use countersign::grpc::proto::{Decision, VoteRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::ledger::{Item, Ledger, PEOPLE};
use crate::program::Program;

/// How many clients there are at once.
const CLIENTS: usize = 8;
/// How long a call may take before it counts as not answered.
const CALL: Duration = Duration::from_secs(10);

/// A vote by `name`.
pub(crate) fn signed(name: &str, vote: VoteRequest) -> Request<VoteRequest> {
    let mut request = Request::new(vote);
    let value = format!("Bearer development:{name}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request.set_timeout(CALL);
    request
}

/// Lets clients work for `life`, then kills the program under them, and enters what they were told.
pub(crate) async fn until_killed(mut program: Program, ledger: &mut Ledger, life: Duration) {
    let numbers = Arc::new(AtomicU32::new(ledger.next));
    let channel = program.connect().await;
    let mut clients = JoinSet::new();
    let runtime = tokio::runtime::Handle::current();
    for _ in 0..CLIENTS {
        let client = work(channel.clone(), Arc::clone(&numbers));
        clients.spawn_on(client, &runtime);
    }
    tokio::time::sleep(life).await;
    program.kill();
    while let Some(items) = clients.join_next().await {
        ledger.enter(items.unwrap());
    }
    ledger.next = numbers.load(Ordering::SeqCst);
}

/// One client's items, each as far as it got. Ends with the first call that fails.
async fn work(channel: Channel, numbers: Arc<AtomicU32>) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        let mut item = Item {
            number: numbers.fetch_add(1, Ordering::SeqCst),
            ..Item::default()
        };
        let lived = live(&channel, &mut item).await;
        items.push(item);
        if let Err(status) = lived {
            // A server that is gone answers nothing; a refusal would be a fault.
            let is_gone = matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::Cancelled
            );
            assert!(is_gone, "{status:?}");
            return items;
        }
    }
}

/// The life of one approval. What is about to be sent is noted before, what was acknowledged after.
async fn live(channel: &Channel, item: &mut Item) -> Result<(), Status> {
    let mut agent = AuthorizationServiceClient::new(channel.clone());
    let mut people = ApprovalServiceClient::new(channel.clone());
    let response = agent.authorize(item.request()).await?.into_inner();
    assert_eq!(response.decision(), Decision::RequireApproval);
    let approval = *response.approval.unwrap();
    item.saw(approval.version);
    item.opened = Some(approval.clone());
    for name in PEOPLE {
        item.votes.insert(name, false);
        let voted = people
            .vote(signed(name, item.vote(&approval, name)))
            .await?;
        item.votes.insert(name, true);
        item.saw(voted.into_inner().approval.unwrap().version);
    }
    item.is_redeeming = true;
    let response = agent
        .authorize(item.redemption(&approval.id))
        .await?
        .into_inner();
    assert_eq!(response.decision(), Decision::Allow, "{response:?}");
    item.saw(response.approval.unwrap().version);
    item.redeemed = Some(response.decision_id);
    Ok(())
}
