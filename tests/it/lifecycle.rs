//! From start to stop: health, reflection, deadlines, draining.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use countersign::grpc::proto::{AuthorizeResponse, Decision};
use jiff::SignedDuration;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::folder::Folder;
use crate::harness::{Pdp, wait_until};
use crate::requests::small_start;
use crate::wire::{AUTHORIZE, WATCH, Wire, framed};

const SERVICES: [&str; 4] = [
    "",
    "countersign.v1.ApprovalService",
    "countersign.v1.AuthorizationService",
    "countersign.v1.PolicyService",
];
/// The policies of the sample that start instances; without this text they do not parse.
const FILE: &str = "compute.cedar";

fn broken() -> Folder {
    let folder = Folder::sample();
    folder.edit(FILE, "context.count > 8", "context.count >");
    folder
}

fn health(pdp: &Pdp) -> [ServingStatus; 4] {
    SERVICES.map(|service| pdp.health(service))
}

#[test]
fn until_the_first_good_load_there_are_no_decisions_and_health_says_so() {
    let pdp = Pdp::start(broken());
    assert_eq!(health(&pdp), [ServingStatus::NotServing; 4]);
    let refusals = [
        pdp.authorize(small_start()).unwrap_err(),
        pdp.batch(vec![small_start()]).unwrap_err(),
        pdp.explain(small_start()).unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::Unavailable, "NO_POLICIES")
        );
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
    }
    let status = pdp.status();
    assert_eq!(status.active, None);
    assert_eq!(status.last_attempt.unwrap().problems[0].file, FILE);

    pdp.folder
        .edit(FILE, "context.count >", "context.count > 8");
    wait_until("every service is healthy", || {
        health(&pdp) == [ServingStatus::Serving; 4]
    });
    assert_eq!(
        pdp.authorize(small_start()).unwrap().decision(),
        Decision::Allow
    );
}

#[test]
fn a_server_may_start_before_its_directory_is_there() {
    let folder = Folder::sample();
    let (here, away) = (folder.path(), folder.beside("away"));
    fs::rename(&here, &away).unwrap();
    let pdp = Pdp::start(folder);
    assert_eq!(
        pdp.authorize(small_start()).unwrap_err().code,
        Code::Unavailable
    );
    fs::rename(&away, &here).unwrap();
    wait_until("it is healthy", || pdp.health("") == ServingStatus::Serving);
}

#[test]
fn a_reload_that_fails_leaves_health_alone() {
    let pdp = Pdp::sample();
    pdp.folder
        .edit(FILE, "context.count > 8", "context.count >");
    pdp.reload().unwrap_err();
    assert_eq!(health(&pdp), [ServingStatus::Serving; 4]);
}

#[test]
fn watchers_hear_when_it_begins_to_serve() {
    let pdp = Pdp::start(broken());
    let mut watch = pdp.watch_health();
    let mut next = || pdp.wait(watch.message()).unwrap().unwrap().status();
    assert_eq!(next(), ServingStatus::NotServing);
    pdp.folder
        .edit(FILE, "context.count >", "context.count > 8");
    assert_eq!(next(), ServingStatus::Serving);
}

#[test]
fn the_health_of_an_unknown_service_is_not_found() {
    let pdp = Pdp::sample();
    let service = "countersign.v1.NoSuchService".to_owned();
    let status = pdp
        .wait(pdp.health_client().check(HealthCheckRequest { service }))
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[test]
fn a_deadline_that_has_passed_is_noticed_by_the_server() {
    let pdp = Pdp::sample();
    let mut wire = Wire::connect(&pdp);
    let answer = wire
        .call(
            &pdp,
            AUTHORIZE,
            &[("grpc-timeout", "1n")],
            framed(&small_start()),
        )
        .unwrap();
    assert_eq!(
        (answer.code(), answer.body.len()),
        (Code::DeadlineExceeded, 0),
        "{answer:?}"
    );
    let status = tonic::Status::from_header_map(&answer.headers).unwrap();
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "DEADLINE_EXCEEDED"
    );
}

#[test]
fn a_deadline_that_leaves_time_or_cannot_be_read_changes_nothing() {
    let pdp = Pdp::sample();
    let mut wire = Wire::connect(&pdp);
    for timeout in ["1H", "10S", "99999999m", "soon", "", "-1S"] {
        let answer = wire
            .call(
                &pdp,
                AUTHORIZE,
                &[("grpc-timeout", timeout)],
                framed(&small_start()),
            )
            .unwrap();
        assert_eq!(answer.code(), Code::Ok, "{timeout}: {answer:?}");
        assert_eq!(
            answer.message::<AuthorizeResponse>().decision(),
            Decision::Allow
        );
    }
}

