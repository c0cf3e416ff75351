//! Whose turn it is to be read.
//!
//! Guarantees: files take turns in the order in which they were queued. Files that must be searched, for NULs or for a
//! position in an archive, take turns among themselves: all of them together get one step of a search, then a pause of a
//! multiple of its duration, as long as other files have something to read. So any number of such files delays the others by
//! one step. A search never waits when nothing else is ready.

use super::super::content::FileOf;
use super::super::post::FileId;
use super::{Owner, Slot};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};

/// The pause after a search, as a multiple of its duration, and the longest pause.
const PAUSE: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The files that wait for their turn.
#[derive(Default)]
pub(super) struct Turns {
    ready: RefCell<VecDeque<FileId>>,
    searching: RefCell<VecDeque<FileId>>,
    paused_until: Cell<Monotonic>,
    /// Whether the last turn was one for searches: then another file is next.
    searched: Cell<bool>,
}

impl Turns {
    pub(super) fn push(&self, id: FileId, searches: bool) {
        let queue = if searches { &self.searching } else { &self.ready };
        queue.borrow_mut().push_back(id);
    }

    pub(super) fn clear(&self) {
        self.ready.borrow_mut().clear();
        self.searching.borrow_mut().clear();
    }

    /// The next file, and whether it has the turn of those that search.
    pub(super) fn next(&self, now: impl FnOnce() -> Monotonic) -> Option<(FileId, bool)> {
        let is_due = !self.searching.borrow().is_empty() && !self.searched.get() && now() >= self.paused_until.get();
        let ready = if is_due { None } else { self.ready.borrow_mut().pop_front() };
        let next = ready.map(|id| (id, false)).or_else(|| Some((self.searching.borrow_mut().pop_front()?, true)));
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
            self.turns.push(id, slot.searches);
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
        (1..4).for_each(|id| turns.push(id, true));
        (4..7).for_each(|id| turns.push(id, false));
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
        (1..4).for_each(|id| turns.push(id, true));
        (4..6).for_each(|id| turns.push(id, false));
        let order: Vec<FileId> = std::iter::from_fn(|| turns.next(|| Monotonic(1))).map(|next| next.0).collect();
        assert_eq!(order, [1, 4, 2, 5, 3]);
    }
}
