//! Peers that say nothing, too much, or something else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use countersign::grpc::proto::{AuthorizeResponse, Decision};
use prost::bytes::Bytes;
use tonic::Code;

use crate::folder::Folder;
use crate::harness::{Pdp, wait_until};
use crate::requests::small_start;
use crate::wire::{AUTHORIZE, Wire, framed};

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn assert_serves(pdp: &Pdp) {
    assert_eq!(
        pdp.authorize(small_start()).unwrap().decision(),
        Decision::Allow
    );
}

/// A connection on which `words` were said.
fn connect(pdp: &Pdp, words: &[u8]) -> TcpStream {
    let mut peer = TcpStream::connect(pdp.address()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    peer.write_all(words).unwrap();
    peer
}

/// Waits until the server has hung up; what it says before does not matter.
fn assert_hung_up(mut peer: TcpStream, who: &str) {
    match peer.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "{who}: {error}"
        ),
    }
}

#[test]
fn a_peer_that_falls_silent_before_it_has_introduced_itself_is_dropped() {
    let pdp = Pdp::sample();
    let peers = [&b""[..], &PREFACE[..1], &PREFACE[..23]].map(|words| connect(&pdp, words));
    for (peer, who) in peers.into_iter().zip(["silent", "one byte", "almost"]) {
        assert_hung_up(peer, who);
    }
    assert_serves(&pdp);
}

#[test]
fn a_peer_that_speaks_another_protocol_is_dropped() {
    let pdp = Pdp::sample();
    let words: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a handshake of TLS",
        &[0xff; 4_096],
        &[PREFACE, &[0xff; 4_096]].concat(),
    ];
    for words in words {
        assert_hung_up(connect(&pdp, words), &String::from_utf8_lossy(words));
    }
    assert_serves(&pdp);
}

#[test]
fn one_connection_too_many_is_refused_until_another_leaves() {
    let pdp = Pdp::start_with(Folder::sample(), |config| config.server.max_connections = 3);
    // The client of the test itself is the first.
    assert_serves(&pdp);
    let peers = [Wire::connect(&pdp), Wire::connect(&pdp)];
    assert_hung_up(connect(&pdp, PREFACE), "the fourth");
    assert_serves(&pdp);
    drop(peers);
    wait_until("there is room again", || {
        let mut peer = connect(&pdp, &[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat());
        peer.read(&mut [0; 9]).is_ok_and(|length| length > 0)
    });
}

#[test]
fn calls_beyond_those_one_connection_may_have_open_wait_for_their_turn() {
    let pdp = Pdp::start_with(Folder::sample(), |config| {
        config.server.max_concurrent_streams = 2;
    });
    // Once it has been answered, the client knows the limit.
    assert_serves(&pdp);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let mut client = pdp.client();
            pdp.runtime
                .spawn(async move { client.authorize(small_start()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(
            pdp.wait(call).unwrap().unwrap().into_inner().decision(),
            Decision::Allow
        );
    }
}

#[test]
fn a_body_that_is_no_request_gets_a_status_and_no_decision() {
    let pdp = Pdp::sample();
    let whole = framed(&small_start());
    let bodies: [(&str, Bytes); 7] = [
        ("no message", Bytes::new()),
        ("half a frame", whole.slice(..3)),
        ("half a message", whole.slice(..whole.len() - 1)),
        (
            "another message behind it",
            [&whole[..], &whole[..]].concat().into(),
        ),
        (
            "no protobuf",
            Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]),
        ),
        (
            "compressed, without a word on how",
            Bytes::from_static(&[1, 0, 0, 0, 1, 0]),
        ),
        (
            "a length of 4 GiB",
            Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 0]),
        ),
    ];
    for (what, body) in bodies {
        let answer = Wire::connect(&pdp)
            .call(&pdp, AUTHORIZE, &[], body)
            .unwrap();
        if what == "another message behind it" && answer.code() == Code::Ok {
            // The first alone is the request of a call that has one.
            assert_eq!(
                answer.message::<AuthorizeResponse>().decision(),
                Decision::Allow
            );
            continue;
        }
        let codes = [
            Code::Internal,
            Code::InvalidArgument,
            Code::Unimplemented,
            Code::OutOfRange,
        ];
        assert!(codes.contains(&answer.code()), "{what}: {answer:?}");
        assert!(answer.body.is_empty(), "{what}: {answer:?}");
    }
    assert_serves(&pdp);
}

#[test]
fn what_the_server_does_not_have_is_unimplemented() {
    let pdp = Pdp::sample();
    let mut wire = Wire::connect(&pdp);
    for path in [
        "/",
        "/countersign.v1.AuthorizationService/Fly",
        "/countersign.v1.NoSuchService/Authorize",
    ] {
        let answer = wire.call(&pdp, path, &[], framed(&small_start())).unwrap();
        assert_eq!(
            (answer.http_status, answer.code()),
            (200, Code::Unimplemented),
            "{path}: {answer:?}"
        );
    }
}

#[test]
fn headers_over_their_limit_are_refused_and_the_connection_lives() {
    let pdp = Pdp::sample();
    let mut wire = Wire::connect(&pdp);
    let long = "x".repeat(20_000);
    let answer = wire.call(
        &pdp,
        AUTHORIZE,
        &[("x-long", &long)],
        framed(&small_start()),
    );
    assert!(
        answer.is_err() || answer.is_ok_and(|answer| answer.http_status == 431),
        "it was answered"
    );
    let answer = wire
        .call(&pdp, AUTHORIZE, &[], framed(&small_start()))
        .unwrap();
    assert_eq!(answer.code(), Code::Ok);
}
