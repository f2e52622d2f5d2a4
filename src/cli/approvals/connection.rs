//! The server that keeps the approvals, and who talks to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::cli::output::say;
use crate::grpc::client;
use crate::grpc::proto::approval_service_client::ApprovalServiceClient;
use crate::grpc::proto::{Approval, GetApprovalRequest};
use crate::identity::DevelopmentLogins;

use super::failure::failure;

/// How long to wait before the one repetition.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// Where the approvals are, and who asks.
#[derive(Debug, Args)]
pub(in crate::cli) struct Connection {
    /// The server: `host:port`, `http://host:port` or `unix:/path`.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_SERVER",
        default_value = "127.0.0.1:50051",
        global = true
    )]
    server: String,
    /// Act as this person, on a server with development logins.
    #[arg(
        long = "as",
        value_name = "NAME",
        env = "COUNTERSIGN_LOGIN",
        global = true
    )]
    login: Option<String>,
    /// Act as the person whose credential is in this file.
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_TOKEN_FILE",
        global = true
    )]
    token_file: Option<PathBuf>,
}

impl Connection {
    /// Connects.
    pub(in crate::cli) async fn open(&self) -> anyhow::Result<Session> {
        let (channel, authorization) = self.dial().await?;
        Ok(Session {
            client: ApprovalServiceClient::new(channel),
            authorization,
        })
    }

    /// Connects, for a client of another service. Answers the credential to send with each call, too.
    pub(in crate::cli) async fn dial(
        &self,
    ) -> anyhow::Result<(Channel, Option<MetadataValue<Ascii>>)> {
        let authorization = match (&self.login, &self.token_file) {
            (Some(_), Some(_)) => bail!(
                "both a login (`--as`, COUNTERSIGN_LOGIN) and a file with a credential (`--token-file`, COUNTERSIGN_TOKEN_FILE) are \
                 given: give one of them"
            ),
            (Some(name), None) => Some(bearer(&DevelopmentLogins::token(name))?),
            (None, Some(path)) => Some(bearer(&read_token(path)?)?),
            (None, None) => None,
        };
        Ok((client::connect(&self.server).await?, authorization))
    }

    /// Says what to do if nobody is named.
    pub(in crate::cli) fn require_person(&self) -> anyhow::Result<()> {
        if self.login.is_none() && self.token_file.is_none() {
            bail!(
                "who votes? Name the file with your credential: `--token-file FILE` or COUNTERSIGN_TOKEN_FILE; on a server with \
                 development logins, your name: `--as NAME` or COUNTERSIGN_LOGIN"
            );
        }
        Ok(())
    }
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the credential in `{}` cannot be read", path.display()))?;
    match text.trim() {
        "" => bail!("`{}` holds no credential", path.display()),
        token => Ok(token.to_owned()),
    }
}

fn bearer(token: &str) -> anyhow::Result<MetadataValue<Ascii>> {
    // The error must not repeat the credential.
    let Ok(mut value) = MetadataValue::try_from(format!("Bearer {token}")) else {
        bail!("the credential has characters that cannot be sent");
    };
    value.set_sensitive(true);
    Ok(value)
}

/// A connection, with the credential of whoever uses it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Session {
    client: ApprovalServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Session {
    /// Nobody's session: it may look.
    pub(in crate::cli) fn anonymous(channel: Channel) -> Self {
        Self {
            client: ApprovalServiceClient::new(channel),
            authorization: None,
        }
    }

    /// The client, for one call.
    pub(in crate::cli) fn client(&self) -> ApprovalServiceClient<Channel> {
        self.client.clone()
    }

    /// A call with the credential.
    pub(in crate::cli) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", authorization.clone());
        }
        request
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

    fn nobody() -> Connection {
        Connection {
            server: "127.0.0.1:1".to_owned(),
            login: None,
            token_file: None,
        }
    }

    #[test]
    fn whoever_votes_must_say_who_they_are() {
        let complaint = nobody().require_person().unwrap_err().to_string();
        assert!(complaint.contains("--as NAME") && complaint.contains("--token-file FILE"));
        let yuki = Connection {
            login: Some("yuki".to_owned()),
            ..nobody()
        };
        assert!(yuki.require_person().is_ok());
    }

    #[test]
    fn a_credential_is_the_trimmed_content_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "  ey.abc\n").unwrap();
        assert_eq!(read_token(&path).unwrap(), "ey.abc");
        std::fs::write(&path, "\n").unwrap();
        assert!(read_token(&path).is_err());
    }

    #[test]
    fn a_credential_that_cannot_be_sent_is_not_repeated() {
        let complaint = bearer("secret\n").unwrap_err();
        assert!(!format!("{complaint:#}").contains("secret"));
        assert!(bearer("secret").unwrap().is_sensitive());
    }

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
