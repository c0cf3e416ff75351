//! Files that took the path of a followed file, and wait to be compared with it.
//!
//! Guarantees: whether a file was only renamed or was replaced is decided at once, so that a rotated file's successor does
//! not wait. Files that may have the same content wait in order until the old one is read to its end. Compares nothing: the
//! reader does.

use super::super::content::FileOf;
use super::super::glimpse::Glimpse;
use super::super::identity::Inode;
use super::super::post::{FileId, Replacement, ToHome};
use super::Owner;
use std::path::PathBuf;
use tailwater_shards::env::{Env, File};

impl<E: Env> Owner<E> {
    /// Another file took the path of this one. Whether it has the same content is decided when this one is read to its end,
    /// unless this file was only renamed: then it was rotated, and the file at its path is a different one.
    pub fn replace(&self, id: FileId, mut replacement: Box<Replacement<FileOf<E>>>) {
        {
            let mut slots = self.slots.borrow_mut();
            if let Some(slot) = slots.get_mut(&id) {
                let file = slot.followed.as_ref().and_then(|followed| followed.file.as_deref());
                let file = file.or_else(|| slot.glimpse.as_ref().map(Glimpse::file)).filter(|file| !file.is_remote());
                let stat = file.and_then(|file| file.stat().ok());
                let new = &replacement.opened.stat;
                // The number of an open inode is not reused. The same number means that an overlay file system copied the
                // file.
                replacement.in_one_step |= stat.is_some_and(|old| (old.device, old.inode) == (new.device, new.inode));
                let deleted = stat.is_some_and(|stat| stat.links == 0);
                if !slot.replacements.is_empty() || replacement.in_one_step || deleted {
                    slot.replacements.push_back(replacement);
                    slot.away_since = None;
                    return self.enqueue(id, slot);
                }
            }
        }
        self.refuse(id, replacement);
    }

    /// The file that took the path of this one has different content: this one is away.
    pub fn refuse(&self, id: FileId, replacement: Box<Replacement<FileOf<E>>>) {
        self.gone_away(id);
        self.tell_home(ToHome::NotReplaced(id, replacement));
    }

    /// The next file that may have the same content as this one.
    pub fn next_replacement(&self, id: FileId) -> Option<Box<Replacement<FileOf<E>>>> {
        self.slots.borrow_mut().get_mut(&id)?.replacements.pop_front()
    }

    /// The content of a file continues in the file that took its path.
    pub fn continues_at(&self, id: FileId, inode: Inode, path: PathBuf) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&id) {
            slot.path.clone_from(&path);
            (slot.away_since, slot.moved_since) = (None, None);
            slot.glimpse = None;
            self.away.borrow_mut().remove(&id);
        }
        self.tell_home(ToHome::Replaced(id, inode, path));
    }
}
