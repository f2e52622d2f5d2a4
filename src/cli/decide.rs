//! `countersign authorize` and `countersign explain`, against a server or a policy directory.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use tonic::Status;
use tonic_types::StatusExt;

use crate::config::Config;
use crate::grpc::proto::authorization_service_client::AuthorizationServiceClient;
use crate::grpc::proto::authorization_service_server::AuthorizationService;
use crate::grpc::proto::{
    AuthorizeRequest, AuthorizeResponse, Decision, Entity, EntityRef, ExplainRequest, Mode, Struct,
};
use crate::grpc::{AuthorizationApi, Gatekeeper, json};
use crate::policy::parse_entity;
use crate::server::{Parts, SystemClock, load_problems};
use crate::usecase::ReloadOutcome;
use crate::usecase::callers::Method;

use super::Outcome;
use super::arguments::CompileArguments;
use super::decision::{show_explanation, show_response};
use super::dial::DialArguments;
use super::output::{print_json, say, visible, visible_line};
use super::report::{Format, render};
use super::runtime::in_runtime;
use super::wait;

#[derive(Debug, Args)]
pub(super) struct DecideArguments {
    /// Ask this server: `host:port`, `https://host:port` or `unix:/path`.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "policies")]
    server: Option<String>,
    /// Decide here, with the policies of this directory.
    #[arg(long, value_name = "DIR", required_unless_present = "server")]
    policies: Option<PathBuf>,
    #[command(flatten)]
    dial: DialArguments,
    #[command(flatten)]
    compile: CompileArguments,
    /// Read the request from a file (`-` for standard input), in the JSON form of `AuthorizeRequest`.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "principal", "action", "resource", "context", "principal_attributes", "resource_attributes", "on_behalf_of", "justification",
    ])]
    request: Option<PathBuf>,
    /// Who wants to act: `Type::"id"`.
    #[arg(long, value_name = "ENTITY", required_unless_present = "request")]
    principal: Option<String>,
    /// What they want to do: `Deploy`, or a full UID.
    #[arg(long, value_name = "ACTION", required_unless_present = "request")]
    action: Option<String>,
    /// What they want to act on: `Type::"id"`.
    #[arg(long, value_name = "ENTITY", required_unless_present = "request")]
    resource: Option<String>,
    /// The circumstances, as a JSON object.
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// Attributes of a principal that is not stored, as a JSON object.
    #[arg(long, value_name = "JSON")]
    principal_attributes: Option<String>,
    /// Attributes of a resource that is not stored, as a JSON object.
    #[arg(long, value_name = "JSON")]
    resource_attributes: Option<String>,
    /// On whose behalf the principal acts, nearest first; may be given several times.
    #[arg(long, value_name = "ENTITY")]
    on_behalf_of: Vec<String>,
    /// Why the action is wanted.
    #[arg(long, value_name = "TEXT")]
    justification: Option<String>,
    /// A dry run: open no approval.
    #[arg(long)]
    check: bool,
    /// How the answer is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What is asked of `authorize` beyond the request.
#[derive(Debug, Args)]
pub(super) struct AuthorizeArguments {
    #[command(flatten)]
    decide: DecideArguments,
    /// Redeem this approval; only a server keeps approvals.
    #[arg(long, value_name = "ID", requires = "server", conflicts_with = "check")]
    approval_id: Option<String>,
    /// An idempotency key: the same key with the same request opens one approval, and redeems it once.
    #[arg(long, value_name = "KEY")]
    request_id: Option<String>,
    /// If approval is required, wait until it is decided, and ask again with it.
    #[arg(long, requires = "server", conflicts_with = "check")]
    wait: bool,
}

impl AuthorizeArguments {
    fn to_request(&self) -> anyhow::Result<AuthorizeRequest> {
        let mut request = self.decide.to_request()?;
        if let Some(id) = &self.approval_id {
            request.approval_id.clone_from(id);
        }
        if let Some(key) = &self.request_id {
            request.request_id.clone_from(key);
        }
        Ok(request)
    }
}

/// Decides one request.
pub(super) fn authorize(arguments: &AuthorizeArguments) -> anyhow::Result<Outcome> {
    let request = arguments.to_request()?;
    let decide = &arguments.decide;
    let response = in_runtime(async {
        match &decide.server {
            Some(server) if arguments.wait => {
                wait::authorize(decide.dial.dial(server).await?, request).await
            }
            Some(server) => {
                let dialled = decide.dial.dial(server).await?;
                let mut client = AuthorizationServiceClient::new(dialled.channel.clone());
                let response = client.authorize(dialled.request(request)).await;
                Ok(response.map_err(|status| refusal(&status))?.into_inner())
            }
            None => {
                let request = here(Method::AUTHORIZE, request);
                let response = local(decide)?.authorize(request).await;
                Ok(response.map_err(|status| refusal(&status))?.into_inner())
            }
        }
    })?;
    match decide.format {
        Format::Text => show_response(&response),
        Format::Json => print_json(&json::write("AuthorizeResponse", &response)?),
    }
    Ok(outcome_of(response.decision()))
}

