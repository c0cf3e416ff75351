//! Files at the path of a followed file that has the name of a backup now.
//!
//! Guarantees: if the backup is followed, its owner finds out how much of the new file is a copy of it, and that much counts as
//! read. Until then the new file is held open, and followed under no other path. How many are held open is bounded (see
//! [`super::crowd`]). Opens nothing.

use super::super::content::FileOf;
use super::super::follow::Span;
use super::super::identify::Opened;
use super::super::identity::{Descriptor, Identity, Inode};
use super::super::notes::Note;
use super::super::post::{FileId, Successor, ToOwner};
use super::{Directory, Home};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Env;

impl<E: Env> Home<'_, E> {
    /// Whether a file was known at this path before, and its inode if it is followed. `told` is the one that the scan found there.
    pub(super) fn before(&self, path: &Path, told: Option<FileId>) -> (bool, Option<Inode>) {
        let latest = told.or_else(|| self.latest.get(path).copied());
        let inode = latest.and_then(|id| self.files.get(&id)).map(|known| known.inode);
        (latest.is_some() || self.memory.knows_path(path), inode)
    }

    /// The followed file that is the backup beside a file that was just opened.
    pub(super) fn followed_backup(&self, opened: &Opened<FileOf<E>>) -> Option<FileId> {
        let inode = Inode::of(&opened.stat);
        let is_known = opened.state.is_some() || self.by_inode.contains_key(&inode);
        self.by_inode.get(&opened.backup.filter(|_| !is_known)?).copied()
    }

    /// Asks the owner of the backup how much of the opened file is a copy of it.
    pub(super) fn compare(&mut self, backup: FileId, path: PathBuf, mut opened: Opened<FileOf<E>>) {
        let Some(known) = self.files.get(&backup) else { return self.take_in_file(path, opened) };
        let shard = known.shard;
        let inode = Inode::of(&opened.stat);
        self.offered.insert(inode, backup);
        (opened.spans, opened.left_out, opened.copy) = (VecDeque::from([Span::WHOLE]), None, false);
        let descriptor = Descriptor::encode(&Identity { inode, head: opened.head }, &path);
        let note = Note { key: self.context.new_key(), seen_length: opened.seen_length, descriptor };
        let successor = Successor { path, opened, note, grown_at: self.context.env.now() };
        self.tell(shard, ToOwner::Compare(backup, Box::new(successor)));
    }

    /// The paths of the files that are being compared.
    pub(super) fn offered_paths(&self) -> Vec<PathBuf> {
        let of = |(path, one): (&PathBuf, &Directory)| {
            let offered = one.names.iter().filter(|(_, named)| self.offered.contains_key(&named.inode));
            offered.map(|(name, _)| path.join(name)).collect::<Vec<_>>()
        };
        if self.offered.is_empty() { Vec::new() } else { self.directories.iter().flat_map(of).collect() }
    }

    /// Whoever was to compare these has forgotten it: they are found again.
    pub(super) fn forget_offered(&mut self, owners: &[FileId]) {
        let before = self.offered_paths();
        let forgotten = self.offered.extract_if(|_, id| owners.contains(id)).map(|one| one.0);
        forgotten.for_each(|inode| self.crowd.release_offer(&inode));
        let after = self.offered_paths();
        before.iter().filter(|path| !after.contains(path)).for_each(|path| self.look_again(path));
    }

    /// It was found out how much of the file is a copy.
    pub(super) fn compared(&mut self, successor: Successor<FileOf<E>>) {
        self.is_answered(&Inode::of(&successor.opened.stat));
        self.take_in_file(successor.path, successor.opened);
    }
}
