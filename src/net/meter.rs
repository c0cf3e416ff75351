//! Bounds what a server may send before its answer.
//!
//! Guarantees: at most [`INTERIM_MAX`] interim answers (1xx), plus those of one read, and at most [`AHEAD_BYTES_MAX`] are taken
//! between a request and its answer. What is beyond ends the connection. Without this, the HTTP library skips interim answers
//! for as long as a server sends them. Does not count the body of an answer: [`super::reply`] limits that.

use futures_lite::{AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// The most interim answers to a request. Servers send one (`100 Continue`), or a few (`102 Processing`, `103 Early Hints`).
pub const INTERIM_MAX: usize = 32;

/// The most bytes before the body of an answer: interim answers, the status line, the headers. A few bytes of the body may count.
pub const AHEAD_BYTES_MAX: usize = 128 * 1024;

/// What came since the last request of a connection. Shared by the connection and who sends requests over it.
#[derive(Clone, Default)]
pub struct Meter(Arc<Counts>);

/// Atomic only because the HTTP library calls back from any thread. All uses are on one.
#[derive(Default)]
struct Counts {
    is_waiting: AtomicBool,
    is_exceeded: AtomicBool,
    bytes: AtomicUsize,
    interim: AtomicUsize,
}

impl Meter {
    /// A request is sent.
    pub fn begin(&self) {
        self.0.bytes.store(0, Ordering::Relaxed);
        self.0.interim.store(0, Ordering::Relaxed);
        self.0.is_waiting.store(true, Ordering::Relaxed);
    }

    /// Its answer has begun.
    pub fn end(&self) {
        self.0.is_waiting.store(false, Ordering::Relaxed);
    }

    /// An interim answer was skipped.
    pub fn skipped(&self) {
        self.0.interim.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the server sent too much.
    pub fn is_exceeded(&self) -> bool {
        self.0.is_exceeded.load(Ordering::Relaxed)
    }

    /// Counts received bytes. False if there are too many.
    fn takes(&self, bytes: usize) -> bool {
        if !self.0.is_waiting.load(Ordering::Relaxed) {
            return true;
        }
        let all = self.0.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let takes = all <= AHEAD_BYTES_MAX && self.0.interim.load(Ordering::Relaxed) <= INTERIM_MAX;
        if !takes {
            self.0.is_exceeded.store(true, Ordering::Relaxed);
        }
        takes
    }
}

/// A stream whose reads are counted.
pub struct Metered<S> {
    /// The stream.
    pub stream: S,
    /// Counts them.
    pub meter: Meter,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, bytes);
        match read {
            Poll::Ready(Ok(length)) if !self.meter.takes(length) => {
                Poll::Ready(Err(io::Error::other("the server sends too much before its answer")))
            }
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
