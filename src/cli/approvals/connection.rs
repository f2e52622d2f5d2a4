//! The server that keeps the approvals, and who talks to it.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::cli::dial::{DialArguments, Dialled};
use crate::cli::output::say;
use crate::grpc::proto::approval_service_client::ApprovalServiceClient;
use crate::grpc::proto::{Approval, GetApprovalRequest};

use super::failure::failure;

/// How long to wait before the one repetition.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// Where the approvals are, and who asks.
#[derive(Debug, Args)]
pub(in crate::cli) struct Connection {
    /// The server: `host:port`, `https://host:port` or `unix:/path`.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_SERVER",
        default_value = "127.0.0.1:50051",
        global = true
    )]
    server: String,
    #[command(flatten)]
    dial: DialArguments,
}

impl Connection {
    /// Connects.
    pub(in crate::cli) async fn open(&self) -> anyhow::Result<Session> {
        Ok(Session::new(self.dial().await?))
    }

    /// Connects, for a client of another service.
    pub(in crate::cli) async fn dial(&self) -> anyhow::Result<Dialled> {
        self.dial.dial(&self.server).await
    }

    /// Says what to do if nobody is named.
    pub(in crate::cli) fn require_person(&self) -> anyhow::Result<()> {
        if !self.dial.names_somebody() {
            bail!(
                "who votes? Name the file with your credential: `--token-file FILE` or COUNTERSIGN_TOKEN_FILE; on a server with \
                 development logins, your name: `--as NAME` or COUNTERSIGN_LOGIN"
            );
        }
        Ok(())
    }
}

/// A connection, with the credential of whoever uses it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Session {
    client: ApprovalServiceClient<Channel>,
    dialled: Dialled,
}

impl Session {
    /// Talks over a connection.
    pub(in crate::cli) fn new(dialled: Dialled) -> Self {
        Self {
            client: ApprovalServiceClient::new(dialled.channel.clone()),
            dialled,
        }
    }

    /// The client, for one call.
    pub(in crate::cli) fn client(&self) -> ApprovalServiceClient<Channel> {
        self.client.clone()
    }

    /// A call with the credential.
    pub(in crate::cli) fn request<T>(&self, message: T) -> Request<T> {
        self.dialled.request(message)
    }

    /// Reads an approval.
    pub(in crate::cli) async fn get(&self, id: &str) -> anyhow::Result<Approval> {
        let request = self.request(GetApprovalRequest { id: id.to_owned() });
        let response = self.client().get_approval(request).await;
        let response = response.map_err(|status| failure(&status))?;
        there(response.into_inner().approval)
    }
}

/// The approval that every answer carries.
pub(in crate::cli) fn there(approval: Option<Approval>) -> anyhow::Result<Approval> {
    approval.context("the server answered without the approval")
}

/// Calls, and once more if the server was UNAVAILABLE: an answer may have been lost.
///
/// `call` must carry the same idempotency key both times.
pub(in crate::cli) async fn twice<T, F>(call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    twice_after(REPEAT_AFTER, call).await
}

async fn twice_after<T, F>(pause: Duration, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let first = call().await;
    let answer = match first {
        Err(status) if status.code() == Code::Unavailable => {
            say("the server is unavailable; trying once more");
            tokio::time::sleep(pause).await;
            call().await
        }
        first => first,
    };
    answer.map(Response::into_inner)
}

/// An idempotency key that nobody else has.
pub(in crate::cli) fn fresh_key() -> String {
    format!("cli-{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn an_unavailable_server_is_asked_twice_and_no_more() {
        let calls = Cell::new(0);
        let answer: Result<(), Status> = twice_after(Duration::ZERO, || {
            calls.set(calls.get() + 1);
            async { Err(Status::unavailable("not now")) }
        })
        .await;
        assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
        assert_eq!(calls.get(), 2);
    }

    #[tokio::test]
    async fn a_refusal_is_not_repeated() {
        let calls = Cell::new(0);
        let answer: Result<(), Status> = twice_after(Duration::ZERO, || {
            calls.set(calls.get() + 1);
            async { Err(Status::permission_denied("no")) }
        })
        .await;
        assert!(answer.is_err());
        assert_eq!(calls.get(), 1);
    }
}
