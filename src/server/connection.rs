//! What one connection is served with.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::grpc::{Api, Connection};

use super::coarse_timer::CoarseTimer;
use super::sips::Sips;

const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How much a peer may send before it is read: what a thousand silent calls can make the server hold.
const CONNECTION_WINDOW: u32 = 256 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
/// How much of one answer is held for a peer that does not read.
const SEND_BUFFER: usize = 64 * 1024;
const MAX_RESET_STREAMS: usize = 256;
const MAX_PENDING_RESETS: usize = 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after the last call a draining connection may still be open: for its answer to leave, and for calls that the peer made before
/// it heard that it should leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long calls of a peer that is not trusted any more may go on: they were let in while it was.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    pub(super) max_concurrent_streams: u32,
    pub(super) max_age: Duration,
}

/// Counts the calls under way on one connection.
#[derive(Clone, Debug, Default)]
struct CallCount(Arc<AtomicUsize>);

impl CallCount {
    /// How many calls are under way.
    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn enter(&self) -> OpenCall {
        self.0.fetch_add(1, Ordering::AcqRel);
        OpenCall(self.clone())
    }
}

/// A call under way.
struct OpenCall(CallCount);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

pin_project! {
    /// An answer on its way, which counts as long as it is. A type of its own, because an async block would hold the answer twice.
    struct Counted<F> {
        #[pin]
        answer: F,
        _open: OpenCall,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().answer.poll(cx)
    }
}

/// With what a connection is served.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) limits: ConnectionLimits,
    pub(super) clock: CoarseTimer,
    /// Asks the peer to leave.
    pub(super) stop: CancellationToken,
}

/// Serves one connection until the peer leaves, it grows old, `is_distrusted` says that its peer is not trusted any more, or it is
/// told to stop and its calls are answered.
pub(super) async fn serve<IO>(
    io: IO,
    (api, peer): (Api, Arc<Connection>),
    serving: Serving,
    is_distrusted: impl Future<Output = ()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving {
        limits,
        clock,
        stop,
    } = serving;
    let calls = CallCount::default();
    // A call counts until its answer is there. Streams that tell of changes count only until they begin: they never end by themselves.
    let service = service_fn(|request| Counted {
        answer: api.call(&peer, request),
        _open: calls.enter(),
    });
    let mut connection =
        pin!(builder(limits, clock).serve_connection(TokioIo::new(Sips::new(io)), service));
    let mut is_distrusted = pin!(is_distrusted);
    let end = tokio::select! {
        // A connection that ends by an error is the peer's affair: it went away, or did not speak HTTP/2.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => End::Stopped,
        () = tokio::time::sleep(limits.max_age) => End::GrownOld,
        () = is_distrusted.as_mut() => End::Distrusted,
    };
    connection.as_mut().graceful_shutdown();
    match end {
        End::Stopped => {}
        // Calls that were let in are answered, if they are soon; streams that go on are not.
        End::Distrusted => {
            let soon = tokio::time::timeout(LAST_CALLS, until_quiet(&calls));
            tokio::select! {
                _ = connection.as_mut() => {}
                _ = soon => {}
            }
            return;
        }
        // Streams that never end keep an old connection, but not for ever, nor when the server stops, nor for a peer that is not trusted.
        End::GrownOld => {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = stop.cancelled() => {}
                () = is_distrusted => {}
                () = tokio::time::sleep(limits.max_age) => return,
            }
        }
    }
    tokio::select! {
        _ = connection.as_mut() => {}
        () = until_quiet(&calls) => {}
    }
}

/// Why a connection is ended from this side.
enum End {
    Stopped,
    GrownOld,
    Distrusted,
}

fn builder(limits: ConnectionLimits, clock: CoarseTimer) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(clock)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .auto_date_header(false);
    builder
}

/// Waits until no call has been under way for a moment.
async fn until_quiet(calls: &CallCount) {
    loop {
        tokio::time::sleep(LAST_WORDS).await;
        if calls.get() == 0 {
            return;
        }
    }
}
