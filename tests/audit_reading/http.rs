//! The logs over HTTP, as C2SP tlog-tiles says it.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use countersign::http::router;
use countersign::usecase::audit_reading::LogLibrary;
use tower::ServiceExt;

use crate::support::{ONE, folder};

struct Answer {
    status: StatusCode,
    kind: String,
    caching: String,
    body: Vec<u8>,
}

async fn get(library: &Arc<dyn LogLibrary>, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::empty()).unwrap();
    let response = router(Arc::clone(library)).oneshot(request).await.unwrap();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let (kind, caching) = (header("content-type"), header("cache-control"));
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap()
        .to_vec();
    Answer {
        status,
        kind,
        caching,
        body,
    }
}

#[tokio::test]
async fn files_are_served_with_their_types_and_for_how_long_they_hold() {
    let (_root, _logs, folder) = folder([10, 300, 0]);
    let library: Arc<dyn LogLibrary> = Arc::new(folder);
    let prefix = format!("/logs/{ONE}");
    let note = get(&library, "GET", &format!("{prefix}/checkpoint")).await;
    assert_eq!(
        (note.status, note.kind.as_str()),
        (StatusCode::OK, "text/plain; charset=utf-8")
    );
    assert_eq!(note.caching, "no-cache");
    assert_eq!(note.body, library.checkpoint(ONE).unwrap().into_bytes());
    for (path, length) in [
        ("tile/0/000", 256 * 32),
        ("tile/0/001.p/44", 44 * 32),
        ("tile/1/000.p/1", 32),
    ] {
        let tile = get(&library, "GET", &format!("{prefix}/{path}")).await;
        assert_eq!(
            (tile.status, tile.kind.as_str()),
            (StatusCode::OK, "application/octet-stream")
        );
        assert!(tile.caching.contains("immutable"));
        assert_eq!(tile.body.len(), length, "{path}");
    }
    let entries = get(&library, "GET", &format!("{prefix}/tile/entries/001.p/44")).await;
    assert_eq!(
        entries.body,
        library.entries(ONE, "tile/entries/001.p/44").unwrap()
    );
    assert_eq!(entries.caching, "private, max-age=31536000, immutable");
    let head = get(&library, "HEAD", &format!("{prefix}/tile/0/000")).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn what_is_not_there_is_404_and_says_why_in_plain_text() {
    let (_root, _logs, folder) = folder([10, 300, 0]);
    let library: Arc<dyn LogLibrary> = Arc::new(folder);
    for path in [
        "/logs/nowhere/checkpoint",
        "/logs/..%2f..%2fetc/checkpoint",
        "/logs/control/tile/0/001",
        "/logs/control/tile/0/000.p/11",
        "/logs/control/tile/0/0",
        "/logs/control/tile/entries/000",
        "/logs/control/key",
        "/logs/control/..%2fcontrol%2fkey",
        "/logs/control/tile/../key",
    ] {
        let answer = get(&library, "GET", path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.kind, "text/plain; charset=utf-8", "{path}");
        assert_eq!(answer.caching, "no-cache", "{path}");
        assert!(!answer.body.is_empty());
    }
    let posted = get(&library, "POST", "/logs/control/checkpoint").await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_list_says_what_a_monitor_needs() {
    let (_root, logs, folder) = folder([10, 300, 0]);
    let library: Arc<dyn LogLibrary> = Arc::new(folder);
    let list = get(&library, "GET", "/logs").await;
    assert_eq!(list.kind, "application/json");
    let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!(list["logs"][0]["name"], "control");
    let one = &list["logs"][2];
    assert_eq!((&one["name"], &one["size"]), (&ONE.into(), &300.into()));
    assert_eq!(one["keys"][0], logs[1].key().verifier().to_string());
    assert_eq!(one["origin"], format!("acme/decision/{ONE}"));
}
