//! Tests of who is let in, with real certificates and real handshakes.

use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};

use crate::identity::SvidFault;
use crate::identity::tls::test_bench::{
    ID, Pair, Place, authority, client_of, revocations, shake_hands, signed, time,
};
use crate::identity::tls::{ClientCertificates, PeerFault};

use super::*;

fn check_refused(tls: &Tls, place: &Place, client: Option<&Pair>, reason: &str) {
    let refusal = place.connect(tls, client).unwrap_err();
    assert!(refusal.contains(reason), "{refusal}");
}

#[test]
fn a_client_is_who_its_certificate_says() {
    let place = Place::new();
    let tls = place.open().unwrap();
    let client = client_of(&place.ca, |_| {});
    assert_eq!(place.connect(&tls, Some(&client)), Ok(Some(ID.to_owned())));
    let generation = tls.current();
    assert_eq!(generation.number, 1);
    assert_eq!(generation.certificate_expires, time("2040-01-01T00:00:00Z"));
}

#[test]
fn a_certificate_that_nothing_vouches_for_ends_the_handshake() {
    let place = Place::new();
    let tls = place.open().unwrap();
    check_refused(&tls, &place, None, "no certificates");
    let stranger = client_of(&authority("theirs"), |_| {});
    check_refused(&tls, &place, Some(&stranger), "UnknownIssuer");
    // The same name does not make it the same authority.
    let double = client_of(&authority("ours"), |_| {});
    check_refused(&tls, &place, Some(&double), "BadSignature");
    let old = client_of(&place.ca, |params| {
        params.not_after = date_time_ymd(2026, 5, 1);
    });
    check_refused(&tls, &place, Some(&old), "expired");
    let young = client_of(&place.ca, |params| {
        params.not_before = date_time_ymd(2026, 7, 1);
    });
    check_refused(&tls, &place, Some(&young), "not valid yet");
    let server = signed(&place.ca, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    check_refused(&tls, &place, Some(&server), "usage");
    let root = client_of(&place.ca, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    check_refused(&tls, &place, Some(&root), "CaUsedAsEndEntity");
}

#[test]
fn a_certificate_that_names_no_workload_of_ours_is_refused_after_the_handshake() {
    let place = Place::new();
    let tls = place.open().unwrap();
    let plain = signed(&place.ca, |_| {});
    check_refused(&tls, &place, Some(&plain), "no SPIFFE ID");
    let foreign = client_of(&place.ca, |params| {
        let id = "spiffe://elsewhere.org/pay".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(id)];
    });
    check_refused(&tls, &place, Some(&foreign), "`elsewhere.org`");
    let two = client_of(&place.ca, |params| {
        params
            .subject_alt_names
            .push(SanType::URI(ID.try_into().unwrap()));
    });
    check_refused(&tls, &place, Some(&two), "more than one URI");
}

#[test]
fn where_certificates_are_optional_a_wrong_one_is_still_refused() {
    let mut place = Place::new();
    place.files.client = ClientCertificates::Optional;
    let tls = place.open().unwrap();
    assert_eq!(place.connect(&tls, None), Ok(None));
    let client = client_of(&place.ca, |_| {});
    assert_eq!(place.connect(&tls, Some(&client)), Ok(Some(ID.to_owned())));
    let stranger = client_of(&authority("theirs"), |_| {});
    check_refused(&tls, &place, Some(&stranger), "UnknownIssuer");
}

#[test]
fn without_an_authority_no_certificate_is_asked_for() {
    let mut place = Place::new();
    place.files.client = ClientCertificates::Optional;
    place.files.client_ca = None;
    let tls = place.open().unwrap();
    let client = client_of(&place.ca, |_| {});
    assert_eq!(place.connect(&tls, Some(&client)), Ok(None));
    let chain = client.chain();
    let generation = tls.current();
    assert_eq!(generation.peer(Some(&chain)), Err(PeerFault::Unasked));
    assert!(!generation.still_vouches(Some(&chain), place.clock.now()));
}

#[test]
fn a_handshake_is_never_cut_short() {
    let place = Place::new();
    let tls = place.open().unwrap();
    let client = client_of(&place.ca, |_| {});
    let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(place.ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(client.chain(), key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        for _ in 0..3 {
            let name = "localhost".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&tls.current().server)).unwrap();
            shake_hands(&mut client, &mut server).unwrap();
            assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn a_revoked_certificate_is_refused() {
    let mut place = Place::new();
    let crl = place.write("ca.crl", &revocations(&place.ca, &[7], 2030));
    place.files.client_crl = Some(crl);
    let tls = place.open().unwrap();
    let revoked = client_of(&place.ca, |_| {});
    check_refused(&tls, &place, Some(&revoked), "Revoked");
    let other = client_of(&place.ca, |params| {
        params.serial_number = Some(SerialNumber::from(8));
    });
    assert_eq!(place.connect(&tls, Some(&other)), Ok(Some(ID.to_owned())));
    let ends = tls.current().revocations_expire;
    assert_eq!(ends, Some(time("2030-01-01T00:00:00Z")));
    // Once the list has ended, nobody knows who was revoked since.
    place.clock.set("2030-01-01T00:00:01Z");
    check_refused(&tls, &place, Some(&other), "list expired");
}

#[test]
fn where_there_are_lists_an_authority_without_one_vouches_for_nobody() {
    let mut place = Place::new();
    let second = authority("second");
    place.write("ca.crt", &format!("{}{}", place.ca.pem(), second.pem()));
    place.files.client_crl = Some(place.write("ca.crl", &revocations(&place.ca, &[], 2030)));
    let tls = place.open().unwrap();
    let client = client_of(&place.ca, |_| {});
    assert_eq!(place.connect(&tls, Some(&client)), Ok(Some(ID.to_owned())));
    let unknown = client_of(&second, |_| {});
    check_refused(&tls, &place, Some(&unknown), "UnknownRevocationStatus");
    let warnings = tls.current().warnings.join("");
    assert!(warnings.contains("authority `CN=second`"), "{warnings}");
    assert!(!warnings.contains("`CN=ours`"), "{warnings}");
}

#[test]
fn a_svid_fault_reads_as_the_peers() {
    assert_eq!(
        PeerFault::from(SvidFault::NoUri).to_string(),
        SvidFault::NoUri.to_string()
    );
}
