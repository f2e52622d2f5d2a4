//! Tests of what the files may hold, first and later.

use std::fs;

use rcgen::{KeyPair, date_time_ymd};

use crate::identity::tls::ClientCertificates;
use crate::identity::tls::test_bench::{ID, Place, authority, client_of, revocations, time};

use super::*;

#[test]
fn a_reload_puts_a_new_certificate_in_force_and_tells_so() {
    let place = Place::new();
    let tls = place.open().unwrap();
    let mut generations = tls.generations();
    assert!(!tls.reload().unwrap());
    assert!(!generations.has_changed().unwrap());
    place.write_server(|params| params.not_after = date_time_ymd(2041, 1, 1));
    assert!(tls.reload().unwrap());
    assert_eq!(*generations.borrow_and_update(), 2);
    let expires = tls.current().certificate_expires;
    assert_eq!(expires, time("2041-01-01T00:00:00Z"));
    assert!(!tls.reload().unwrap());
}

#[test]
fn a_faulty_reload_changes_nothing() {
    let place = Place::new();
    let tls = place.open().unwrap();
    let client = client_of(&place.ca, |_| {});
    for (name, text, fault) in [
        ("tls.crt", "", "holds no certificate"),
        (
            "tls.crt",
            "-----BEGIN CERTIFICATE-----\n!\n",
            "cannot be read as PEM",
        ),
        ("tls.key", "", "holds no private key"),
        ("ca.crt", "nothing", "`tls.client_ca` names"),
    ] {
        let good = fs::read_to_string(place.dir.path().join(name)).unwrap();
        place.write(name, text);
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains(fault) && error.contains(name), "{error}");
        assert_eq!(tls.current().number, 1);
        assert_eq!(place.connect(&tls, Some(&client)), Ok(Some(ID.to_owned())));
        place.write(name, &good);
    }
    fs::remove_file(place.dir.path().join("tls.key")).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Unreadable { .. })));
    assert_eq!(tls.current().number, 1);
}

#[test]
fn after_a_reload_old_connections_can_be_told_that_nobody_vouches_for_them() {
    let mut place = Place::new();
    place.files.client_crl = Some(place.write("ca.crl", &revocations(&place.ca, &[], 2030)));
    let tls = place.open().unwrap();
    let now = place.clock.now();
    let chain = client_of(&place.ca, |_| {}).chain();
    let vouches = |tls: &Tls| tls.current().still_vouches(Some(&chain), now);
    assert!(vouches(&tls));
    let end = time("2040-01-01T00:00:01Z");
    assert!(!tls.current().still_vouches(Some(&chain), end));
    assert!(!tls.current().still_vouches(None, now));
    place.write("ca.crl", &revocations(&place.ca, &[7], 2030));
    assert!(tls.reload().unwrap());
    assert!(!vouches(&tls));
    place.write("ca.crl", &revocations(&place.ca, &[], 2030));
    assert!(tls.reload().unwrap());
    assert!(vouches(&tls));
    let next = authority("next");
    place.write("ca.crt", &next.pem());
    place.write("ca.crl", &revocations(&next, &[], 2030));
    assert!(tls.reload().unwrap());
    assert!(!vouches(&tls));
}

#[test]
fn files_that_cannot_serve_are_named_with_their_key() {
    let check = |prepare: fn(&mut Place), expected: &str| {
        let mut place = Place::new();
        prepare(&mut place);
        let error = place.open().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(
        |place| place.write_server(|params| params.not_after = date_time_ymd(2026, 6, 1)),
        "tls.crt`, whose first certificate ended at 2026-06-01T00:00:00Z",
    );
    check(
        |place| place.write_server(|params| params.not_before = date_time_ymd(2026, 6, 2)),
        "tls.crt`, whose first certificate begins at 2026-06-02T00:00:00Z",
    );
    check(
        |place| drop(place.write("tls.key", &KeyPair::generate().unwrap().serialize_pem())),
        "tls.key`, which is not the key of the first certificate",
    );
    check(
        |place| place.files.client_ca = None,
        "`required`, which needs `tls.client_ca`",
    );
    check(
        |place| place.files.trust_domains.clear(),
        "needs `tls.trust_domains`",
    );
    check(
        |place| {
            let crl = revocations(&place.ca, &[], 2026);
            place.files.client_crl = Some(place.write("ca.crl", &crl));
        },
        "`tls.client_crl` names",
    );
    check(
        |place| {
            place.files.client_crl = Some(place.dir.path().join("ca.crl"));
        },
        "ca.crl`, which cannot be read",
    );
    check(
        |place| {
            place.files.client = ClientCertificates::Optional;
            place.files.client_crl = place.files.client_ca.take();
        },
        "`tls.client_crl` has no meaning",
    );
    check(
        |place| drop(place.write("tls.crt", &"x".repeat(1024 * 1024 + 1))),
        "longer than 1048576 bytes",
    );
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let set_mode = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&place.files.key, permissions).unwrap();
    };
    set_mode(0o640);
    let warnings = place.open().unwrap().current().warnings.clone();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("tls.key"), "{warnings:?}");
    assert!(warnings[0].contains("640"), "{warnings:?}");
    set_mode(0o600);
    assert!(place.open().unwrap().current().warnings.is_empty());
}

#[test]
fn no_debug_output_holds_the_key() {
    let place = Place::new();
    let tls = place.open().unwrap();
    let written = format!("{tls:?}{:?}", tls.current());
    assert!(!written.contains("PrivateKey"), "{written}");
    assert!(!written.contains("server"), "{written}");
}
