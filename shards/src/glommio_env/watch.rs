//! Directory watches with inotify, awaited through io_uring.
//!
//! Guarantees: no events are delivered for a directory whose watch was removed before. [`WatchKind::Gone`] is delivered once
//! for a directory, and its number is invalid from then on. Consecutive equal events are delivered once.
//!
//! The requested events, and why:
//! - `CREATE`, `MOVED_TO`: a name appeared. A hard link counts as created.
//! - `DELETE`, `MOVED_FROM`: a name disappeared. A rename inside the directory gives both halves, in order.
//! - `MODIFY`: bytes were written, or the file was truncated. `CLOSE_WRITE` would come too late for a log that is never closed.
//! - `DELETE_SELF`, `MOVE_SELF`: the directory is no longer at its path.
//! - `ONLYDIR`: a file in place of the directory is an error, not a watch.
//! - Not `ATTRIB`: it would also report permissions and link counts at every rotation. The rescan detects such changes.
//! - Not `EXCL_UNLINK`: writes to a deleted file that is still open matter to its readers.
//!
//! Does not recurse, and does not see what other machines write.

use super::kernel_error;
use super::system::lock;
use crate::env::{Adder, Watch, WatchEvent, WatchId, WatchKind};
use glommio::io::BufferedFile;
use glommio::timer::Timer;
use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One read: about 2,000 events with names of usual length.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of an event before its name: directory, mask, cookie and length of the name, four bytes each.
const HEADER_BYTES: usize = 16;
/// Old kernels return `EAGAIN` instead of waiting for the descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// A set of watched directories.
pub struct DirectoryWatch {
    watches: RefCell<Watches>,
    /// Shared with threads that add directories.
    live: Arc<Mutex<HashMap<i32, WatchDescriptor>>>,
    events: BufferedFile,
    // Holds the kernel's queue open; the ring reads through a descriptor of its own.
    _inotify: Inotify,
}

impl DirectoryWatch {
    /// Creates an empty set. Must be created and used on one shard.
    pub(super) fn new() -> io::Result<DirectoryWatch> {
        let inotify = Inotify::init()?;
        let descriptor = inotify.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is open and owned; ownership goes to the new object.
        let events = unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) };
        let (watches, live) = (RefCell::new(inotify.watches()), Arc::default());
        Ok(DirectoryWatch { watches, live, events, _inotify: inotify })
    }

    fn take_in(&self, bytes: &[u8], events: &mut Vec<WatchEvent>) {
        let mut rest = bytes;
        while let Some(header) = rest.first_chunk::<HEADER_BYTES>() {
            let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let (directory, mask, length) = (word(0) as i32, word(4), word(12) as usize);
            let name = &rest[HEADER_BYTES..];
            let length = length.min(name.len());
            let (name, next) = name.split_at(length);
            rest = next;
            let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(length)];
            if let Some(event) = self.event(directory, mask, name)
                && events.last() != Some(&event)
            {
                events.push(event);
            }
        }
    }

    fn event(&self, directory: i32, mask: u32, name: &[u8]) -> Option<WatchEvent> {
        let event = |kind, name: &[u8]| {
            let name = OsStr::from_bytes(name).to_owned();
            Some(WatchEvent { directory: WatchId(directory), kind, name })
        };
        if mask & libc::IN_Q_OVERFLOW != 0 {
            return event(WatchKind::Overflow, b"");
        }
        if !lock(&self.live).contains_key(&directory) {
            return None;
        }
        if mask & (libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_UNMOUNT | libc::IN_IGNORED) != 0 {
            // A directory that was moved is still watched by the kernel, under a path that is no longer its own.
            self.remove(WatchId(directory));
            return event(WatchKind::Gone, b"");
        }
        let kind = if mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0 {
            WatchKind::Appeared
        } else if mask & (libc::IN_DELETE | libc::IN_MOVED_FROM) != 0 {
            WatchKind::Vanished
        } else {
            WatchKind::Modified
        };
        event(kind, name)
    }
}

impl Watch for DirectoryWatch {
    fn adder(&self) -> Adder {
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MODIFY
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let (watches, live) = (self.watches.borrow().clone(), self.live.clone());
        Box::new(move |directory| {
            // Not under the lock: this call may hang.
            let descriptor = watches.clone().add(directory, mask)?;
            let number = descriptor.get_watch_descriptor_id();
            lock(&live).insert(number, descriptor);
            Ok(WatchId(number))
        })
    }

    fn remove(&self, directory: WatchId) {
        let descriptor = lock(&self.live).remove(&directory.0);
        if let Some(descriptor) = descriptor {
            // The kernel removes the watch of a deleted directory by itself; then there is nothing left to remove.
            let _ = self.watches.borrow_mut().remove(descriptor);
        }
    }

    async fn next(&self, events: &mut Vec<WatchEvent>) -> io::Result<()> {
        let before = events.len();
        while events.len() == before {
            match self.events.read_at(0, READ_BYTES).await.map_err(kernel_error) {
                Ok(bytes) => self.take_in(&bytes, events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    Timer::new(RETRY).await;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
