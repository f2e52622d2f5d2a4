//! A connection that is read in sips: a peer that sends without a pause does not keep its core from the others.
//!
//! HTTP/2 reads on for as long as something is there. Frames that cost their sender nothing, such as PING, then hold a core for as
//! long as the sender likes.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are read before others have their turn: about a hundred calls of 300 bytes, or four thousand frames of the smallest.
const SIP_BYTES: usize = 32 * 1024;

/// A stream whose reader makes room for other tasks after every sip.
#[derive(Debug)]
pub(super) struct Sips<IO> {
    io: IO,
    left: usize,
}

impl<IO> Sips<IO> {
    /// Reads `io` in sips.
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            left: SIP_BYTES,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Sips<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if self.left == 0 {
            self.left = SIP_BYTES;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        self.left = match read {
            Poll::Ready(_) => self.left.saturating_sub(bytes),
            // It waits anyway, so the others have had their turn when it goes on.
            Poll::Pending => SIP_BYTES,
        };
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Sips<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads until it must wait, and answers how many bytes there were.
    fn read_on(sips: &mut Sips<&[u8]>, cx: &mut Context<'_>) -> usize {
        let mut total = 0;
        loop {
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *sips).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read.unwrap(),
                Poll::Pending => return total,
            }
            if buffer.filled().is_empty() {
                return total;
            }
            total += buffer.filled().len();
        }
    }

    #[test]
    fn a_reader_pauses_after_every_sip_and_asks_to_go_on() {
        let bytes = vec![0; 3 * SIP_BYTES];
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut sips = Sips::new(bytes.as_slice());
        for sip in 1..=3 {
            assert_eq!(read_on(&mut sips, &mut cx), SIP_BYTES);
            assert_eq!(woken.0.load(Ordering::Relaxed), sip);
        }
        assert_eq!(read_on(&mut sips, &mut cx), 0);
    }

    #[test]
    fn who_sends_little_never_pauses() {
        let mut sips = Sips::new([0; 300].as_slice());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert_eq!(read_on(&mut sips, &mut Context::from_waker(&waker)), 300);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }
}
