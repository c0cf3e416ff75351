//! Files on whose calls a reader waits, and the files that are not read meanwhile: one is read at a time in each tree that is slow.
//!
//! Guarantees: a file in a tree where a read takes long waits until that read is over, in order, and keeps its place. Files in other
//! trees do not wait, unless they are slow too and [`BUSY_MAX`] trees are busy. What hangs makes nobody wait.

use super::super::by_tree::BUSY_MAX;
use super::super::post::FileId;
use super::Owner;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Env;

/// See the module.
#[derive(Default)]
pub(super) struct Sides {
    /// What is being read, with its tree.
    busy: RefCell<Vec<(FileId, PathBuf)>>,
    /// What waits.
    waiting: RefCell<Vec<FileId>>,
}

impl Sides {
    pub(super) fn clear(&self) {
        self.waiting.borrow_mut().clear();
    }
}

impl<E: Env> Owner<E> {
    /// Whether a file that has its turn waits because of another one. It gets its next turn when that was read.
    pub(super) fn waits_for_others(&self, id: FileId, path: &Path) -> bool {
        let busy = self.sides.busy.borrow();
        if busy.is_empty() {
            return false;
        }
        let is_below = busy.iter().any(|(_, tree)| path.starts_with(tree));
        let waits = is_below || busy.len() >= BUSY_MAX && self.patience.was_slow(path);
        if waits {
            self.sides.waiting.borrow_mut().push(id);
        }
        waits
    }

    /// A call on a file takes long: a reader waits for it beside the others.
    pub fn is_slow(&self, id: FileId, path: &Path) {
        let tree = path.parent().and_then(|directory| self.patience.tree_of(directory));
        self.sides.busy.borrow_mut().push((id, tree.unwrap_or_else(|| path.to_path_buf())));
        if self.unpacking.get() == Some(id) {
            self.unpacking.set(None);
        }
    }

    /// The reader of such a file is done with it, or waits for what hangs. The others get their turns.
    pub fn is_no_longer_slow(&self, id: FileId) {
        self.sides.busy.borrow_mut().retain(|busy| busy.0 != id);
        let slots = self.slots.borrow();
        for id in self.sides.waiting.take() {
            if let Some(slot) = slots.get(&id) {
                self.turns.push(slot.owner, id, slot.searches);
            }
        }
        self.ready.notify();
    }
}
