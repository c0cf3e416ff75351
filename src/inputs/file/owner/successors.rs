//! Files at the path of a file that has the name of a backup now: `mv app.log app.log~; cp app.log~ app.log`.
//!
//! Guarantees: such a file is held open, and noted for the next start, until it was compared with the backup. That happens when the
//! backup is read to its end, and again on each tick while the file may still be being written. The backup is read on for
//! `rotate_wait`, because its writer may have it open. Compares nothing: the reader does.

use super::super::content::FileOf;
use super::super::post::{FileId, Successor, ToHome};
use super::Owner;
use tailwater_shards::env::Env;

impl<E: Env> Owner<E> {
    /// Another file took the path of this one.
    pub fn compare(&self, id: FileId, successor: Box<Successor<FileOf<E>>>) {
        match self.slots.borrow_mut().get_mut(&id) {
            Some(slot) => {
                slot.successors.push_back(successor);
                self.enqueue(id, slot);
            }
            None => self.tell_home(ToHome::Compared(successor)),
        }
    }

    /// The next file to be compared with this one.
    pub fn next_successor(&self, id: FileId) -> Option<Box<Successor<FileOf<E>>>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(&id)?;
        let next = slot.successors.pop_front()?;
        slot.comparing = Some(next.note.clone());
        Some(next)
    }

    /// The file is compared again on the next tick.
    pub fn compare_later(&self, id: FileId, successor: Box<Successor<FileOf<E>>>) {
        match self.slots.borrow_mut().get_mut(&id) {
            Some(slot) => {
                slot.comparing = None;
                slot.successors.push_front(successor);
            }
            None => self.tell_home(ToHome::Compared(successor)),
        }
    }

    /// The file was compared with this one.
    pub fn compared(&self, id: FileId, successor: Box<Successor<FileOf<E>>>) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&id) {
            slot.comparing = None;
        }
        self.tell_home(ToHome::Compared(successor));
    }
}