/// Explains one request.
pub(super) fn explain(arguments: &DecideArguments) -> anyhow::Result<Outcome> {
    let request = ExplainRequest {
        request: Some(arguments.to_request()?),
    };
    let explained = in_runtime(async {
        match &arguments.server {
            Some(server) => {
                let dialled = arguments.dial.dial(server).await?;
                let mut client = AuthorizationServiceClient::new(dialled.channel.clone());
                client
                    .explain(dialled.request(request))
                    .await
                    .map_err(|status| refusal(&status))
            }
            None => local(arguments)?
                .explain(here(Method::EXPLAIN, request))
                .await
                .map_err(|status| refusal(&status)),
        }
    })?;
    let explained = explained.into_inner();
    match arguments.format {
        Format::Text => show_explanation(&explained),
        Format::Json => print_json(&json::write("ExplainResponse", &explained)?),
    }
    let decision = explained
        .response
        .as_ref()
        .map_or(Decision::Unspecified, AuthorizeResponse::decision);
    Ok(outcome_of(decision))
}

/// Anything that is not known to be an answer is no decision.
fn outcome_of(decision: Decision) -> Outcome {
    match decision {
        Decision::Allow => Outcome::Success,
        Decision::Deny => Outcome::Denied,
        Decision::RequireApproval => Outcome::ApprovalRequired,
        Decision::Unspecified => Outcome::CouldNotRun,
    }
}

/// A call that comes by no connection: whoever runs this program may ask it everything.
fn here<T>(method: Method, message: T) -> tonic::Request<T> {
    let gatekeeper = Arc::new(Gatekeeper::for_everybody(Arc::new(SystemClock)));
    gatekeeper.let_in(method, message)
}

/// The service, without a server around it.
fn local(arguments: &DecideArguments) -> anyhow::Result<AuthorizationApi> {
    let dir = arguments
        .policies
        .as_deref()
        .ok_or_else(|| anyhow!("name a `--server` or `--policies`"))?;
    let config = Config {
        policy: arguments.compile.to_config(dir),
        ..Config::default()
    };
    let parts = Parts::assemble(&config, None);
    let outcome = parts.reloader.reload();
    for problem in load_problems(&parts)
        .iter()
        .filter(|problem| problem.is_error())
    {
        say(&render(problem));
    }
    match outcome {
        ReloadOutcome::Rejected(_) => {
            bail!("the policies cannot be loaded, so nothing was decided")
        }
        ReloadOutcome::Activated | ReloadOutcome::Unchanged => {
            Ok(AuthorizationApi::new(parts.authorizer))
        }
    }
}

/// A status as a sentence, with the field it is about.
pub(super) fn refusal(status: &Status) -> anyhow::Error {
    let details = status.get_error_details();
    let reason = details
        .error_info()
        .map_or_else(String::new, |info| format!(" ({})", info.reason));
    let message = if status.message().is_empty() {
        "no message"
    } else {
        status.message()
    };
    let message = visible(message);
    anyhow!("no decision: {:?}{reason}: {message}", status.code())
}

impl DecideArguments {
    fn to_request(&self) -> anyhow::Result<AuthorizeRequest> {
        if let Some(path) = &self.request {
            let text = read_text(path)?;
            let request = json::read("AuthorizeRequest", &text)
                .with_context(|| format!("`{}`", path.display()))?;
            return Ok(self.with_mode(request));
        }
        let entity = |name: &str, text: &Option<String>, attributes: &Option<String>| {
            let text = text
                .as_deref()
                .ok_or_else(|| anyhow!("`--{name}` is required"))?;
            let uid = parse(name, text)?;
            let attributes = attributes
                .as_deref()
                .map(|json| read_struct(&format!("{name}-attributes"), json));
            Ok::<_, anyhow::Error>(Entity {
                r#type: uid.r#type,
                id: uid.id,
                attributes: attributes.transpose()?,
                parents: Vec::new(),
            })
        };
        let on_behalf_of: anyhow::Result<Vec<EntityRef>> = self
            .on_behalf_of
            .iter()
            .map(|text| parse("on-behalf-of", text))
            .collect();
        Ok(self.with_mode(AuthorizeRequest {
            principal: Some(entity(
                "principal",
                &self.principal,
                &self.principal_attributes,
            )?),
            action: self.action.clone().unwrap_or_default(),
            resource: Some(entity(
                "resource",
                &self.resource,
                &self.resource_attributes,
            )?),
            context: self
                .context
                .as_deref()
                .map(|json| read_struct("context", json))
                .transpose()?,
            on_behalf_of: on_behalf_of?,
            justification: self.justification.clone().unwrap_or_default(),
            ..AuthorizeRequest::default()
        }))
    }

    fn with_mode(&self, mut request: AuthorizeRequest) -> AuthorizeRequest {
        if self.check {
            request.mode = Mode::Check.into();
        }
        request
    }
}

fn parse(flag: &str, text: &str) -> anyhow::Result<EntityRef> {
    let uid = parse_entity(text).ok_or_else(|| {
        anyhow!(
            "`--{flag}`: `{}` is not an entity: write `Type::\"id\"`",
            visible_line(text)
        )
    })?;
    Ok(EntityRef {
        r#type: uid.type_name,
        id: uid.id,
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input cannot be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("`{}` cannot be read", path.display()))
}

fn read_struct(flag: &str, text: &str) -> anyhow::Result<Struct> {
    json::read_struct(text).with_context(|| format!("`--{flag}` is not a JSON object"))
}
