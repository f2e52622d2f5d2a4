//! Where a server listens, and what stands in its way.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use countersign::grpc::client::{ClientTls, connect};
use countersign::grpc::proto::Decision;
use countersign::grpc::proto::authorization_service_client::AuthorizationServiceClient;

use crate::folder::Folder;
use crate::harness::Pdp;
use crate::requests::small_start;

/// Serves on a unix socket at `path` too.
fn start_at(folder: Folder, path: &Path) -> Result<Pdp, String> {
    let started = Pdp::try_start(folder, |config| config.server.unix = Some(path.to_owned()));
    started.map_err(|error| {
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    })
}

fn decision_through(pdp: &Pdp, path: &Path) -> Decision {
    let address = format!("unix:{}", path.display());
    let answer = pdp.wait(async {
        let channel = connect(&address, &ClientTls::default()).await.unwrap();
        AuthorizationServiceClient::new(channel)
            .authorize(small_start())
            .await
    });
    answer.unwrap().into_inner().decision()
}

#[test]
fn a_unix_socket_serves_its_owner_and_group_and_goes_with_the_server() {
    let folder = Folder::sample();
    let path = folder.beside("pdp.sock");
    let mut pdp = start_at(folder, &path).unwrap();
    assert_eq!(decision_through(&pdp, &path), Decision::Allow);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    pdp.stop().join().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_socket_that_nobody_listens_on_any_more_is_replaced() {
    let folder = Folder::sample();
    let path = folder.beside("pdp.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let pdp = start_at(folder, &path).unwrap();
    assert_eq!(decision_through(&pdp, &path), Decision::Allow);
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let folder = Folder::sample();
    let path = folder.beside("pdp.sock");
    let first = start_at(folder, &path).unwrap();
    let error = start_at(Folder::sample(), &path).map(drop).unwrap_err();
    assert_eq!(
        error,
        format!(
            "cannot listen on `{}`: another process listens there",
            path.display()
        )
    );
    assert_eq!(decision_through(&first, &path), Decision::Allow);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("precious");
    fs::write(&path, "text").unwrap();
    let error = start_at(Folder::sample(), &path).map(drop).unwrap_err();
    assert_eq!(
        error,
        format!(
            "cannot listen on `{}`: it exists and is not a socket",
            path.display()
        )
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let started = Pdp::try_start(Folder::sample(), |config| {
        config.server.listen = vec![address];
    });
    let error = started.map(drop).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on `{address}`"));
    assert!(error.source().unwrap().to_string().contains("in use"));
}
