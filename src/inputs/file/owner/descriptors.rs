//! Which followed files are open.
//!
//! Guarantees: a shard has at most [`OPEN_FILES_HARD_MAX`] followed files with a path open, however many there are and however much
//! of them is unread. Above [`OPEN_FILES_MAX`], quiet files that are read are closed. Near the limit, a user who has more open than
//! a multiple of what is left has files closed that are unread too: they keep their turn, and are opened again for it. So the files
//! of other users stay open. If the process runs out of descriptors, fewer are open until there were enough for a while. What no path
//! leads to stays open, because it could not be opened again.

use super::super::content::FileOf;
use super::super::follow::Followed;
use super::{Owner, Slot};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};

/// Number of open files above which a shard closes quiet ones. Small in tests, so that each of them reaches it.
pub const OPEN_FILES_MAX: usize = if cfg!(test) { 20 } else { 1024 };

/// Number of files that are open at most, whatever is unread in them. Far more than an ordinary host writes to at a time: an unread
/// file that is closed can be deleted before it is read.
pub const OPEN_FILES_HARD_MAX: usize = if cfg!(test) { 30 } else { 4096 };

/// How long there must have been enough descriptors before more files are open again.
const RECOVER_AFTER: Duration = Duration::from_secs(60);

/// The number of open files that a shard always keeps, even if the process runs out of descriptors.
const OPEN_FILES_MIN: usize = 16;

/// How many times what is left a user may have open.
const SHARE_OF_LEFT: usize = 8;

/// Number of open files, by user.
pub(super) struct OpenFiles {
    all: Cell<usize>,
    by_owner: RefCell<HashMap<u32, usize>>,
    max: Cell<usize>,
    hard_max: Cell<usize>,
    /// When these last changed.
    changed: Cell<Monotonic>,
}

impl Default for OpenFiles {
    fn default() -> OpenFiles {
        OpenFiles {
            all: Cell::new(0),
            by_owner: RefCell::default(),
            max: Cell::new(OPEN_FILES_MAX),
            hard_max: Cell::new(OPEN_FILES_HARD_MAX),
            changed: Cell::default(),
        }
    }
}

impl OpenFiles {
    /// Number of open files that should be closed if they are quiet.
    pub(super) fn excess(&self) -> usize {
        self.all.get().saturating_sub(self.max.get())
    }

    /// Whether so many files are open that those are closed too that were just renamed. They stay open otherwise, because they may
    /// be renamed again, to a name that is not known.
    pub(super) fn is_crowded(&self) -> bool {
        self.all.get() > self.max.get() * 3 / 2
    }

    pub(super) fn clear(&self) {
        self.all.set(0);
        self.by_owner.borrow_mut().clear();
    }

    fn add(&self, owner: u32) {
        self.all.set(self.all.get() + 1);
        *self.by_owner.borrow_mut().entry(owner).or_default() += 1;
    }

    fn remove(&self, owner: u32) {
        self.all.set(self.all.get().saturating_sub(1));
        let mut by_owner = self.by_owner.borrow_mut();
        if let Some(count) = by_owner.get_mut(&owner) {
            *count = count.saturating_sub(1);
            if *count == 0 && by_owner.len() > SHARE_OF_LEFT {
                by_owner.remove(&owner);
            }
        }
    }

    /// Whether a user has more open files than the others leave to him. Half of all is shared equally, so whoever has few keeps
    /// them open.
    fn is_beyond_share(&self, owner: u32) -> bool {
        let (hard, by_owner) = (self.hard_max.get(), self.by_owner.borrow());
        let left = hard.saturating_sub(self.all.get());
        let share = (SHARE_OF_LEFT * left).max(hard / 2 / by_owner.len().max(1));
        by_owner.get(&owner).is_some_and(|open| *open > share)
    }

    fn shed(&self, now: Monotonic) {
        self.changed.set(now);
        let fewer = self.all.get().min(self.max.get()) * 3 / 4;
        self.max.set(fewer.max(OPEN_FILES_MIN));
        let fewer = self.all.get().min(self.hard_max.get()) * 7 / 8;
        self.hard_max.set(fewer.max(OPEN_FILES_MIN * 3 / 2));
    }

    /// Allows some more if there were enough descriptors for a while: whatever had used them may be over.
    fn recover(&self, now: Monotonic) {
        let is_less = self.max.get() < OPEN_FILES_MAX || self.hard_max.get() < OPEN_FILES_HARD_MAX;
        if is_less && now.since(self.changed.get()) >= RECOVER_AFTER {
            self.changed.set(now);
            self.max.set((self.max.get() * 9 / 8 + 1).min(OPEN_FILES_MAX));
            self.hard_max.set((self.hard_max.get() * 9 / 8 + 1).min(OPEN_FILES_HARD_MAX));
        }
    }
}

