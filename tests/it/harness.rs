//! Starts servers and calls them.

use std::future::Future;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use countersign::config::Config;
use countersign::grpc::client::{ClientTls, connect};
use countersign::grpc::proto::authorization_service_client::AuthorizationServiceClient;
use countersign::grpc::proto::batch_authorize_result::Result as BatchItem;
use countersign::grpc::proto::policy_service_client::PolicyServiceClient;
use countersign::grpc::proto::{
    AuthorizeRequest, AuthorizeResponse, BatchAuthorizeRequest, ExplainRequest, ExplainResponse,
    GetPolicyStatusRequest, GetPolicyStatusResponse, ReloadPoliciesRequest, ReloadPoliciesResponse,
};
use countersign::server::{Parts, Server, StartError};
use jiff::SignedDuration;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt;

use crate::folder::Folder;

/// How long anything may take that this machine does by itself; reached only where a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Long enough that nothing in a test comes from it.
pub(crate) const NEVER: SignedDuration = SignedDuration::from_hours(24);

/// Looks until `condition` holds.
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        comes_true(LIMIT, condition),
        "after {LIMIT:?} still not: {what}"
    );
}

/// Looks until `condition` holds, at most for `limit`; answers whether it held.
pub(crate) fn comes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A server on a free port of the loopback interface, with its policies and a client.
pub(crate) struct Pdp {
    pub(crate) folder: Folder,
    pub(crate) runtime: Runtime,
    channel: Channel,
    server: Option<Server>,
    address: SocketAddr,
}

impl Pdp {
    /// Serves the sample policies.
    pub(crate) fn sample() -> Self {
        Self::start(Folder::sample())
    }

    /// Serves `folder`.
    pub(crate) fn start(folder: Folder) -> Self {
        Self::start_with(folder, |_| {})
    }

    /// Serves `folder` with a configuration of its own.
    pub(crate) fn start_with(folder: Folder, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::try_start(folder, adjust).unwrap()
    }

    /// The same, where starting may fail.
    pub(crate) fn try_start(
        folder: Folder,
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        Self::assembled(folder, adjust, |config| Ok(Parts::assemble(config, None)))
    }

    /// Serves `folder` as the program does: what requires approval is kept in a file beside the policies, and whoever says a name is
    /// believed. The file outlives the server.
    pub(crate) fn try_keep(
        folder: Folder,
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        let path = folder.beside("approvals.sqlite");
        let audit = folder.beside("audit");
        let adjust = |config: &mut Config| {
            config.approvals.path = path;
            config.audit.heads = audit.with_file_name("heads.txt");
            config.audit.path = audit;
            config.identity.development_logins = true;
            adjust(config);
        };
        Self::assembled(folder, adjust, |config| Parts::for_server(config, None))
    }

    fn assembled(
        folder: Folder,
        adjust: impl FnOnce(&mut Config),
        assemble: impl FnOnce(&Config) -> Result<Parts, StartError>,
    ) -> Result<Self, StartError> {
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.server.threads = 1;
        config.policy.dir = folder.path();
        config.identity.unauthenticated_callers = true;
        // What a test sees of a change comes from watching the files.
        config.policy.rescan_interval = NEVER;
        adjust(&mut config);
        let parts = assemble(&config)?;
        parts.reloader.reload();
        let server = Server::start(&config, parts)?;
        let address = server.addresses().tcp[0];
        let runtime = Runtime::new().unwrap();
        let channel = runtime
            .block_on(connect(&address.to_string(), &ClientTls::default()))
            .unwrap();
        Ok(Self {
            folder,
            runtime,
            channel,
            server: Some(server),
            address,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a client's future.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(LIMIT, work).await })
            .expect("an answer")
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn client(&self) -> AuthorizationServiceClient<Channel> {
        AuthorizationServiceClient::new(self.channel())
    }

    pub(crate) fn authorize(
        &self,
        request: AuthorizeRequest,
    ) -> Result<AuthorizeResponse, Refusal> {
        self.wait(async { Ok(self.client().authorize(request).await?.into_inner()) })
    }

    pub(crate) fn batch(&self, requests: Vec<AuthorizeRequest>) -> Result<Vec<BatchItem>, Refusal> {
        let batch = BatchAuthorizeRequest { requests };
        let response = self.wait(async { self.client().batch_authorize(batch).await })?;
        Ok(response
            .into_inner()
            .results
            .into_iter()
            .map(|result| result.result.unwrap())
            .collect())
    }

    pub(crate) fn explain(&self, request: AuthorizeRequest) -> Result<ExplainResponse, Refusal> {
        let request = ExplainRequest {
            request: Some(request),
        };
        self.wait(async { Ok(self.client().explain(request).await?.into_inner()) })
    }

    pub(crate) fn status(&self) -> GetPolicyStatusResponse {
        let mut client = PolicyServiceClient::new(self.channel());
        self.wait(client.get_policy_status(GetPolicyStatusRequest {}))
            .unwrap()
            .into_inner()
    }

    /// The version in force; empty if there is none.
    pub(crate) fn version(&self) -> String {
        self.status()
            .active
            .map_or_else(String::new, |active| active.version)
    }

    pub(crate) fn reload(&self) -> Result<ReloadPoliciesResponse, Refusal> {
        let mut client = PolicyServiceClient::new(self.channel());
        self.wait(async {
            Ok(client
                .reload_policies(ReloadPoliciesRequest {})
                .await?
                .into_inner())
        })
    }

    pub(crate) fn health_client(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }

    /// What health checks of `service` hear.
    pub(crate) fn health(&self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        self.wait(self.health_client().check(request))
            .unwrap()
            .into_inner()
            .status()
    }

    /// A stream of what health checks hear.
    pub(crate) fn watch_health(&self) -> tonic::Streaming<HealthCheckResponse> {
        self.wait(self.health_client().watch(HealthCheckRequest::default()))
            .unwrap()
            .into_inner()
    }

    /// Gives the order to stop; the thread ends with the number of connections cut off, and how long it took.
    pub(crate) fn stop(&mut self) -> JoinHandle<(usize, Duration)> {
        let server = self.server.take().expect("it is stopped once");
        std::thread::spawn(move || {
            let start = Instant::now();
            (server.stop(), start.elapsed())
        })
    }

    /// Stops, and hands out what stays: the folder.
    pub(crate) fn into_folder(mut self) -> Folder {
        self.stop().join().unwrap();
        self.folder
    }
}

/// A call without a decision, as the client sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// The reason and domain of `ErrorInfo`.
    pub(crate) reason: String,
    pub(crate) domain: String,
    /// The first field of `BadRequest`.
    pub(crate) field: String,
    pub(crate) retry_after: Option<Duration>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().cloned();
        let (reason, domain) =
            info.map_or_else(Default::default, |info| (info.reason, info.domain));
        let violation = details
            .bad_request()
            .and_then(|bad| bad.field_violations.first());
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason,
            domain,
            field: violation.map_or_else(String::new, |violation| violation.field.clone()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}
