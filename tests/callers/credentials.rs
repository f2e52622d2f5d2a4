//! Credentials that are not good.

use rcgen::{CertificateParams, IsCa, SanType, date_time_ymd};
use serde_json::{Value, json};
use tonic::Code;

use crate::certificates::Authority;
use crate::tokens::{SERVICES, Signer, coded, now, unsigned};
use crate::world::{Shown, World};

const PATH: &str = "/countersign.v1.AuthorizationService/Authorize";

/// Tokens that are wrong in one way each.
fn faulty_tokens(world: &World) -> Vec<(&'static str, String)> {
    let signed = |changes: Value| world.signer.token(SERVICES, "planner-1", &changes);
    let header = |header: Value| {
        let message = unsigned(&header, SERVICES, "planner-1", &json!({}));
        format!("{message}.{}", coded([7; 64]))
    };
    let good = signed(json!({}));
    let (body, _) = good.rsplit_once('.').unwrap();
    vec![
        (
            "expired",
            signed(json!({"iat": now() - 900, "exp": now() - 300})),
        ),
        ("not yet valid", signed(json!({"nbf": now() + 300}))),
        ("for somebody else", signed(json!({"aud": "payroll"}))),
        ("for nobody", signed(json!({"aud": null}))),
        ("of nobody", signed(json!({"iss": null}))),
        (
            "of a stranger",
            signed(json!({"iss": "https://evil.example"})),
        ),
        ("without an end", signed(json!({"exp": null}))),
        ("good for too long", signed(json!({"exp": now() + 400_000}))),
        ("about nobody", signed(json!({"sub": null}))),
        (
            "of type none",
            format!(
                "{}.",
                unsigned(&json!({"alg": "none"}), SERVICES, "planner-1", &json!({}))
            ),
        ),
        (
            "signed with a shared key",
            header(json!({"alg": "HS256", "typ": "JWT", "kid": "k"})),
        ),
        (
            "signed by an algorithm that is not taken",
            header(json!({"alg": "ES384", "typ": "JWT", "kid": "k"})),
        ),
        (
            "with an unknown key",
            header(json!({"alg": "ES256", "typ": "JWT", "kid": "x"})),
        ),
        (
            "with an extension that must be understood",
            header(json!({"alg": "ES256", "typ": "JWT", "kid": "k", "crit": ["b64"]})),
        ),
        (
            "of another type",
            header(json!({"alg": "ES256", "typ": "logout+jwt", "kid": "k"})),
        ),
        (
            "signed by somebody else",
            Signer::new().token(SERVICES, "planner-1", &json!({})),
        ),
        ("without its signature", format!("{body}.")),
        (
            "with half a signature",
            format!("{body}.{}", coded([7; 30])),
        ),
        ("of nothing", ".".to_owned()),
        ("no token at all", "planner-1".to_owned()),
        ("a development login", "development:yuki".to_owned()),
        (
            "longer than a token can be",
            format!("{good}{}", "a".repeat(9_000)),
        ),
    ]
}

#[test]
fn a_token_that_is_not_good_is_refused() {
    let world = World::new();
    let faults = faulty_tokens(&world);
    let good = world.signer.token(SERVICES, "planner-1", &json!({}));
    let (_, signature) = good.rsplit_once('.').unwrap();
    let anybody = world.connect(&Shown::default()).unwrap();
    let call = |token: &str| world.call(&anybody, &World::token(token.to_owned()), PATH, &[]);
    // An empty request is not let through either, but for another reason.
    assert_eq!(call(&good).unwrap_err().0, Code::InvalidArgument);
    for (what, token) in &faults {
        let (code, reason) = call(token).unwrap_err();
        assert_eq!(
            (code, reason.as_str()),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            "{what}"
        );
    }
    let records = world.refused();
    let recorded: u64 = records.iter().map(|record| 1 + record.unrecorded).sum();
    assert_eq!(recorded, faults.len() as u64);
    // What is recorded holds nothing of what was shown.
    let told: String = records
        .iter()
        .map(|record| record.detail.as_str())
        .collect();
    assert!(
        !told.contains(signature) && !told.contains("planner"),
        "{told}"
    );
}

#[test]
fn a_certificate_that_is_not_good_is_refused() {
    let world = World::new();
    let id = "spiffe://example.org/ci/deployer";
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        world.authority.service_with(id, 7, |params| change(params))
    };
    let faults = [
        (
            "expired",
            with(&|params| params.not_after = date_time_ymd(2021, 1, 1)),
        ),
        (
            "not yet valid",
            with(&|params| params.not_before = date_time_ymd(2080, 1, 1)),
        ),
        (
            "of another authority",
            Authority::new("authority").service(id, 7),
        ),
        (
            "of another trust domain",
            world
                .authority
                .service("spiffe://elsewhere.example/ci/deployer", 7),
        ),
        (
            "with two names",
            with(&|params| params.subject_alt_names.push(uri("spiffe://example.org/b"))),
        ),
        (
            "without a name",
            with(&|params| params.subject_alt_names.clear()),
        ),
        (
            "with a name that is none",
            with(&|params| params.subject_alt_names = vec![uri("https://example.org/a")]),
        ),
        (
            "of an authority itself",
            with(&|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ),
    ];
    let call = |shown: &Shown| {
        // With TLS 1.3 a client learns only at its first call that its certificate was refused.
        let channel = world.connect(shown)?;
        Ok::<_, tonic::transport::Error>(world.call(&channel, shown, PATH, &[]))
    };
    let good = call(&world.service("ci/deployer")).unwrap();
    assert_eq!(good.unwrap_err().0, Code::InvalidArgument);
    for (what, pair) in faults {
        let shown = Shown {
            certificate: Some(pair),
            ..Shown::default()
        };
        if let Ok(answer) = call(&shown) {
            let (code, reason) = answer.unwrap_err();
            assert!(
                reason.is_empty() && code != Code::InvalidArgument,
                "{what}: {code:?} {reason}"
            );
        }
    }
    let records = world.refused();
    assert!(
        records.iter().all(|record| record.reason == "handshake"),
        "{records:?}"
    );
    assert!(records.len() >= 8, "{records:?}");
}

#[test]
fn who_shows_a_certificate_and_a_token_is_who_the_token_says() {
    let world = World::new();
    let token = world.signer.token(SERVICES, "other", &json!({}));
    let shown = Shown {
        token: Some(token),
        ..world.service("ci/deployer")
    };
    let channel = world.connect(&shown).unwrap();
    let (code, reason) = world.call(&channel, &shown, PATH, &[]).unwrap_err();
    assert_eq!(
        (code, reason.as_str()),
        (Code::PermissionDenied, "CALLER_NOT_PERMITTED")
    );
}
