//! Files that took the path of a followed file.
//!
//! Guarantees: the owner decides whether such a file has the same content, because it knows how far the old one was read.
//! Until then neither of them is followed twice or forgotten. If the watch reported a change of the path but never that it
//! vanished, the file was put there in one step.

use super::super::content::FileOf;
use super::super::identify::Opened;
use super::super::identity::Inode;
use super::super::post::{FileId, Replacement, ToOwner};
use super::super::watcher::Events;
use super::{Home, Unknown};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Env;

/// Paths that are kept while files wait to be followed.
const TOUCHED_MAX: usize = 64 * 1024;

/// What watches reported since the last scan.
#[derive(Default)]
pub(super) struct Touched {
    told: HashSet<PathBuf>,
    vanished: HashSet<PathBuf>,
}

impl Touched {
    /// Records the events that are about to be handled.
    pub(super) fn note(&mut self, events: &mut Events) {
        for (directory, names) in &events.names {
            self.told.extend(names.iter().map(|name| directory.join(name)));
        }
        self.vanished.extend(events.vanished.drain());
    }

    /// Whether so much is kept that it must not wait any longer.
    pub(super) fn is_full(&self) -> bool {
        self.told.len() + self.vanished.len() > TOUCHED_MAX
    }

    /// The scan is over.
    pub(super) fn clear(&mut self) {
        self.told.clear();
        self.vanished.clear();
    }
}

impl<E: Env> Home<'_, E> {
    /// The followed file that the unknown one may continue; none if the followed file was found under another path.
    pub(super) fn replaces(&self, unknown: &Unknown) -> Option<FileId> {
        unknown.replaces.filter(|id| self.files.get(id).is_some_and(|known| known.paths.is_empty() && !known.away))
    }

    fn in_one_step(&self, path: &Path) -> bool {
        let (told, vanished) = self.watcher.waiting(path);
        (told || self.touched.told.contains(path)) && !vanished && !self.touched.vanished.contains(path)
    }

    /// Asks the owner of the file `id` to decide whether its content continues in the opened file.
    pub(super) fn offer(&mut self, id: FileId, path: PathBuf, opened: Opened<FileOf<E>>) {
        let Some(known) = self.files.get(&id) else { return self.take_in_file(path, opened) };
        let in_one_step = self.in_one_step(&path);
        self.offered.insert(Inode::of(&opened.stat), id);
        let replacement = Replacement { path, opened, in_one_step };
        self.tell(known.shard, ToOwner::Replace(id, Box::new(replacement)));
    }

    /// A file that took the path of `id` cannot be its continuation.
    pub(super) fn is_no_replacement(&mut self, id: Option<FileId>) {
        let Some(id) = id else { return };
        if let Some(known) = self.files.get_mut(&id) {
            known.replacing = known.replacing.saturating_sub(1);
            self.changed.insert(id);
        }
    }

    /// The file continues as another inode.
    pub(super) fn replaced(&mut self, id: FileId, inode: Inode, path: PathBuf) {
        self.is_answered(&inode);
        let Some(known) = self.files.get_mut(&id) else { return };
        known.replacing = known.replacing.saturating_sub(1);
        let old = std::mem::replace(&mut known.inode, inode);
        if self.by_inode.get(&old) == Some(&id) {
            self.by_inode.remove(&old);
        }
        self.by_inode.insert(inode, id);
        known.path.clone_from(&path);
        known.away = false;
        self.is_followed_at(id, inode, path);
    }

    /// The file that took the path is a different file.
    pub(super) fn not_replaced(&mut self, id: FileId, replacement: Replacement<FileOf<E>>) {
        let Replacement { path, opened, .. } = replacement;
        self.is_answered(&Inode::of(&opened.stat));
        if let Some(known) = self.files.get_mut(&id) {
            known.replacing = known.replacing.saturating_sub(1);
            if known.paths.is_empty() && !known.away {
                // Its owner already treats it as away.
                known.away = true;
                self.watcher.add_away(id, known.shard);
            }
        }
        self.take_in_file(path, opened);
    }

    /// The owner has decided about an offered file.
    pub(super) fn is_answered(&mut self, inode: &Inode) {
        self.offered.remove(inode);
        self.crowd.release_offer(inode);
    }

    /// Whether the name that was last found at a path leads to this inode.
    pub(super) fn leads_to(&self, path: &Path, inode: Inode) -> bool {
        let directory = path.parent().and_then(|directory| self.directories.get(directory));
        directory
            .zip(path.file_name())
            .is_some_and(|(directory, name)| directory.names.get(name).is_some_and(|named| named.inode == inode))
    }
}
