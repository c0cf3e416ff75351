//! Looks at followed files by their paths: at those that are closed, and at those on a disk that may keep a shard waiting.
//!
//! Guarantees: nobody waits for files in trees that are slow: they are looked at one after the other beside everything else. A late
//! result is used at the next tick. What is set aside is not looked at.

use super::super::glimpse;
use super::super::identity::Inode;
use super::super::patience::{BRIEF, Limit, Reply, SLOW, Work};
use super::super::post::FileId;
use super::Owner;
use std::io;
use std::path::{Path, PathBuf};
use tailwater_shards::env::{Disk, Env, Stat};

/// What a path leads to at which a file is followed.
pub(super) type Looked = (FileId, io::Result<Stat>);

/// Number of files in trees that are slow whose metadata is requested at each tick.
const SLOW_FILES_MAX: usize = 16;

impl<E: Env> Owner<E> {
    /// Files in trees that are slow are looked at beside the others, unless they are read soon anyway. Returns the others.
    pub(super) fn leave_slow(&self, closed: Vec<(FileId, PathBuf)>) -> Vec<(FileId, PathBuf)> {
        let (slow, others): (Vec<_>, Vec<_>) = closed.into_iter().partition(|(_, path)| self.patience.was_slow(path));
        let slots = self.slots.borrow();
        for (id, path) in slow.into_iter().filter(|(id, _)| slots.get(id).is_some_and(|slot| !slot.queued)) {
            let tree = self.options.patterns.tree_of_directory(path.parent().unwrap_or(Path::new("/")));
            let _ = self.slow.borrow_mut().add(tree, path, id);
        }
        others
    }

    /// Looks at such files, one in each tree, until one of them takes a while.
    pub(super) async fn look_at_slow_files(&self) {
        for _ in 0..SLOW_FILES_MAX {
            let next = self.slow.borrow_mut().take(|path| self.patience.is_slow(path));
            let Some((path, id)) = next else { return };
            if !self.patience.is_aside(&path) {
                self.look_within(BRIEF, &mut vec![(id, path)]).await;
            }
        }
    }

    pub(super) async fn look_at_closed_files(&self, mut closed: Vec<(FileId, PathBuf)>) {
        while !closed.is_empty() {
            closed.retain(|(_, path)| !self.patience.is_aside(path));
            self.look_within(SLOW, &mut closed).await;
        }
    }

    /// Looks at files. `closed` keeps those that were not reached. A late result is used at the next tick.
    async fn look_within(&self, limit: Limit, closed: &mut Vec<(FileId, PathBuf)>) {
        let (disk, some) = (self.env.disk().clone(), closed.clone());
        let work = move |work: &Work<Looked>| {
            for (id, path) in some {
                work.steps.at_path(&path);
                if !work.done((id, disk.stat(&path))) {
                    break;
                }
            }
        };
        let (done, late) = self.patience.attend(limit, work).await;
        closed.drain(..done.len().min(closed.len()));
        if let Some(late) = late
            && !closed.is_empty()
        {
            let results = self.late.clone();
            self.patience.leave(closed.remove(0).1, late, move |reply| {
                if let Reply::Answered(looked) = reply {
                    results.borrow_mut().push(looked);
                }
            });
        }
        self.take_stats(done);
    }

    pub(super) fn take_stats(&self, stats: Vec<Looked>) {
        let now = self.env.now();
        for (id, stat) in stats {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(&id) else { continue };
            let Some(followed) = slot.followed.as_mut() else { continue };
            let changed = stat.is_ok_and(|stat| {
                Inode::of(&stat) == followed.identity.inode && glimpse::look_from_afar(followed, &stat, now)
            });
            let unread = followed.file.is_some() && !followed.is_read();
            if changed || unread || slot.failed || slot.away_since.is_some() || slot.moved_since.is_some() {
                self.end_wait(slot, now);
                slot.failed = false;
                self.enqueue(id, slot);
            }
        }
    }
}
