//! A server as it is run where it matters: encrypted, its callers known and bound, measured, traced, recorded.
//!
//! Spans go to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names; without one they are not made.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use countersign::config::{CallerConfig, Config, StoreChoice};
use countersign::server::{Parts, Server, Surroundings, SystemClock, start_background};
use countersign::telemetry::{OtelEnvironment, Telemetry, TelemetrySettings};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::load::ClientTls;

/// A folder with the certificates of a server and of a client.
pub(super) struct Credentials(TempDir);

impl Credentials {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        fs::write(folder.path().join("authority.pem"), authority.pem()).expect("a file");
        let names = [
            (
                "server",
                SanType::DnsName("localhost".try_into().expect("a name")),
            ),
            (
                "client",
                SanType::URI("spiffe://example.org/bench".try_into().expect("a name")),
            ),
        ];
        for (name, san) in names {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![san];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ];
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            let file = |kind: &str| folder.path().join(format!("{name}.{kind}"));
            fs::write(file("pem"), certificate.pem()).expect("a file");
            fs::write(file("key"), key.serialize_pem()).expect("a file");
        }
        Self(folder)
    }

    pub(super) fn path(&self) -> &str {
        self.0.path().to_str().expect("a path")
    }

    /// What the client shows.
    pub(super) fn client(&self) -> ClientTls {
        let file = |name: &str| fs::read(self.0.path().join(name)).expect("a file");
        let certificate = |name: &str| CertificateDer::from_pem_slice(&file(name)).expect("PEM");
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate("authority.pem"))
            .expect("an authority");
        let key = PrivateKeyDer::from_pem_slice(&file("client.key")).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate("client.pem")], key)
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        ClientTls(Arc::new(config))
    }
}

/// Serves `dir`, records in `audit`, with the certificates in `credentials`.
pub(super) fn countersign(dir: &Path, audit: &Path, credentials: &Path) {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.server.threads = 1;
    config.policy.dir = dir.to_owned();
    config.approvals.store = StoreChoice::None;
    config.audit.path = audit.join("audit");
    config.audit.heads = audit.join("heads.txt");
    let file = |name: &str| Some(credentials.join(name));
    config.tls.certificate = file("server.pem");
    config.tls.key = file("server.key");
    config.tls.client_ca = file("authority.pem");
    config.tls.trust_domains = vec!["example.org".to_owned()];
    let caller = CallerConfig {
        spiffe: Some("spiffe://example.org/bench".to_owned()),
        services: vec!["AuthorizationService".to_owned()],
        speaks_for: vec!["User".to_owned(), "Agent".to_owned(), "*".to_owned()],
        ..CallerConfig::default()
    };
    config.caller.insert("bench".to_owned(), caller);
    let background = start_background().expect("a runtime");
    let environment = OtelEnvironment::of(&std::env::vars().collect()).expect("OTEL variables");
    let settings = TelemetrySettings::new("bench".to_owned());
    let clock = Arc::new(SystemClock);
    let telemetry = Telemetry::start(&settings, &environment, clock, background.handle());
    let telemetry = telemetry.expect("telemetry");
    let surroundings = Surroundings {
        background,
        observer: telemetry.observer(),
        metrics: None,
    };
    let parts = Parts::within(surroundings, &config, None).expect("its parts");
    parts.reloader.reload();
    let server = Server::start(&config, parts).expect("it starts");
    telemetry.watch(server.vitals());
    println!("{}", server.addresses().tcp[0]);
    let signals = server.signals().expect("signals");
    server.run(signals);
}

/// The echo, with the same certificates.
pub(super) async fn echo(credentials: &Path) {
    use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
    let file = |name: &str| fs::read(credentials.join(name)).expect("a file");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(file("server.pem"), file("server.key")))
        .client_ca_root(Certificate::from_pem(file("authority.pem")));
    Server::builder()
        .tls_config(tls)
        .expect("TLS")
        .add_service(super::AuthorizationServiceServer::new(super::Echo::new()))
        .serve_with_incoming(incoming)
        .await
        .expect("it serves");
}
