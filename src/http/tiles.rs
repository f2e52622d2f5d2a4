//! The logs as C2SP tlog-tiles: `/logs`, and of each log its checkpoint, its tiles of hashes and its tiles of records.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::usecase::audit_reading::{LogLibrary, ReadError};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
/// The newest state: to be asked for each time.
const FRESH: &str = "no-cache";
/// Tiles hold only what a checkpoint covers, so they never change. A year is as long as caches keep anything.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// The same for records, which no cache between shall keep: they say who did what.
const FOREVER_HERE: &str = "private, max-age=31536000, immutable";

type Library = Arc<dyn LogLibrary>;

/// The paths of the logs in `library`; `GET` and `HEAD` alone.
///
/// `/logs` lists them, `/logs/<name>` is the prefix of one in the sense of tlog-tiles. What is not there yet is 404.
pub fn router(library: Arc<dyn LogLibrary>) -> Router {
    Router::new()
        .route("/logs", get(list))
        .route("/logs/{name}/{*path}", get(file))
        .with_state(library)
}

/// Lists the logs, as JSON.
async fn list(State(library): State<Library>) -> Response {
    let logs = blocking(move || {
        let logs = library.logs()?.into_iter();
        let logs: Vec<_> = logs
            .map(|log| {
                json!({
                    "name": log.name,
                    "origin": log.origin,
                    "keys": log.keys,
                    "size": log.size,
                    "first_index": log.first_index,
                })
            })
            .collect();
        Ok(json!({ "logs": logs }).to_string().into_bytes())
    });
    answer(JSON, FRESH, logs.await)
}

/// A file of a log.
async fn file(
    State(library): State<Library>,
    Path((name, path)): Path<(String, String)>,
) -> Response {
    if path == "checkpoint" {
        let note = blocking(move || Ok(library.checkpoint(&name)?.into_bytes()));
        return answer(TEXT, FRESH, note.await);
    }
    if path.starts_with("tile/entries/") {
        let tile = blocking(move || library.entries(&name, &path));
        return answer(BYTES, FOREVER_HERE, tile.await);
    }
    let tile = blocking(move || library.tile(&name, &path));
    answer(BYTES, FOREVER, tile.await)
}

/// Reads files on a thread that may wait for them. None if the work was lost.
async fn blocking(
    work: impl FnOnce() -> Result<Vec<u8>, ReadError> + Send + 'static,
) -> Option<Result<Vec<u8>, ReadError>> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn answer(
    content_type: &'static str,
    caching: &'static str,
    read: Option<Result<Vec<u8>, ReadError>>,
) -> Response {
    match read {
        Some(Ok(bytes)) => (StatusCode::OK, headers(content_type, caching), bytes).into_response(),
        Some(Err(error)) => {
            let (status, text) = refusal(&error);
            (status, headers(TEXT, FRESH), format!("{text}\n")).into_response()
        }
        None => {
            let text = "the log could not be read\n";
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                headers(TEXT, FRESH),
                text,
            )
                .into_response()
        }
    }
}

/// Records are whatever callers sent: no browser shall take them for a page.
fn headers(content_type: &'static str, caching: &'static str) -> [(HeaderName, &'static str); 3] {
    [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, caching),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ]
}

fn refusal(error: &ReadError) -> (StatusCode, String) {
    match error {
        ReadError::NoSuchLog(_)
        | ReadError::NoSuchRecord { .. }
        | ReadError::NotYet(_)
        | ReadError::BadFilter { .. } => (StatusCode::NOT_FOUND, error.to_string()),
        ReadError::Damaged { .. } | ReadError::Write(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
        // What the system says names folders of this machine.
        ReadError::Unreadable { log, .. } => {
            let text = format!("log `{log}` cannot be read now");
            (StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}
