//! A byte stream on a descriptor that others may share, read through io_uring: standard input.
//!
//! Guarantees: works with pipes, terminals, sockets and regular files. Never changes the flags of the descriptor, which the
//! parent process may share. No byte is lost or read twice, as long as the reads are not abandoned.
//!
//! Does not move the shared position of a regular file: it starts there and then keeps its own position.

use super::kernel_error;
use crate::env::Stream;
use glommio::io::BufferedFile;
use glommio::timer::Timer;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};
use std::time::Duration;

/// If another process that shares the descriptor made it non-blocking, a read may return `EAGAIN` instead of waiting.
const RETRY: Duration = Duration::from_millis(20);

/// See the module.
pub struct DescriptorStream {
    file: BufferedFile,
    position: u64,
    seekable: bool,
}

impl DescriptorStream {
    /// Reads a duplicate of `source`, from its current position. Must be created and used on one shard.
    pub fn new(source: impl AsFd) -> io::Result<DescriptorStream> {
        let descriptor = source.as_fd().try_clone_to_owned()?;
        // SAFETY: takes a descriptor that is open, and moves nothing.
        let position = unsafe { libc::lseek(descriptor.as_raw_fd(), 0, libc::SEEK_CUR) };
        // SAFETY: the descriptor is open and owned; ownership goes to the new object.
        let file = unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) };
        // A stream that cannot seek has no position; the kernel ignores the one that is passed.
        Ok(DescriptorStream { file, position: u64::try_from(position).unwrap_or(0), seekable: position >= 0 })
    }
}

impl Stream for DescriptorStream {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(self.position, buffer.len()).await.map_err(kernel_error) {
                Ok(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    if self.seekable {
                        self.position += bytes.len() as u64;
                    }
                    return Ok(bytes.len());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    Timer::new(RETRY).await;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
