//! Whose turn it is to be read.
//!
//! Guarantees: owners (users) of files take turns, and so do the files of one owner, in the order in which they were queued: one
//! file of a user does not wait for the many files of another one. Files that must be searched, for NULs or for a position in an
//! archive, take turns among themselves: all of them together get one step of a search, then a pause of a multiple of its
//! duration, as long as other files have something to read. So any number of such files delays the others by one step. A search
//! never waits when nothing else is ready.

use super::super::content::FileOf;
use super::super::post::FileId;
use super::{Owner, Slot};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};

/// The pause after a search, as a multiple of its duration, and the longest pause.
const PAUSE: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Owners whose empty queues are kept for reuse.
const OWNERS_KEPT: usize = 64;

/// Files by owner.
#[derive(Default)]
struct Fair {
    queues: HashMap<u32, VecDeque<FileId>>,
    /// Owners with queued files.
    turn: VecDeque<u32>,
}

impl Fair {
    fn push(&mut self, owner: u32, id: FileId) {
        let queue = self.queues.entry(owner).or_default();
        if queue.is_empty() {
            self.turn.push_back(owner);
        }
        queue.push_back(id);
    }

    fn pop(&mut self) -> Option<FileId> {
        let owner = self.turn.pop_front()?;
        let queue = self.queues.get_mut(&owner)?;
        let next = queue.pop_front();
        if !queue.is_empty() {
            self.turn.push_back(owner);
        } else if self.queues.len() > OWNERS_KEPT {
            self.queues.remove(&owner);
        }
        next
    }

    fn is_empty(&self) -> bool {
        self.turn.is_empty()
    }

    fn clear(&mut self) {
        *self = Fair::default();
    }
}

/// The files that wait for their turn.
#[derive(Default)]
pub(super) struct Turns {
    ready: RefCell<Fair>,
    searching: RefCell<Fair>,
    paused_until: Cell<Monotonic>,
    /// Whether the last turn was one for searches: then another file is next.
    searched: Cell<bool>,
}

impl Turns {
    pub(super) fn push(&self, owner: u32, id: FileId, searches: bool) {
        let queue = if searches { &self.searching } else { &self.ready };
        queue.borrow_mut().push(owner, id);
    }

    pub(super) fn clear(&self) {
        self.ready.borrow_mut().clear();
        self.searching.borrow_mut().clear();
    }

    /// The next file, and whether it has the turn of those that search.
    pub(super) fn next(&self, now: impl FnOnce() -> Monotonic) -> Option<(FileId, bool)> {
        let is_due = !self.searching.borrow().is_empty() && !self.searched.get() && now() >= self.paused_until.get();
        let ready = if is_due { None } else { self.ready.borrow_mut().pop() };
        let next = ready.map(|id| (id, false)).or_else(|| Some((self.searching.borrow_mut().pop()?, true)));
        self.searched.set(next.is_some_and(|(_, searches)| searches));
        next
    }
}

impl<E: Env> Owner<E> {
    /// Whether a file may search now although it does not have the turn for it: no other file searches.
    pub fn is_search_free(&self) -> bool {
        self.turns.searching.borrow().is_empty() && self.env.now() >= self.turns.paused_until.get()
    }

    /// A step of a search took this long.
    pub fn searched(&self, spent: Duration) {
        self.turns.paused_until.set(self.env.now().after((spent * PAUSE).min(PAUSE_MAX)));
    }

    pub(super) fn enqueue(&self, id: FileId, slot: &mut Slot<FileOf<E>>) {
        slot.woken = true;
        if slot.turn.waits_for > 0 {
            return;
        }
        self.stir();
        if slot.followed.is_some() && !slot.queued {
            slot.queued = true;
            self.turns.push(slot.owner, id, slot.searches);
            self.ready.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_search_share_one_turn() {
        let turns = Turns::default();
        (1..4).for_each(|id| turns.push(0, id, true));
        (4..7).for_each(|id| turns.push(0, id, false));
        assert_eq!(turns.next(|| Monotonic(5)), Some((1, true)));
        turns.paused_until.set(Monotonic(10));
        assert_eq!(turns.next(|| Monotonic(5)), Some((4, false)));
        assert_eq!(turns.next(|| Monotonic(10)), Some((2, true)));
        turns.paused_until.set(Monotonic(20));
        let rest: Vec<_> = std::iter::from_fn(|| turns.next(|| Monotonic(12))).collect();
        assert_eq!(rest, [(5, false), (6, false), (3, true)], "a search does not pause for nobody");
    }

    #[test]
    fn others_have_a_turn_after_each_search_however_short_it_was() {
        let turns = Turns::default();
        (1..4).for_each(|id| turns.push(0, id, true));
        (4..6).for_each(|id| turns.push(0, id, false));
        let order: Vec<FileId> = std::iter::from_fn(|| turns.next(|| Monotonic(1))).map(|next| next.0).collect();
        assert_eq!(order, [1, 4, 2, 5, 3]);
    }

    #[test]
    fn one_file_of_an_owner_does_not_wait_for_the_many_of_another() {
        let turns = Turns::default();
        (1..1000).for_each(|id| turns.push(7, id, false));
        turns.push(8, 1000, false);
        turns.push(7, 1001, false);
        let order: Vec<FileId> = std::iter::from_fn(|| turns.next(|| Monotonic(1))).map(|next| next.0).collect();
        assert_eq!(order[..4], [1, 1000, 2, 3]);
        assert_eq!((order.len(), order.last()), (1001, Some(&1001)));
    }
}
