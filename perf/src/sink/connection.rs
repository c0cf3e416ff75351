//! The bytes of one connection: large reads into one reused buffer, and the service that needs nothing more.

use super::Received;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

/// Maximum bytes per read: large enough that the calls do not matter, small enough for a processor's L2 cache.
pub(super) const READ_BYTES: usize = 256 << 10;
/// The maximum size of anything that a sender may send.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// A connection with the bytes that were read from it but not used yet.
pub(super) struct Reader {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    first: usize,
    end: usize,
}

impl Reader {
    pub(super) fn new(stream: TcpStream) -> Reader {
        Reader { stream, buffer: vec![0; READ_BYTES], first: 0, end: 0 }
    }

    /// The bytes that were read but not used.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.first..self.end]
    }

    pub(super) fn use_up(&mut self, bytes: usize) {
        self.first += bytes;
        if self.first == self.end {
            (self.first, self.end) = (0, 0);
        }
    }

    /// Reads once. A result of 0 means the end of the stream.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        if self.end == self.buffer.len() {
            if self.first > 0 {
                self.buffer.copy_within(self.first..self.end, 0);
                (self.first, self.end) = (0, self.end - self.first);
            } else if self.buffer.len() < MESSAGE_BYTES_MAX {
                self.buffer.resize(self.buffer.len() * 2, 0);
            } else {
                return Err(ErrorKind::OutOfMemory.into());
            }
        }
        let length = self.stream.read(&mut self.buffer[self.end..])?;
        self.end += length;
        Ok(length)
    }

    /// Waits until this many bytes are available.
    pub(super) fn need(&mut self, bytes: usize) -> io::Result<()> {
        while self.end - self.first < bytes {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Waits until `mark` arrives, and returns the number of bytes up to its end.
    pub(super) fn need_until(&mut self, mark: &[u8]) -> io::Result<usize> {
        let mut looked_at = 0;
        loop {
            let from = looked_at;
            if let Some(at) = memchr::memmem::find(&self.unread()[from..], mark) {
                return Ok(from + at + mark.len());
            }
            looked_at = self.unread().len().saturating_sub(mark.len() - 1);
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Events as lines until the sender closes.
pub(super) fn lines(mut reader: Reader, received: &Received) -> io::Result<()> {
    let mut used = received.account(u64::MAX);
    while reader.fill()? > 0 {
        let Some(end) = memchr::memrchr(b'\n', reader.unread()) else { continue };
        let whole = &reader.unread()[..=end];
        let lines = memchr::memchr_iter(b'\n', whole).count() as u64;
        let events = received.take(whole);
        received.strange(lines.saturating_sub(events));
        reader.use_up(end + 1);
        used = received.account(used);
    }
    received.strange(u64::from(!reader.unread().is_empty()));
    Ok(())
}