impl<E: Env> Owner<E> {
    /// A file of this user was opened.
    pub fn opened(&self, owner: u32) {
        self.open_files.add(owner);
    }

    /// A file of this user was closed.
    pub fn closed(&self, owner: u32) {
        self.open_files.remove(owner);
    }

    /// Whether files that are found should be opened by their owners when it is their turn.
    pub fn has_many_open(&self) -> bool {
        self.open_files.excess() > 0
    }

    /// Closes a file that has a path if its user has too many open. It is opened again when it is its turn.
    pub(super) fn close_beyond_share(&self, followed: &mut Followed<FileOf<E>>) {
        let is_plain = followed.file.as_ref().is_some_and(|file| file.archive().is_none());
        if is_plain && self.open_files.is_beyond_share(followed.owner) {
            self.close(followed);
        }
    }

    /// Closes the least recently active quiet files while more than the maximum are open.
    pub(super) fn close_quiet_files(&self, now: Monotonic) {
        let excess = self.open_files.excess();
        if excess == 0 {
            return;
        }
        let crowded = self.open_files.is_crowded();
        let mut slots = self.slots.borrow_mut();
        let mut quiet: Vec<(Monotonic, &mut Slot<FileOf<E>>)> = slots
            .values_mut()
            .filter(|slot| {
                let still = slot.away_since.is_none() && (slot.moved_since.is_none() || crowded) && !slot.queued;
                let read = |file: &Followed<FileOf<E>>| file.file.is_some() && file.is_read();
                still && now > slot.active_at && slot.followed.as_ref().is_some_and(|file| read(file))
            })
            .map(|slot| (slot.active_at, slot))
            .collect();
        quiet.sort_by_key(|one| (one.1.moved_since.is_some(), one.0));
        for (_, slot) in quiet.into_iter().take(excess) {
            if let Some(followed) = slot.followed.as_mut() {
                self.close(followed);
            }
        }
    }

    /// The process ran out of descriptors: uses fewer from now on.
    pub fn shed(&self) {
        self.open_files.shed(self.env.now());
        self.close_quiet_files(self.env.now());
    }

    /// Called once per tick.
    pub(super) fn recover_descriptors(&self, now: Monotonic) {
        self.open_files.recover(now);
    }

    /// Closes a file where blocking is allowed: closing a deleted file frees its blocks, and a remote server may not answer.
    pub(super) fn close(&self, followed: &mut Followed<FileOf<E>>) {
        if let Some(file) = followed.file.take() {
            self.open_files.remove(followed.owner);
            self.env.discard(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_many_open_files_leaves_some_to_others() {
        let open = OpenFiles::default();
        let mut of_stranger = 0;
        while !open.is_beyond_share(7) {
            open.add(7);
            of_stranger += 1;
        }
        let limit = OPEN_FILES_HARD_MAX;
        assert!(of_stranger > limit * 4 / 5 && of_stranger < limit, "{of_stranger} of {limit}");
        open.remove(7);
        open.add(8);
        assert!(!open.is_beyond_share(8), "somebody with one file keeps it open");
        assert!(open.is_beyond_share(7), "what others open is taken from the one who has most");
        open.shed(Monotonic(0));
        assert!(open.is_beyond_share(7), "fewer are open from now on");
        assert!(!open.is_beyond_share(8));
        open.clear();
        assert!(!open.is_beyond_share(7) && open.excess() == 0);
    }

    #[test]
    fn what_was_given_up_for_lack_of_descriptors_comes_back() {
        let open = OpenFiles::default();
        let allowed = |open: &OpenFiles| (open.max.get(), open.hard_max.get());
        let mut now = Monotonic(0);
        for _ in 0..20 {
            open.shed(now);
        }
        let few = allowed(&open);
        assert!(few.0 < OPEN_FILES_MAX && few.1 < OPEN_FILES_HARD_MAX, "{few:?}");
        now = now.after(RECOVER_AFTER / 2);
        open.recover(now);
        assert_eq!(allowed(&open), few, "not at once");
        for _ in 0..200 {
            now = now.after(RECOVER_AFTER);
            open.recover(now);
        }
        assert_eq!(allowed(&open), (OPEN_FILES_MAX, OPEN_FILES_HARD_MAX));
    }
}
