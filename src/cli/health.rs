//! `countersign health`: whether a server serves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rustls::{ClientConfig, RootCertStore};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Outcome;
use super::dial::DialArguments;
use super::output::print;
use super::runtime::in_runtime;

/// How long the operators' port may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// The server: `host:port`, `https://host:port` or `unix:/path`.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_SERVER",
        default_value = "127.0.0.1:50051"
    )]
    server: String,
    /// Ask its operators' port instead, which is never encrypted: `host:port`.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["service", "tls_ca", "tls_certificate", "tls_key"])]
    operators: Option<String>,
    /// One of its services, such as `countersign.v1.AuthorizationService`; all of them together if none is named.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    #[command(flatten)]
    dial: DialArguments,
}

/// Asks a server how it is, and says so.
pub(super) fn run(arguments: &HealthArguments) -> anyhow::Result<Outcome> {
    if let Some(address) = &arguments.operators {
        return in_runtime(ask_operators_port(address));
    }
    let status = in_runtime(async {
        let dialled = arguments.dial.dial(&arguments.server).await?;
        let mut client = HealthClient::new(dialled.channel.clone());
        let request = dialled.request(HealthCheckRequest {
            service: arguments.service.clone(),
        });
        let answer = client.check(request).await?;
        Ok::<_, anyhow::Error>(answer.into_inner().status())
    })?;
    print(status.as_str_name());
    Ok(match status {
        ServingStatus::Serving => Outcome::Success,
        ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
            Outcome::Findings
        }
    })
}

/// Asks `/healthz/ready` at `address`.
async fn ask_operators_port(address: &str) -> anyhow::Result<Outcome> {
    let roots = RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Nothing is encrypted here; a client cannot be made without saying how it would be.
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(PATIENCE)
        .no_proxy()
        .build()?;
    let asked = client.get(format!("http://{address}/healthz/ready")).send();
    let answer = asked
        .await
        .with_context(|| format!("`{address}` cannot be asked"))?;
    let is_ready = answer.status().is_success();
    print(answer.text().await?.trim_end());
    Ok(if is_ready {
        Outcome::Success
    } else {
        Outcome::Findings
    })
}
