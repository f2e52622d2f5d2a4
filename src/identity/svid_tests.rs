//! Tests of what certificates say of their holders.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::*;

const ID: &str = "spiffe://example.org/ns/prod/sa/pay";

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn svid(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.not_after = date_time_ymd(2030, 1, 2);
    params.subject_alt_names = vec![uri(ID)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

fn read(leaf: &CertificateDer<'_>) -> Result<Svid, SvidFault> {
    let domains = ["other.org", "example.org"].map(|name| TrustDomain::parse(name).unwrap());
    svid_of(leaf, &domains)
}

fn check(change: impl FnOnce(&mut CertificateParams), expected: &Result<(), SvidFault>) {
    assert_eq!(&read(&svid(change)).map(|_| ()), expected);
}

#[test]
fn an_svid_names_its_holder_and_its_end() {
    let svid = read(&svid(|_| {})).unwrap();
    assert_eq!(svid.id.to_string(), ID);
    assert_eq!(svid.not_after, "2030-01-02T00:00:00Z".parse().unwrap());
}

#[test]
fn usages_may_be_absent_and_names_of_other_kinds_do_not_matter() {
    check(|params| params.key_usages.clear(), &Ok(()));
    check(|params| params.extended_key_usages.clear(), &Ok(()));
    check(
        |params| {
            let dns = SanType::DnsName("pay.example.org".try_into().unwrap());
            params.subject_alt_names.insert(0, dns);
        },
        &Ok(()),
    );
    check(|params| params.is_ca = IsCa::ExplicitNoCa, &Ok(()));
}

#[test]
fn exactly_one_uri_names_the_holder() {
    check(
        |params| params.subject_alt_names.clear(),
        &Err(SvidFault::NoUri),
    );
    check(
        |params| {
            params.subject_alt_names =
                vec![SanType::DnsName("pay.example.org".try_into().unwrap())];
        },
        &Err(SvidFault::NoUri),
    );
    check(
        |params| params.subject_alt_names.push(uri("https://example.org/")),
        &Err(SvidFault::SeveralUris),
    );
    check(
        |params| params.subject_alt_names.push(uri(ID)),
        &Err(SvidFault::SeveralUris),
    );
    check(
        |params| params.subject_alt_names = vec![uri("https://example.org/")],
        &Err(SvidFault::BadId {
            source: BadSpiffeId::Scheme,
        }),
    );
    check(
        |params| params.subject_alt_names = vec![uri("spiffe://example.org")],
        &Err(SvidFault::NoPath),
    );
}

#[test]
fn a_workload_of_another_trust_domain_is_nobody() {
    check(
        |params| params.subject_alt_names = vec![uri("spiffe://example.org.evil/a")],
        &Err(SvidFault::OtherTrustDomain {
            trust_domain: TrustDomain::parse("example.org.evil").unwrap(),
        }),
    );
    assert!(svid_of(&svid(|_| {}), &[]).is_err());
}

#[test]
fn what_can_sign_certificates_is_no_workload() {
    check(
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        &Err(SvidFault::Authority),
    );
    check(
        |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign),
        &Err(SvidFault::Authority),
    );
    check(
        |params| params.key_usages.push(KeyUsagePurpose::CrlSign),
        &Err(SvidFault::Authority),
    );
}

#[test]
fn a_key_for_something_else_names_nobody() {
    check(
        |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        &Err(SvidFault::NotForSigning),
    );
    check(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        &Err(SvidFault::NotForClients),
    );
    check(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
        &Err(SvidFault::NotForClients),
    );
}

#[test]
fn broken_certificates_and_extensions_are_unreadable() {
    for oid in [
        &[2, 5, 29, 19],
        &[2, 5, 29, 15],
        &[2, 5, 29, 17],
        &[2, 5, 29, 37],
    ] {
        check(
            |params| {
                params.key_usages.clear();
                params.extended_key_usages.clear();
                if oid == &[2, 5, 29, 17] {
                    params.subject_alt_names.clear();
                }
                let broken = CustomExtension::from_oid_content(oid, vec![0xff, 0x03, 0x01]);
                params.custom_extensions.push(broken);
            },
            &Err(SvidFault::Unreadable),
        );
    }
    let whole = svid(|_| {});
    let mut longer = whole.to_vec();
    longer.push(0);
    let shorter = &whole[..whole.len() - 1];
    for bytes in [longer.as_slice(), shorter, &[], b"certificate"] {
        let found = read(&CertificateDer::from(bytes));
        assert_eq!(found, Err(SvidFault::Unreadable));
    }
}
