//! Parcels: letters that were submitted to the clerk together, and what happened to them.
//!
//! Guarantees: a parcel is settled when each of its letters is durable or was dropped. It then says which ones were dropped.
//! Its buffers are reused. Does not store anything: the clerk does.

use super::WhenFull;
use super::letter::Letters;
use std::cell::{Cell, Ref, RefCell, RefMut};

/// Where a parcel currently is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// With its owner, who may fill it.
    #[default]
    Open,
    /// With the clerk.
    Waiting,
    /// With its owner again: every letter was stored or dropped.
    Settled,
}

/// See the module. Shared by its owner and the clerk of the same shard.
#[derive(Default)]
pub struct Parcel {
    letters: RefCell<Letters>,
    state: Cell<State>,
    /// Bytes and letters that were stored or dropped.
    bytes: Cell<usize>,
    dealt: Cell<u64>,
    dropped: RefCell<Vec<u64>>,
    tried: Cell<bool>,
    withdrawn: Cell<bool>,
    /// What happens to its letters when the queue is full, if not what the queue says.
    when_full: Cell<Option<WhenFull>>,
}

impl Parcel {
    /// Its letters, to be filled while the clerk does not have the parcel.
    pub fn letters(&self) -> RefMut<'_, Letters> {
        debug_assert!(self.state.get() == State::Open, "a parcel is filled before it is handed in");
        self.letters.borrow_mut()
    }

    /// How many letters it holds.
    pub fn count(&self) -> u64 {
        self.letters.borrow().count()
    }

    /// Bytes of its letters.
    pub fn weight(&self) -> usize {
        self.letters.borrow().bytes().len()
    }

    /// Capacity of its buffer in bytes.
    pub fn capacity(&self) -> usize {
        self.letters.borrow().capacity()
    }

    /// Whether no letter of it waits for the clerk.
    pub fn is_settled(&self) -> bool {
        self.state.get() != State::Waiting
    }

    /// The indices of the letters that were dropped, in order.
    pub fn dropped(&self) -> Ref<'_, [u64]> {
        Ref::map(self.dropped.borrow(), Vec::as_slice)
    }

    /// Letters that are in the store.
    pub fn stored(&self) -> u64 {
        self.dealt.get() - self.dropped.borrow().len() as u64
    }

    /// Letters that were neither stored nor dropped yet.
    pub fn left(&self) -> u64 {
        self.count() - self.dealt.get()
    }

    /// Empties it for reuse.
    pub fn reset(&self) {
        self.letters.borrow_mut().clear();
        self.state.set(State::Open);
        self.bytes.set(0);
        self.dealt.set(0);
        self.dropped.borrow_mut().clear();
        self.tried.set(false);
        self.withdrawn.set(false);
        self.when_full.set(None);
    }

    /// Whether the store tried to store it and did not store all of it.
    pub fn is_tried(&self) -> bool {
        self.tried.get()
    }

    pub(super) fn set_when_full(&self, when_full: Option<WhenFull>) {
        self.when_full.set(when_full);
    }

    pub(super) fn when_full(&self) -> Option<WhenFull> {
        self.when_full.get()
    }

    pub(super) fn withdraw(&self) {
        self.withdrawn.set(true);
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.get()
    }

    pub(crate) fn hand_in(&self) {
        debug_assert!(self.state.get() == State::Open, "a parcel is handed in once");
        self.state.set(if self.count() == 0 { State::Settled } else { State::Waiting });
    }

    /// The encoded letters that were neither stored nor dropped yet.
    pub(super) fn rest(&self) -> Ref<'_, [u8]> {
        Ref::map(self.letters.borrow(), |letters| &letters.bytes()[self.bytes.get()..])
    }

    /// Records that the next letter, with this many bytes, was stored or dropped.
    pub(super) fn deal(&self, bytes: usize, dropped: bool) {
        if dropped {
            self.dropped.borrow_mut().push(self.dealt.get());
        }
        self.bytes.set(self.bytes.get() + bytes);
        self.dealt.set(self.dealt.get() + 1);
    }

    /// Records that an attempt has ended.
    pub(crate) fn end_attempt(&self) {
        self.tried.set(true);
        if self.left() == 0 {
            self.state.set(State::Settled);
        }
    }
}
