//! A folder with certificates, and handshakes in memory with whoever serves from it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
use tempfile::TempDir;

use crate::identity::TrustDomain;
use crate::usecase::ports::Clock;

use super::{ClientCertificates, Tls, TlsError, TlsFiles};

pub(super) const ID: &str = "spiffe://example.org/pay";

#[derive(Debug)]
pub(super) struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub(super) fn set(&self, text: &str) {
        *self.0.lock().unwrap() = time(text);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(super) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate in PEM, and its key.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pair {
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let items = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        items.map(Result::unwrap).collect()
    }
}

pub(super) fn signed(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.serial_number = Some(SerialNumber::from(7));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    let certificate = params.signed_by(&key, authority).unwrap();
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

pub(super) fn client_of(
    authority: &Authority,
    change: impl FnOnce(&mut CertificateParams),
) -> Pair {
    signed(authority, |params| {
        params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(params);
    })
}

pub(super) fn revocations(authority: &Authority, serials: &[u64], next_year: i32) -> String {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(next_year, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(authority).unwrap().pem().unwrap()
}

/// A folder with everything a server needs, at noon of the first of June 2026.
pub(super) struct Place {
    pub(super) dir: TempDir,
    pub(super) ca: Authority,
    pub(super) clock: Arc<ManualClock>,
    pub(super) files: TlsFiles,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let ca = authority("ours");
        let at = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            certificate: at("tls.crt"),
            key: at("tls.key"),
            client_ca: Some(at("ca.crt")),
            client_crl: None,
            client: ClientCertificates::Required,
            trust_domains: vec![TrustDomain::parse("example.org").unwrap()],
        };
        let clock = Mutex::new(time("2026-06-01T12:00:00Z"));
        let place = Self {
            clock: Arc::new(ManualClock(clock)),
            files,
            dir,
            ca,
        };
        place.write_server(|_| {});
        place.write("ca.crt", &place.ca.pem());
        place
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn write_server(&self, change: impl FnOnce(&mut CertificateParams)) {
        let server = signed(&self.ca, change);
        self.write("tls.crt", &server.certificate);
        self.write("tls.key", &server.key);
    }

    pub(super) fn open(&self) -> Result<Tls, TlsError> {
        Tls::open(
            self.files.clone(),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
    }

    /// Who the server takes the client for, or why it does not.
    pub(super) fn connect(
        &self,
        tls: &Tls,
        client: Option<&Pair>,
    ) -> Result<Option<String>, String> {
        let generation = tls.current();
        let mut server = ServerConnection::new(Arc::clone(&generation.server)).unwrap();
        shake_hands(&mut self.client(client), &mut server).map_err(|error| error.to_string())?;
        assert_eq!(server.alpn_protocol(), Some(b"h2".as_slice()));
        match generation.peer(server.peer_certificates()) {
            Ok(svid) => Ok(svid.map(|svid| svid.id.to_string())),
            Err(fault) => Err(fault.to_string()),
        }
    }

    pub(super) fn client(&self, client: Option<&Pair>) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(pair.chain(), key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let name = "localhost".try_into().unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }
}

/// Carries bytes until the server is content, or says why it is not.
pub(super) fn shake_hands(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        if !server.is_handshaking() {
            return Ok(());
        }
    }
    panic!("the handshake does not end")
}
