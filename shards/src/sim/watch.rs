//! Directory watches on the simulated disk.
//!
//! Guarantees: a change in a watched directory after [`Watch::add`] is delivered in order, whoever made it, or an overflow is
//! delivered instead. The overflow comes from a full queue or from the seed. Consecutive equal events are delivered once, as
//! with inotify.

#[cfg(test)]
mod tests;

use super::disk::SimDisk;
use super::prng::Prng;
use crate::env::{Adder, Watch, WatchEvent, WatchId, WatchKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Poll, Waker};

/// Maximum events that wait for one reader.
const QUEUE_EVENTS_MAX: usize = 1024;

#[derive(Default)]
struct Watcher {
    directories: BTreeMap<WatchId, u64>,
    next: i32,
    queue: VecDeque<WatchEvent>,
    waiter: Option<Waker>,
}

/// All watches of the disk.
#[derive(Default)]
pub(super) struct Watchers {
    all: BTreeMap<u64, Watcher>,
    next: u64,
    pub(super) overflow_one_in: u64,
    pub(super) silent: bool,
}

impl Watcher {
    fn push(&mut self, event: WatchEvent) {
        if self.queue.back() == Some(&event) {
            return;
        }
        if self.queue.len() < QUEUE_EVENTS_MAX {
            self.queue.push_back(event);
        } else if self.queue.back().is_none_or(|last| last.kind != WatchKind::Overflow) {
            self.queue.push_back(overflow());
        }
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

fn overflow() -> WatchEvent {
    WatchEvent { directory: WatchId(-1), kind: WatchKind::Overflow, name: OsString::new() }
}

impl Watchers {
    /// The watched directories.
    pub(super) fn directories(&self) -> BTreeSet<u64> {
        self.all.values().flat_map(|watcher| watcher.directories.values().copied()).collect()
    }

    /// Notifies the watchers of a directory of an event in it.
    pub(super) fn emit(&mut self, directory: u64, kind: WatchKind, name: &OsStr, prng: &mut Prng) {
        if self.silent {
            return;
        }
        for watcher in self.all.values_mut() {
            let Some(id) = watcher.id(directory) else { continue };
            if prng.one_in(self.overflow_one_in) {
                watcher.push(overflow());
            } else {
                watcher.push(WatchEvent { directory: id, kind, name: name.to_os_string() });
            }
        }
    }

    /// Notifies the watchers of a directory that it is gone.
    pub(super) fn gone(&mut self, directory: u64) {
        for watcher in self.all.values_mut() {
            let Some(id) = watcher.id(directory) else { continue };
            watcher.directories.remove(&id);
            if !self.silent {
                watcher.push(WatchEvent { directory: id, kind: WatchKind::Gone, name: OsString::new() });
            }
        }
    }

    /// The process died, and its watches with it.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}

impl Watcher {
    fn id(&self, directory: u64) -> Option<WatchId> {
        self.directories.iter().find(|entry| *entry.1 == directory).map(|entry| *entry.0)
    }
}

/// One watch of one process.
pub struct SimWatch {
    disk: SimDisk,
    key: u64,
}

impl SimWatch {
    pub(super) fn new(disk: SimDisk) -> SimWatch {
        let key = {
            let mut state = disk.state();
            state.watchers.next += 1;
            let key = state.watchers.next;
            state.watchers.all.insert(key, Watcher::default());
            key
        };
        SimWatch { disk, key }
    }
}

impl Watch for SimWatch {
    fn adder(&self) -> Adder {
        let (disk, key) = (self.disk.clone(), self.key);
        Box::new(move |directory| {
            let inode = disk.watchable(directory)?;
            let mut state = disk.state();
            let Some(watcher) = state.watchers.all.get_mut(&key) else {
                return Err(io::Error::other("the watch of a dead process"));
            };
            if let Some(id) = watcher.id(inode) {
                return Ok(id);
            }
            watcher.next += 1;
            let id = WatchId(watcher.next);
            watcher.directories.insert(id, inode);
            Ok(id)
        })
    }

    fn remove(&self, directory: WatchId) {
        if let Some(watcher) = self.disk.state().watchers.all.get_mut(&self.key) {
            watcher.directories.remove(&directory);
        }
    }

    fn next(&self, events: &mut Vec<WatchEvent>) -> impl Future<Output = io::Result<()>> {
        poll_fn(|context| {
            let mut state = self.disk.state();
            let Some(watcher) = state.watchers.all.get_mut(&self.key) else {
                return Poll::Ready(Err(io::Error::other("the watch of a dead process")));
            };
            if watcher.queue.is_empty() {
                watcher.waiter = Some(context.waker().clone());
                return Poll::Pending;
            }
            events.extend(watcher.queue.drain(..));
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for SimWatch {
    fn drop(&mut self) {
        self.disk.state().watchers.all.remove(&self.key);
    }
}
