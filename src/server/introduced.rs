//! A connection whose first words were read already, to be read again by whoever serves it.

use std::io::{self, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every client of HTTP/2 says first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that begins with [`PREFACE`], which has come.
#[derive(Debug)]
pub(super) struct Introduced<IO> {
    io: IO,
    given: usize,
}

impl<IO: AsyncRead + Unpin> Introduced<IO> {
    /// Waits for the peer of `io` to introduce itself in whole: what serves it waits for that without a limit.
    ///
    /// # Errors
    /// When it leaves, or says something else.
    pub(super) async fn wait(mut io: IO) -> Result<Self> {
        let mut words = [0; PREFACE.len()];
        io.read_exact(&mut words).await?;
        if words != *PREFACE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
        Ok(Self { io, given: 0 })
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Introduced<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let left = PREFACE.get(self.given..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(left.get(..count).unwrap_or_default());
        self.given = self.given.saturating_add(count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Introduced<IO> {
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
    use super::*;

    #[tokio::test]
    async fn what_was_read_is_read_again() {
        let bytes = [&PREFACE[..], b"more"].concat();
        let mut introduced = Introduced::wait(bytes.as_slice()).await.unwrap();
        let mut read = Vec::new();
        introduced.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }

    #[tokio::test]
    async fn half_an_introduction_is_none() {
        assert!(Introduced::wait(&PREFACE[..10]).await.is_err());
        let other = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(Introduced::wait(&other[..]).await.is_err());
    }
}
