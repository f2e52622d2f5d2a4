//! A server that asks who calls, and callers with every kind of credential.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use countersign::audit::filter::RecordFilter;
use countersign::audit::proto::record::What;
use countersign::audit::proto::{CallRefused, Record};
use countersign::config::Config;
use countersign::server::{Parts, Server};
use countersign::storage::audit_folder::AuditFolder;
use countersign::usecase::audit_reading::{LogLibrary, Query};
use prost::Message;
use prost::bytes::{Buf, BufMut};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::certificates::{Authority, Pair};
use crate::tokens::Signer;

/// Who may do what. Of two bindings for the same caller each counts for itself.
const BINDINGS: &str = r#"
[caller.deployer]
spiffe = "spiffe://example.org/ci/deployer"
services = ["AuthorizationService"]
speaks_for = ['Agent::"deploy-bot"']

[caller.explainer]
spiffe = "spiffe://example.org/ci/*"
services = ["AuthorizationService/Explain", "PolicyService/GetPolicyStatus"]
speaks_for = ["*"]

[caller.tokens]
issuer = "services"
subject = "planner-*"
services = ["AuthorizationService/Authorize", "ApprovalService"]
speaks_for = ["Agent"]

[caller.people]
issuer = "people"
services = ["ApprovalService", "PolicyService/GetPolicyStatus"]

[caller.auditors]
issuer = "people"
roles = ["auditors"]
services = ["AuditService"]

[caller.acting]
issuer = "people"
services = ["AuthorizationService/Authorize"]
"#;

/// A running server, with everybody who can sign something.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) signer: Signer,
    pub(crate) runtime: Runtime,
    server: Option<Server>,
    address: SocketAddr,
}

/// What a caller shows.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    pub(crate) certificate: Option<Pair>,
    pub(crate) token: Option<String>,
    pub(crate) by_socket: bool,
}

/// The first message of an answer, or the status and this API's reason.
pub(crate) type Answer = Result<Vec<u8>, (Code, String)>;

impl World {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// A world with `more` in its configuration.
    pub(crate) fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, signer) = (Authority::new("authority"), Signer::new());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let server = authority.server();
        write("server.pem", &server.certificate);
        write("server.key", &server.key);
        write("authority.pem", &authority.pem());
        write("revoked.pem", &authority.revocations(&[]));
        write("keys.json", &signer.keys());
        let config = folder.path().join("countersign.toml");
        fs::write(&config, configuration(folder.path(), more)).unwrap();
        let config = Config::load(Some(&config), &std::collections::BTreeMap::new()).unwrap();
        let parts = Parts::for_server(&config, None).unwrap();
        parts.reloader.reload();
        let server = Server::start(&config, parts).unwrap();
        let world = Self {
            address: server.addresses().tcp[0],
            runtime: Runtime::new().unwrap(),
            folder,
            authority,
            signer,
            server: Some(server),
        };
        world.wait_for_keys();
        world
    }

    /// Keys of issuers are read beside the calls, so a first one may come too early.
    fn wait_for_keys(&self) {
        let has_keys = || {
            let signs = self.server().vitals().read().signing_keys;
            signs.iter().all(|(_, fetched, _)| fetched.is_some())
        };
        wait_until(has_keys);
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate of the service `name`, of the trust domain that counts.
    pub(crate) fn service(&self, name: &str) -> Shown {
        let id = format!("spiffe://example.org/{name}");
        Shown {
            certificate: Some(self.authority.service(&id, 7)),
            ..Shown::default()
        }
    }

    pub(crate) fn token(token: String) -> Shown {
        Shown {
            token: Some(token),
            ..Shown::default()
        }
    }

    /// A connection as `shown`, or why there is none.
    pub(crate) fn connect(&self, shown: &Shown) -> Result<Channel, tonic::transport::Error> {
        self.runtime.block_on(async {
            if shown.by_socket {
                let path = format!("unix:{}", self.path("pdp.sock").display());
                return Endpoint::from_shared(path)?.connect().await;
            }
            let mut tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(self.authority.pem()))
                .domain_name("localhost");
            if let Some(Pair { certificate, key }) = &shown.certificate {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            let endpoint = Endpoint::from_shared(format!("https://{}", self.address))?;
            endpoint
                .timeout(Duration::from_secs(20))
                .tls_config(tls)?
                .connect()
                .await
        })
    }

    /// Calls `path` with `message` as it goes over the wire.
    pub(crate) fn call(
        &self,
        channel: &Channel,
        shown: &Shown,
        path: &str,
        message: &[u8],
    ) -> Answer {
        let mut client = tonic::client::Grpc::new(channel.clone());
        let mut request = tonic::Request::new(message.to_vec());
        if let Some(token) = &shown.token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let path = path.parse().unwrap();
        let answered = self.runtime.block_on(async {
            let ready = client.ready().await;
            ready.map_err(|error| Status::from_error(Box::new(error)))?;
            // A stream, so that it does not matter whether the method has one.
            let answer = client.server_streaming(request, path, RawBytes).await?;
            answer.into_inner().message().await
        });
        answered.map(Option::unwrap_or_default).map_err(|status| {
            let reason = status.get_details_error_info();
            (
                status.code(),
                reason.map(|info| info.reason).unwrap_or_default(),
            )
        })
    }

    /// What was recorded as refused, after the server has stopped.
    pub(crate) fn refused(mut self) -> Vec<CallRefused> {
        self.server.take().unwrap().stop();
        let folder = AuditFolder::open(&self.path("audit")).unwrap();
        let query = Query {
            filter: RecordFilter::default(),
            after: None,
            limit: 100_000,
            oldest_first: true,
            search_limit: 100_000,
        };
        let records = folder.query(&query).unwrap().records;
        let refused = records.into_iter().filter_map(|logged| {
            match Record::decode(logged.leaf.as_slice()).unwrap().what {
                Some(What::CallRefused(refused)) => Some(refused),
                _ => None,
            }
        });
        refused.collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

fn configuration(folder: &Path, more: &str) -> String {
    let folder = folder.display();
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let policies = policies.display();
    format!(
        r#"
[server]
listen = ["127.0.0.1:0"]
unix = "{folder}/pdp.sock"
threads = 1
[policy]
dir = "{policies}"
[approvals]
path = "{folder}/approvals.sqlite"
[audit]
path = "{folder}/audit"
heads = ""
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
client_ca = "{folder}/authority.pem"
client_crl = "{folder}/revoked.pem"
client = "optional"
trust_domains = ["example.org"]
[issuer.services]
issuer = "https://services.example"
audiences = ["countersign"]
algorithms = ["ES256"]
keys_file = "{folder}/keys.json"
[issuer.people]
issuer = "https://people.example"
audiences = ["countersign"]
algorithms = ["ES256"]
keys_file = "{folder}/keys.json"
roles_claim = "groups"
people = true
{BINDINGS}
{more}
"#
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a test waits is real time"
)]
pub(crate) fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never was");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Messages as bytes.
#[derive(Clone, Copy, Debug, Default)]
struct RawBytes;

impl tonic::codec::Codec for RawBytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl tonic::codec::Encoder for RawBytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(
        &mut self,
        item: Vec<u8>,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawBytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(
        &mut self,
        buffer: &mut tonic::codec::DecodeBuf<'_>,
    ) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}
