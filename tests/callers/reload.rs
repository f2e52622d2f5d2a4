//! What a reload takes away is gone at once, and what it cannot read changes nothing.

use std::fs;

use serde_json::json;
use tonic::Code;

use crate::certificates::Authority;
use crate::tokens::{SERVICES, Signer};
use crate::world::{Shown, World, wait_until};

const PATH: &str = "/countersign.v1.PolicyService/GetPolicyStatus";
const DECIDE: &str = "/countersign.v1.AuthorizationService/Authorize";

#[test]
fn a_certificate_that_a_reload_revokes_ends_its_connections() {
    let world = World::new();
    let revoked = Shown {
        certificate: Some(world.authority.service("spiffe://example.org/ci/a", 9)),
        ..Shown::default()
    };
    let kept = world.service("ci/b");
    let (first, second) = (
        world.connect(&revoked).unwrap(),
        world.connect(&kept).unwrap(),
    );
    let is_served = |shown, channel| world.call(channel, shown, PATH, &[]).is_ok();
    assert!(is_served(&revoked, &first) && is_served(&kept, &second));
    fs::write(world.path("revoked.pem"), world.authority.revocations(&[9])).unwrap();
    world.server().reload();
    wait_until(|| !is_served(&revoked, &first));
    assert!(is_served(&kept, &second));
}

#[test]
fn an_authority_that_a_reload_replaces_vouches_for_nobody_any_more() {
    let world = World::new();
    let shown = world.service("ci/a");
    let channel = world.connect(&shown).unwrap();
    assert!(world.call(&channel, &shown, PATH, &[]).is_ok());
    let other = Authority::new("other");
    fs::write(world.path("authority.pem"), other.pem()).unwrap();
    fs::write(world.path("revoked.pem"), other.revocations(&[])).unwrap();
    world.server().reload();
    wait_until(|| world.call(&channel, &shown, PATH, &[]).is_err());
    let welcome = Shown {
        certificate: Some(other.service("spiffe://example.org/ci/a", 7)),
        ..Shown::default()
    };
    let channel = world.connect(&welcome).unwrap();
    assert!(world.call(&channel, &welcome, PATH, &[]).is_ok());
}

#[test]
fn a_key_that_a_reload_takes_away_signs_nothing_any_more() {
    let world = World::new();
    let shown = World::token(world.signer.token(SERVICES, "planner-1", &json!({})));
    let channel = world.connect(&shown).unwrap();
    let code = |shown| world.call(&channel, shown, DECIDE, &[]).unwrap_err().0;
    // Known from the first call on.
    assert_eq!(code(&shown), Code::InvalidArgument);
    assert_eq!(code(&shown), Code::InvalidArgument);
    let next = Signer::new();
    fs::write(world.path("keys.json"), next.keys()).unwrap();
    world.server().reload();
    assert_eq!(code(&shown), Code::Unauthenticated);
    let fresh = World::token(next.token(SERVICES, "planner-1", &json!({})));
    assert_eq!(code(&fresh), Code::InvalidArgument);
}

#[test]
fn what_a_reload_cannot_read_changes_nothing() {
    let world = World::new();
    let shown = world.service("ci/a");
    let channel = world.connect(&shown).unwrap();
    for file in [
        "server.pem",
        "server.key",
        "authority.pem",
        "revoked.pem",
        "keys.json",
    ] {
        let good = fs::read(world.path(file)).unwrap();
        fs::write(world.path(file), "not what it was").unwrap();
        world.server().reload();
        assert!(world.call(&channel, &shown, PATH, &[]).is_ok(), "{file}");
        let fresh = world.connect(&shown).unwrap();
        assert!(world.call(&fresh, &shown, PATH, &[]).is_ok(), "{file}");
        fs::write(world.path(file), good).unwrap();
    }
}
