//! Directory watches on inotify, awaited through the ring.
//!
//! Guarantees: an event of a directory that was removed before is not delivered; [`WatchKind::Gone`] comes once for a
//! directory, and its number is void from then on; equal events in a row come once.
//!
//! What is asked of the kernel, and why:
//! - `CREATE`, `MOVED_TO`: a name appeared. A hard link counts as created.
//! - `DELETE`, `MOVED_FROM`: a name went. A rename inside the directory gives both halves, in order.
//! - `MODIFY`: bytes were written or cut. `CLOSE_WRITE` would come too late for a log that is never closed.
//! - `DELETE_SELF`, `MOVE_SELF`: the directory no longer is what its path says.
//! - `ONLYDIR`: a file in the directory's place is an error, not a watch.
//! - Not `ATTRIB`: permissions and link counts of every rotation would come too; the rescan sees what they change.
//! - Not `EXCL_UNLINK`: writes to a deleted file that is still open are news for who reads it.
//!
//! Does not recurse and does not see what other machines write.

use super::kernel_error;
use crate::env::{Watch, WatchEvent, WatchId, WatchKind};
use glommio::io::BufferedFile;
use glommio::timer::Timer;
use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// One read: about 2,000 events with names of usual length.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of an event before its name: directory, mask, cookie, length of the name, four bytes each.
const HEADER_BYTES: usize = 16;
/// Old kernels hand `EAGAIN` back instead of waiting for the descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// A set of watched directories.
pub struct DirectoryWatch {
    watches: RefCell<Watches>,
    live: RefCell<HashMap<i32, WatchDescriptor>>,
    events: BufferedFile,
    // Holds the kernel's queue open; the ring reads through a descriptor of its own.
    _inotify: Inotify,
}

impl DirectoryWatch {
    /// A watch of nothing yet. To be made and used on one shard.
    pub(super) fn new() -> io::Result<DirectoryWatch> {
        let inotify = Inotify::init()?;
        let descriptor = inotify.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is open and owned; ownership goes to the new object.
        let events = unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) };
        let (watches, live) = (RefCell::new(inotify.watches()), RefCell::default());
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
        if !self.live.borrow().contains_key(&directory) {
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
    fn add(&self, directory: &Path) -> io::Result<WatchId> {
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MODIFY
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let descriptor = self.watches.borrow_mut().add(directory, mask)?;
        let number = descriptor.get_watch_descriptor_id();
        self.live.borrow_mut().insert(number, descriptor);
        Ok(WatchId(number))
    }

    fn remove(&self, directory: WatchId) {
        let descriptor = self.live.borrow_mut().remove(&directory.0);
        if let Some(descriptor) = descriptor {
            // The kernel forgets a directory that is gone by itself; then there is nothing left to remove.
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