#[test]
fn a_call_on_a_connection_that_grew_old_is_still_answered() {
    let pdp = Pdp::start_with(Folder::sample(), |config| {
        config.server.max_connection_age = SignedDuration::from_millis(100);
    });
    let mut wire = Wire::connect(&pdp);
    let under_way = wire.open(&pdp, AUTHORIZE, &[]).unwrap();
    wait_until("the connection is asked to leave", || !wire.is_open(&pdp));
    let answer = under_way.finish(&pdp, framed(&small_start())).unwrap();
    assert_eq!(answer.code(), Code::Ok);
    let mut next = Wire::connect(&pdp);
    assert_eq!(
        next.call(&pdp, AUTHORIZE, &[], framed(&small_start()))
            .unwrap()
            .code(),
        Code::Ok
    );
}

#[test]
fn while_it_stops_a_call_under_way_is_answered_and_nobody_else_is_waited_for() {
    let mut pdp = Pdp::sample();
    let silent = TcpStream::connect(pdp.address()).unwrap();
    let mut watch = pdp.watch_health();
    assert_eq!(
        pdp.wait(watch.message()).unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let mut wire = Wire::connect(&pdp);
    let under_way = wire.open(&pdp, AUTHORIZE, &[]).unwrap();
    // Answered after the headers of the other call have arrived, as all of a connection comes in its order.
    assert_eq!(
        wire.call(&pdp, AUTHORIZE, &[], framed(&small_start()))
            .unwrap()
            .code(),
        Code::Ok
    );

    let stopping = pdp.stop();
    assert_eq!(
        pdp.wait(watch.message()).unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    wait_until("nobody new is let in", || {
        TcpStream::connect(pdp.address()).is_err()
    });
    wait_until("the connection is asked to leave", || !wire.is_open(&pdp));
    assert!(!stopping.is_finished(), "it waits for the call");
    let answer = under_way.finish(&pdp, framed(&small_start())).unwrap();
    assert_eq!(
        answer.message::<AuthorizeResponse>().decision(),
        Decision::Allow
    );

    let (cut_off, took) = stopping.join().unwrap();
    assert_eq!(cut_off, 0);
    assert!(
        took < Duration::from_secs(10),
        "{took:?}, and the limit is 20 s"
    );
    drop(silent);
}

#[test]
fn what_does_not_end_is_cut_off() {
    let mut pdp = Pdp::start_with(Folder::sample(), |config| {
        config.server.drain_timeout = SignedDuration::from_millis(300);
    });
    let mut wire = Wire::connect(&pdp);
    let under_way = wire.open(&pdp, AUTHORIZE, &[]).unwrap();
    wire.call(&pdp, AUTHORIZE, &[], framed(&small_start()))
        .unwrap();
    let (cut_off, took) = pdp.stop().join().unwrap();
    assert_eq!(cut_off, 1);
    assert!(took >= Duration::from_millis(300), "{took:?}");
    under_way.finish(&pdp, framed(&small_start())).unwrap_err();
}

#[test]
fn a_watch_on_a_connection_that_grew_old_does_not_hold_up_the_stop() {
    let mut pdp = Pdp::start_with(Folder::sample(), |config| {
        config.server.max_connection_age = SignedDuration::from_millis(100);
    });
    let mut wire = Wire::connect(&pdp);
    let watch = wire.open(&pdp, WATCH, &[]).unwrap();
    let _watch = watch
        .begin(&pdp, framed(&HealthCheckRequest::default()))
        .unwrap();
    wait_until("the connection is asked to leave", || !wire.is_open(&pdp));
    let (cut_off, took) = pdp.stop().join().unwrap();
    assert_eq!(cut_off, 0);
    assert!(
        took < Duration::from_secs(10),
        "{took:?}, and the limit is 20 s"
    );
}

#[test]
fn without_anybody_there_it_stops_at_once() {
    let (cut_off, took) = Pdp::sample().stop().join().unwrap();
    assert_eq!(cut_off, 0);
    assert!(took < Duration::from_secs(10), "{took:?}");
}
