//! Files that wait until another file is read: the generations of a log, oldest first.
//!
//! Guarantees: a waiting file is not read until the file it waits for was read up to the length that it had when the wait
//! began, has failed, must be searched, or was released. So no file waits for one that keeps growing, or for holes. Both are
//! on the same shard.

use super::super::content::FileOf;
use super::super::post::FileId;
use super::{Outcome, Owner, Slot};
use tailwater_shards::env::Env;

/// A file's place among the generations of its log.
#[derive(Default)]
pub(super) struct Turn {
    /// Number of files that it still waits for.
    pub(super) waits_for: usize,
    /// Files that wait for it, and the position up to which they wait.
    waiters: Vec<FileId>,
    goal: u64,
}

impl Turn {
    /// Whether files wait for it.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty()
    }
}

impl<E: Env> Owner<E> {
    /// Makes the file `id`, which is about to be followed, wait for those of `before` that are not fully read.
    pub(super) fn wait_for(&self, id: FileId, before: &[FileId]) -> Turn {
        let mut turn = Turn::default();
        let mut slots = self.slots.borrow_mut();
        for earlier in before {
            let Some(slot) = slots.get_mut(earlier) else { continue };
            let is_read = slot.turn.waits_for == 0 && slot.followed.as_ref().is_some_and(|followed| followed.is_read());
            if !is_read {
                slot.turn.waiters.push(id);
                slot.turn.goal = slot.turn.goal.max(slot.seen_length);
                turn.waits_for += 1;
            }
        }
        turn
    }

    /// The files that waited for this one, if their wait is over.
    pub(super) fn over_for(slot: &mut Slot<FileOf<E>>, outcome: Outcome) -> Vec<FileId> {
        let reached = slot.followed.as_ref().is_some_and(|followed| followed.span().from >= slot.turn.goal);
        let file = slot.followed.as_ref().and_then(|followed| followed.file.as_ref());
        let is_archive = || file.is_some_and(|file| file.archive().is_some());
        let goes_on =
            matches!(outcome, Outcome::More | Outcome::Rests) || outcome == Outcome::Searching && is_archive();
        if goes_on && !reached { Vec::new() } else { std::mem::take(&mut slot.turn.waiters) }
    }

    /// Ends one wait of each of these files.
    pub(super) fn end_waits(&self, waiters: Vec<FileId>) {
        for id in waiters {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(&id) else { continue };
            slot.turn.waits_for = slot.turn.waits_for.saturating_sub(1);
            self.enqueue(id, slot);
        }
    }

    /// The same for all files that wait for a file that is released.
    pub(super) fn end_waits_for(&self, slot: &mut Slot<FileOf<E>>) {
        self.end_waits(std::mem::take(&mut slot.turn.waiters));
    }
}
