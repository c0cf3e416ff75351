//! Adapts a connection for hyper.
//!
//! Guarantees: reads go through a small zeroed buffer, so that a stream never sees uninitialized bytes. Does not buffer writes.

use futures_lite::{AsyncRead, AsyncWrite};
use hyper::rt::ReadBufCursor;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes per read.
const READ_BYTES: usize = 4096;

/// Adapts a stream of the executor for hyper.
pub struct HyperStream<T>(pub T);

impl<T: AsyncRead + Unpin> hyper::rt::Read for HyperStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        let most = into.remaining().min(bytes.len());
        match Pin::new(&mut self.0).poll_read(cx, &mut bytes[..most]) {
            Poll::Ready(Ok(length)) => {
                into.put_slice(&bytes[..length]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncWrite + Unpin> hyper::rt::Write for HyperStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
