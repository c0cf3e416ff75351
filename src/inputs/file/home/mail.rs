//! Messages from the owners of files, and what is known of files that owners no longer follow.
//!
//! Guarantees: a released file is remembered, so a file that comes back under another name is not read twice. The number of those
//! is bounded: the one that was released least recently is forgotten first. The files of a shard that starts anew are found again.

use super::super::content::FileOf;
use super::super::discover::Named;
use super::super::post::{FileId, ToHome, ToOwner};
use super::{Home, Known};
use std::path::Path;
use std::sync::Arc;
use tailwater_shards::env::{Env, ShardId};
use tailwater_shards::limits::TOMBSTONES_MIN;
use tailwater_shards::plugin::PeerMessage;
use tailwater_shards::wal::SourceState;

impl<E: Env> Home<'_, E> {
    pub(super) fn read_mail(&mut self) {
        while let Some((from, message)) = self.context.peers.try_receive() {
            self.open_mail(from, message);
        }
        for message in self.owner.messages_to_home() {
            self.hear(ShardId(0), message);
        }
    }

    pub(super) fn open_mail(&mut self, from: ShardId, message: PeerMessage) {
        if let Ok(message) = message.downcast::<ToHome<FileOf<E>>>() {
            self.hear(from, *message);
        }
    }

    fn hear(&mut self, from: ShardId, message: ToHome<FileOf<E>>) {
        match message {
            ToHome::Hello(states) => {
                self.forget_files_of(from);
                states.iter().for_each(|state| self.remember(state.clone(), false));
                self.loads[from.index()] = Some(0);
                self.post.send(from, ToOwner::<FileOf<E>>::Welcome);
            }
            ToHome::Released(id, state) => {
                self.remember(*state, true);
                if let Some(known) = self.files.remove(&id) {
                    self.drop_known(id, &known);
                    known.paths.iter().for_each(|path| self.look_again(path));
                }
                self.archive_is_closed(id);
            }
            ToHome::Head(head) => Arc::make_mut(&mut self.memory).add_head(head),
            ToHome::Ended(head, end) => Arc::make_mut(&mut self.memory).add_end(head, end),
            ToHome::Replaced(id, inode, path) => self.replaced(id, inode, path),
            ToHome::NotReplaced(id, replacement) => self.not_replaced(id, *replacement),
            ToHome::Compared(successor) => self.compared(*successor),
            ToHome::NotArchive(id) => {
                if let Some(archived) = self.archives.get_mut(&id) {
                    archived.refused = true;
                }
            }
        }
    }

    fn remember(&mut self, state: SourceState, released: bool) {
        let key = state.key();
        let memory = Arc::make_mut(&mut self.memory);
        memory.insert(state);
        if released {
            self.released.see(key);
            if let Some(oldest) = self.released.evict_beyond(self.files_max.max(TOMBSTONES_MIN)) {
                memory.remove(oldest);
            }
        }
    }

    /// The instance on a shard is new: its files must be found and assigned again.
    fn forget_files_of(&mut self, shard: ShardId) {
        let of_shard: Vec<FileId> = self.files.iter().filter(|one| one.1.shard == shard).map(|one| *one.0).collect();
        self.forget_offered(&of_shard);
        for id in of_shard {
            if let Some(known) = self.files.remove(&id) {
                self.drop_known(id, &known);
                for path in &known.paths {
                    self.look_again(path);
                }
            }
        }
    }

    fn drop_known(&mut self, id: FileId, known: &Known) {
        self.watcher.release(id);
        known.claim.into_iter().for_each(|claim| self.crowd.release(claim));
        if self.by_key.get(&known.key) == Some(&id) {
            self.by_key.remove(&known.key);
        }
        // An archive that is read in place of a file is known by its path only.
        if self.by_inode.get(&known.inode) == Some(&id) {
            self.by_inode.remove(&known.inode);
        }
        if let Some(load) = &mut self.loads[known.shard.index()] {
            *load = load.saturating_sub(1);
        }
    }

    pub(super) fn look_again(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Some(directory) = self.directories.get_mut(parent) else { return };
        directory.retry_later(parent, name, &mut self.crowd.again);
        let Some(Named { inode, claim }) = Arc::make_mut(&mut directory.names).remove(name) else { return };
        match self.by_inode.get(&inode).and_then(|id| self.files.get_mut(id).map(|known| (*id, known))) {
            // Another name led to it when this one was queued.
            Some((id, known)) => {
                known.paths.remove(path);
                self.keep_room(id, claim);
                self.changed.insert(id);
            }
            None => self.crowd.lost_name(inode, claim),
        }
    }
}
